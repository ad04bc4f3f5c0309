"""From tokens to one vector a sample: readout of real features, then a weighted mean over tokens, the loudest or all.

The readout comes first, so that magnitudes are averaged as magnitudes: averaging complex tokens of unrelated
phases cancels them (spoken digits by a linear probe: 79.0 % from |mean z|, 88.0 % from mean |z|). Every pooling
treats both planes of a token alike, by one weight or one choice: separate ones would destroy the phase.

Legend: B batch, N tokens, D complex channels, H heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cvkan.core.aggregation import MagnitudeScore, softmax_over_tokens, weighted_sum
from cvkan.core.heads import check_heads
from cvkan.core.linear import RealLinear, masked
from cvkan.core.polar import Planes, polar_coordinates, squared_magnitude


class Readout(nn.Module):
    """Real features of complex tokens: [|z|, re, im] (``all``), [re, im] (``cart``) or [|z|] (``mag``).

    ``mag`` is the original's choice; it cannot tell z from -z.

    Args:
        parts: ``all``, ``cart`` or ``mag``.

    Raises:
        ValueError: another word.
    """

    def __init__(self, parts: str = "all") -> None:
        super().__init__()
        if parts not in ("all", "cart", "mag"):
            raise ValueError(f"readout must be 'all', 'cart' or 'mag', got {parts!r}")
        self.with_magnitude, self.with_planes = parts != "cart", parts != "mag"

    def n_features(self, d_complex: int) -> int:
        """Real features a token with ``d_complex`` channels gives."""
        return d_complex * (self.with_magnitude + 2 * self.with_planes)

    def forward(self, z: Planes) -> list[Tensor]:
        """The chosen feature planes of z (..., D), each (..., D) real."""
        features = [torch.sqrt(squared_magnitude(z))] if self.with_magnitude else []
        return features + list(z) if self.with_planes else features


class Pooling(nn.Module):
    """Base of all poolings, and of those that are a weighted mean over the valid tokens: these give ``weights``.

    Args:
        d_complex: complex channels D.
        n_heads: heads H, a divisor of D.
    """

    pools = True

    def __init__(self, d_complex: int, n_heads: int) -> None:
        super().__init__()
        check_heads(d_complex, n_heads)
        self.n_heads = n_heads

    def weights(self, z: Planes, mask: Tensor | None = None) -> Tensor:
        """Weights (B, N, H) of the tokens (B, N, D), 1 in sum over the valid tokens."""
        raise NotImplementedError

    def n_features(self, n_features: int, grid: tuple[int, ...]) -> int:
        """Numbers that come out for tokens of ``n_features`` each, laid out as ``grid``."""
        return n_features

    def forward(self, z: Planes, features: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Pool feature planes.

        Args:
            z: planes (B, N, D) that decide the weights.
            features: real planes, each (B, N, D).
            mask: (B, N), 1 = valid.

        Returns:
            Tensor (B, F), F = D times the number of feature planes.
        """
        weights = self.weights(masked(z, mask), mask)
        return torch.cat([weighted_sum(weights, x).squeeze(1) for x in masked_features(features, mask)], dim=-1)


class MeanPooling(Pooling):
    """The same weight for every valid token."""

    def weights(self, z: Planes, mask: Tensor | None = None) -> Tensor:
        dtype = torch.promote_types(z[0].dtype, torch.float32)
        ones = (
            torch.ones_like(z[0][..., :1], dtype=dtype) if mask is None else mask.unsqueeze(-1).to(dtype)
        )  # (B, N, 1)
        weights = ones / ones.sum(dim=1, keepdim=True).clamp(min=1)
        return weights.expand(-1, -1, self.n_heads)


class MagnitudePooling(Pooling):
    """Louder tokens weigh more: softmax over tokens of the mean over a head of psi(t) + phi(u).

    Args:
        sharpness: slope of psi at the start.
    """

    def __init__(self, d_complex: int, n_heads: int, sharpness: float = 2.0) -> None:
        super().__init__(d_complex, n_heads)
        self.score = MagnitudeScore(d_complex, n_heads, sharpness)

    def weights(self, z: Planes, mask: Tensor | None = None) -> Tensor:
        return softmax_over_tokens(self.score(z), mask)


class AttentionPooling(Pooling):
    """Softmax over tokens of one small network's score of [t, cos, sin], one score a token and head.

    Args:
        d_hidden: width of the scoring network.
    """

    def __init__(self, d_complex: int, n_heads: int, d_hidden: int = 32) -> None:
        super().__init__(d_complex, n_heads)
        self.score = nn.Sequential(RealLinear(3 * d_complex, d_hidden), nn.Tanh(), RealLinear(d_hidden, n_heads))

    def weights(self, z: Planes, mask: Tensor | None = None) -> Tensor:
        t, u = polar_coordinates(z)
        polar = torch.cat([t, *u], dim=-1)  # (B, N, 3D)
        return softmax_over_tokens(self.score(polar).to(t.dtype), mask)


class MaxPooling(Pooling):
    """A channel's features are those of the token where its |z| is greatest, the same token for all its planes.

    Taking the greatest of each plane by itself would join numbers of different tokens to phases that none has.
    Heads play no part: every channel chooses for itself. The gradient reaches the chosen tokens only; 0 where no
    token is valid. Source: own choice, max pooling by magnitude.
    """

    def forward(self, z: Planes, features: list[Tensor], mask: Tensor | None = None) -> Tensor:
        r2 = squared_magnitude(masked(z, mask))
        if mask is not None:
            r2 = r2.masked_fill(~mask.bool().unsqueeze(-1), -1.0)  # below the floor of a silent valid token
        loudest = r2.argmax(dim=1, keepdim=True)  # (B, 1, D)
        return torch.cat([x.gather(1, loudest).squeeze(1) for x in masked_features(features, mask)], dim=-1)


class FlattenPooling(Pooling):
    """All tokens one after another: what follows knows where a token stood. Heads play no part.

    Source: Nie et al., "A time series is worth 64 words", 2023, the flatten head.
    """

    def n_features(self, n_features: int, grid: tuple[int, ...]) -> int:
        """N times those of a token, for samples of as many tokens as the layout has."""
        return math.prod(grid) * n_features

    def forward(self, z: Planes, features: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Feature planes, each (B, N, D), as (B, N F); those of padded tokens are 0."""
        return torch.cat(masked_features(features, mask), dim=-1).flatten(1)  # (B, N F)


class NoPooling(Pooling):
    """Keeps the tokens: for one output a token."""

    pools = False

    def forward(self, z: Planes, features: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Feature planes, each (B, N, D), side by side: (B, N, F)."""
        return torch.cat(features, dim=-1)


def masked_features(features: list[Tensor], mask: Tensor | None) -> list[Tensor]:
    """Feature planes, each (B, N, D), with 0 at padded tokens; mask (B, N), 1 = valid."""
    if mask is None:
        return features
    padded = ~mask.bool().unsqueeze(-1)  # (B, N, 1)
    return [x.masked_fill(padded, 0.0) for x in features]
