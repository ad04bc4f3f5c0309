"""A stack of polarizing blocks.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from cvkan.core.aggregation import Aggregation, Grid, SumAggregation
from cvkan.core.centering import Centering
from cvkan.core.linear import masked
from cvkan.core.norm import Norm, stream_norm
from cvkan.core.polar import Planes, at_least_float32, complex_in_complex_out, squared_magnitude


@dataclass(frozen=True)
class LayerTrace:
    """What one layer did to its tokens.

    Attributes:
        z: planes (B, N, D) of the stream after the layer.
        gain: token gains (B, N, D) in (0, 2), 1 = magnitude kept: g_V of the layer, and where a layer has no such gain
            2 r' / (r + r') of the magnitudes r before and r' after it.
    """

    z: Planes
    gain: Tensor


class Block(nn.Module):
    """Base of all blocks: a layer's update of its tokens, then what acts on the stream at the end of the layer.

    Built as ``Block(d_complex, n_layers, n_heads, grid)``; a subclass implements :meth:`update`.

    Args:
        d_complex: complex channels D.
        n_heads: heads H.
        grid: layout of the tokens, see :class:`Aggregation`.
        aggregations: named constructors of the aggregations that are summed to the context.
        norm: constructor of the normalisation; one for the stream stands at the end of the layer.
        centering: constructor of the centring of log-magnitudes, ``centering(causal)``.

    Raises:
        ValueError: a causal aggregation with a norm that is not.
    """

    def __init__(
        self,
        d_complex: int,
        n_heads: int,
        grid: Grid,
        aggregations: Mapping[str, Callable[..., Aggregation]],
        norm: Callable[..., Norm],
        centering: Callable[..., Centering],
    ) -> None:
        super().__init__()
        self.aggregation = SumAggregation(d_complex, n_heads, grid, list(aggregations.values()))
        self.stream_norm = stream_norm(norm, d_complex)
        if self.causal and not norm(d_complex).causal:
            raise ValueError(
                "this norm averages over tokens, so that later ones reach earlier ones through it, "
                "but the aggregation is causal; choose norm=pre_rms or another aggregation"
            )
        self.centering = centering(causal=self.causal)

    @property
    def causal(self) -> bool:
        """No token hears of a later one."""
        return self.aggregation.causal

    @complex_in_complex_out
    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) to planes (B, N, D); mask (B, N), 1 = valid. Complex in, complex out."""
        return self.polarize(z, mask)[0]

    def polarize(self, z: Planes, mask: Tensor | None = None) -> tuple[Planes, Tensor | None]:
        """As :meth:`forward`, with the gain of each token and channel, see :meth:`update`.

        Raises:
            ValueError: planes of another shape than (B, N, D).
        """
        if z[0].dim() != 3 or z[0].shape[-1] != self.aggregation.d_complex:
            wanted = f"(batch, tokens, d_complex={self.aggregation.d_complex})"
            raise ValueError(f"a block takes tokens {wanted}, got planes of shape {tuple(z[0].shape)}")
        z, gain = self.update(at_least_float32(z), mask)  # an embedding may give half planes, the stream is none
        return self.centering(self.stream_norm(z, mask), mask), gain

    def update(self, z: Planes, mask: Tensor | None = None) -> tuple[Planes, Tensor | None]:
        """The layer itself: planes (B, N, D) to planes (B, N, D), without what acts on the stream afterwards.

        Returns:
            The new stream, and the gain (B, N, D) in (0, 2) that each token gave itself: the polarization map of
            this layer. None where the layer has no such gain.
        """
        raise NotImplementedError


class PolarBackbone(nn.Module):
    """z -> block_L(... block_1(z)).

    Args:
        d_complex: complex channels D.
        n_layers: blocks.
        n_heads: heads of each block.
        grid: layout of the tokens, (N,) or (rows, columns).
        block: constructor of one block, called with the four sizes above.

    Raises:
        ValueError: ``n_layers`` is not positive.
    """

    def __init__(self, d_complex: int, n_layers: int, n_heads: int, grid: Grid, block: Callable[..., Block]) -> None:
        super().__init__()
        if n_layers < 1:
            raise ValueError(f"n_layers must be at least 1, got {n_layers}")
        self.blocks = nn.ModuleList(
            block(d_complex=d_complex, n_layers=n_layers, n_heads=n_heads, grid=grid) for _ in range(n_layers)
        )

    @complex_in_complex_out
    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) to planes (B, N, D); mask (B, N), 1 = valid. Complex in, complex out."""
        z = masked(z, mask)
        for block in self.blocks:
            z = block(z, mask)
        return z

    def trace(self, z: Planes, mask: Tensor | None = None) -> list[LayerTrace]:
        """As :meth:`forward`, keeping every layer's stream and gains, for analysis and plots."""
        z = masked(z, mask)
        layers = []
        for block in cast(Iterable[Block], self.blocks):
            before = z
            z, gain = block.polarize(z, mask)
            layers.append(LayerTrace(z, growth(before, z) if gain is None else gain))
        return layers

    @property
    def causal(self) -> bool:
        """No token hears of a later one."""
        return all(block.causal for block in cast(Iterable[Block], self.blocks))


def growth(before: Planes, after: Planes) -> Tensor:
    """2 r' / (r + r') in (0, 2) of the magnitudes r before and r' after a layer, planes (B, N, D) each."""
    r, r_after = torch.sqrt(squared_magnitude(before)), torch.sqrt(squared_magnitude(after))
    return 2 * r_after / (r + r_after)
