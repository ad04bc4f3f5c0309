"""A stack of polarizing blocks.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from cvkan.core.aggregation import Grid
from cvkan.core.linear import masked
from cvkan.core.polar import Planes, complex_in_complex_out


@dataclass(frozen=True)
class LayerTrace:
    """What one layer did to its tokens.

    Attributes:
        z: planes (B, N, D) of the stream after the layer.
        gain: token gains g_V (B, N, D) in (0, 2).
    """

    z: Planes
    gain: Tensor


class Block(nn.Module):
    """Base of all blocks, built as ``Block(d_complex, n_layers, n_heads, grid)``."""

    @complex_in_complex_out
    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) to planes (B, N, D); mask (B, N), 1 = valid. Complex in, complex out."""
        return self.polarize(z, mask)[0]

    def polarize(self, z: Planes, mask: Tensor | None = None) -> tuple[Planes, Tensor]:
        """As :meth:`forward`, with the gain (B, N, D) in (0, 2) of each token: the polarization map of this layer."""
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
            z, gain = block.polarize(z, mask)
            layers.append(LayerTrace(z, gain))
        return layers
