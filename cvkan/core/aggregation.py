"""How tokens hear of each other: the base of all aggregations, those with one context for all tokens, and sums.

Every aggregation takes the values V (B, N, D) and gives the context A, (B, 1, D) if it is the same for all
tokens or (B, N, D) if each token has its own. All are built alike, ``Aggregation(d_complex, n_heads, grid)``, and
all honour a mask. A head is a group of D / H neighbouring channels. Those of this file cost a few passes over V;
neighbours, causal means and groups are in ``local.py``, attention between tokens in ``phase_attention.py``.

Legend: B batch, N tokens, D complex channels, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn

from cvkan.core.heads import check_heads
from cvkan.core.linear import masked
from cvkan.core.norm import mean_over_tokens
from cvkan.core.polar import EPS, Planes, at_least_float32, no_autocast, squared_magnitude, unit_phase
from cvkan.core.univariate import UNIT, Harmonic, PolynomialPsi

Grid = tuple[int, ...]


class Aggregation(nn.Module):
    """Base of all aggregations.

    Args:
        d_complex: complex channels D.
        n_heads: heads H, a divisor of D.
        grid: layout of the tokens: (N,) for a sequence, (rows, columns) for an image.

    Raises:
        ValueError: ``n_heads`` does not divide ``d_complex``.

    Attributes:
        causal: the context of a token does not depend on later tokens.
    """

    causal = False

    def __init__(self, d_complex: int, n_heads: int, grid: Grid) -> None:
        super().__init__()
        check_heads(d_complex, n_heads)
        self.d_complex, self.n_heads, self.grid = d_complex, n_heads, grid

    def forward(self, v: Planes, mask: Tensor | None = None) -> Planes:
        """Context planes (B, 1, D) or (B, N, D) of the values (B, N, D); mask (B, N), 1 = valid."""
        raise NotImplementedError


class MeanAggregation(Aggregation):
    """A = mean of V over the valid tokens, (B, 1, D), in float32 at least. Source: own choice, the baseline."""

    def forward(self, v: Planes, mask: Tensor | None = None) -> Planes:
        re, im = at_least_float32(masked(v, mask))
        return mean_over_tokens(re, mask), mean_over_tokens(im, mask)


class MagnitudeWeightedAggregation(Aggregation):
    """A = sum_t w_t V_t with w_t = m_t / sum_s m_s and m_t = mean_d |V_td| over all channels, (B, 1, D).

    No parameters, and one weight a token for all heads; weights and sum in float32 at least. Against the softmax
    of :class:`MagnitudeAggregation` it is flat: a token twice as loud weighs twice as much, whatever its scale.
    Source: the magnitude weighting of the original CV-KAN.
    """

    def forward(self, v: Planes, mask: Tensor | None = None) -> Planes:
        re, im = at_least_float32(masked(v, mask))
        loudness = torch.sqrt(squared_magnitude((re, im))).mean(dim=-1, keepdim=True)  # (B, N, 1)
        if mask is not None:
            loudness = loudness.masked_fill(~mask.bool().unsqueeze(-1), 0.0)  # the floor of a padded token is no weight
        # Every valid token counts EPS at least; the clamp acts where no token is valid.
        weights = loudness / loudness.sum(dim=1, keepdim=True).clamp(min=0.5 * EPS)
        return (weights * re).sum(dim=1, keepdim=True), (weights * im).sum(dim=1, keepdim=True)


class MagnitudeAggregation(Aggregation):
    """A = sum_t w_t V_t with w = softmax over tokens of mean_head(psi(t) + phi(u)), (B, 1, D).

    Which magnitudes and phases speak is learned; at the start psi = sharpness t, so louder tokens weigh more.

    Args:
        sharpness: slope of psi at the start.
    """

    def __init__(self, d_complex: int, n_heads: int, grid: Grid, sharpness: float = 2.0) -> None:
        super().__init__(d_complex, n_heads, grid)
        self.score = MagnitudeScore(d_complex, n_heads, sharpness)

    def forward(self, v: Planes, mask: Tensor | None = None) -> Planes:
        v = masked(v, mask)  # before the score: its derivatives would turn 0 x NaN of a padded token to NaN
        weights = softmax_over_tokens(self.score(v), mask)
        return weighted_sum(weights, v[0]), weighted_sum(weights, v[1])


class MagnitudeScore(nn.Module):
    """One score a token and head: the mean over the head's channels of psi(t) + phi(u)."""

    def __init__(self, d_complex: int, n_heads: int, sharpness: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.psi = PolynomialPsi(d_complex, degree=3)
        self.phi = Harmonic(d_complex, n_harmonics=1)
        with torch.no_grad():
            self.psi.coefficients[0] = sharpness / UNIT

    def forward(self, z: Planes) -> Tensor:
        """Scores (B, N, H) of the planes (B, N, D)."""
        t, u = self.psi.coordinates(z)
        value = self.psi(t) + self.phi(u)  # (B, N, D)
        return value.unflatten(-1, (self.n_heads, -1)).mean(dim=-1)


class AgreementAggregation(Aggregation):
    """Attention by interference: A starts as the mean, then repeats w = softmax(tau a), A = sum_t w_t V_t.

    a_t is the agreement of token t with A, the mean over a head's channels of the cosine of the relative
    phase, Re(u_t conj u_A). No query, no key: tokens that are in phase with the crowd amplify it. tau, one a
    head, is learned. Source: own choice, ``docs/core.md``; each pass is one step of a mean-shift on the torus.

    Args:
        n_passes: how often the weights are recomputed.
        tau: start of the inverse temperature.
    """

    def __init__(self, d_complex: int, n_heads: int, grid: Grid, n_passes: int = 3, tau: float = 6.0) -> None:
        super().__init__(d_complex, n_heads, grid)
        if n_passes < 1:
            raise ValueError(f"n_passes must be at least 1, got {n_passes}")
        self.n_passes = n_passes
        self.tau = nn.Parameter(torch.full((n_heads,), tau))
        self.mean = MeanAggregation(d_complex, n_heads, grid)

    def forward(self, v: Planes, mask: Tensor | None = None) -> Planes:
        context = self.mean(v, mask)  # (B, 1, D)
        v = masked(v, mask)
        u = unit_phase(v, squared_magnitude(v))
        for _ in range(self.n_passes):
            u_context = unit_phase(context, squared_magnitude(context))
            weights = softmax_over_tokens(self.tau * agreement(u, u_context, self.n_heads), mask)
            context = weighted_sum(weights, v[0]), weighted_sum(weights, v[1])
        return context


class SumAggregation(Aggregation):
    """A = sum of several aggregations of the same values; (B, N, D) if one of them is.

    Args:
        parts: constructors of the aggregations, each called with ``(d_complex, n_heads, grid)``.
    """

    def __init__(self, d_complex: int, n_heads: int, grid: Grid, parts: Iterable[Callable[..., Aggregation]]) -> None:
        super().__init__(d_complex, n_heads, grid)
        self.parts = nn.ModuleList(part(d_complex=d_complex, n_heads=n_heads, grid=grid) for part in parts)
        if not self.parts:
            raise ValueError("a sum of aggregations needs at least one part")
        causal = {part.causal for part in cast(Iterable[Aggregation], self.parts)}
        if len(causal) == 2:
            names = " and ".join(type(part).__name__ for part in self.parts)
            raise ValueError(f"{names}: some are causal and some are not, so their sum would not be; choose one kind")
        self.causal = causal.pop()

    def forward(self, v: Planes, mask: Tensor | None = None) -> Planes:
        contexts = [part(v, mask) for part in self.parts]
        re, im = contexts[0]
        for part_re, part_im in contexts[1:]:
            re, im = re + part_re, im + part_im
        return re, im


def agreement(u: Planes, u_context: Planes, n_heads: int) -> Tensor:
    """Mean cosine of the phase between each token and a context, over the channels of a head.

    Args:
        u: unit phases (B, N, D) of the tokens.
        u_context: unit phases (B, 1, D) or (B, N, D) of the context.
        n_heads: heads H.

    Returns:
        Tensor (B, N, H) in [-1, 1].
    """
    if u_context[0].shape[1] == 1:
        # One context for all tokens: a matrix product with (B, D, H) in the place of two elementwise passes. A gate
        # multiplies it by 6 and more, and half precision is off by 0.004 already.
        with no_autocast(u[0]):
            return u[0] @ head_columns(u_context[0], n_heads) + u[1] @ head_columns(u_context[1], n_heads)
    cosine = u[0] * u_context[0] + u[1] * u_context[1]  # (B, N, D)
    return cosine.unflatten(-1, (n_heads, -1)).mean(dim=-1)


def head_columns(x: Tensor, n_heads: int) -> Tensor:
    """Spread x (B, 1, D) to (B, D, H): column h holds the channels of head h over D / H, zeros elsewhere."""
    d_head = x.shape[-1] // n_heads
    selector = torch.eye(n_heads, dtype=x.dtype, device=x.device).repeat_interleave(d_head, dim=0)  # (D, H)
    return x.transpose(1, 2) * (selector / d_head)


def softmax_over_tokens(score: Tensor, mask: Tensor | None) -> Tensor:
    """Weights (..., N, H) that sum to 1 over the valid tokens; scores (..., N, H), mask (..., N)."""
    if mask is not None:
        score = score.masked_fill(~mask.bool().unsqueeze(-1), torch.finfo(score.dtype).min)
    return score.softmax(dim=-2)


def weighted_sum(weights: Tensor, x: Tensor) -> Tensor:
    """sum_t w_{t,h} x_{t,d} for the channels d of each head h.

    Args:
        weights: (B, N, H).
        x: (B, N, D).

    Returns:
        Tensor (B, 1, D), float32 at least, as any sum over tokens.
    """
    n_heads = weights.shape[-1]
    dtype = torch.promote_types(x.dtype, torch.float32)
    with no_autocast(x):
        total = weights.transpose(1, 2).to(dtype) @ x.to(dtype)  # (B, H, D): every head's weights with every channel
    if n_heads == 1:
        return total
    own = total.unflatten(-1, (n_heads, -1)).diagonal(dim1=1, dim2=2)  # (B, D/H, H): keep the head's own
    return own.transpose(1, 2).flatten(1).unsqueeze(1)
