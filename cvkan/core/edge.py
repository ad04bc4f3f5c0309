"""The edge-KAN layer: one learned complex function of one complex number on every edge, summed at the outputs.

Legend: d_in and d_out complex channels, indices i and j; K knots, F features a channel; M samples; (...) any leading
dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from cvkan.core.linear import real_linear
from cvkan.core.polar import (
    Planes,
    as_planes,
    complex_in_complex_out,
    log_magnitude,
    squared_magnitude,
    unit_phase,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Nonlinear part of the start, as a share of the linear part's magnitude for inputs of unit size.
START = 0.1
# Points in s of the reference distribution: the quadrature error of the scores is below 1e-5 of their size.
N_REFERENCE = 1024
# Numbers of one block of features while the Gram matrix is summed: 64 MB in complex128.
BLOCK = 2**22


class Edge(NamedTuple):
    """One edge and how much it matters.

    Attributes:
        i: input channel.
        j: output channel.
        score: RMS of phi_ij.
        share: score^2 over the sum of score^2 of all edges into j; powers add where the inputs are uncorrelated.
    """

    i: int
    j: int
    score: float
    share: float


class PolarKANLinear(nn.Module):
    """y_j = b_j + sum_i phi_ij(z_i), a complex function of magnitude and phase on every edge.

    ::

        phi_ij(z) = W_ij z + u sum_k C_ijk exp(-((s - g_k)/h)^2) + sum_m E_ijm u^m,    m in {-1, 2, .., n_harmonics}

    with s = log r, u = z/r and all coefficients complex. The first sum is any smooth function of the magnitude that
    keeps or turns the phase; the second one breaks the symmetry: without it (``n_harmonics=0``) and without bias the
    layer commutes with a rotation of all inputs. ``n_harmonics=1`` leaves conj(u) alone. The order m = 1 is in the
    first sum, m = 0 is the bias. Far above the last knot a function is linear, W z plus the bounded phase terms.

    The features are computed in float32 at least, also under autocast, and joined to one real product of
    (..., 2 F d_in) with (2 F d_in, 2 d_out), F = 1 + K + number of phase terms: F times the parameters and the
    product of :class:`~cvkan.core.linear.ComplexLinear`. Tokens do not meet here, so there is no mask: set padded
    tokens to 0 before (``masked``), for 0 x NaN would reach the gradients of the coefficients.

    Start: W as in ``ComplexLinear``, C and E ~ N(0, (0.1 gain)^2 / (2 d_in (F - 1))). No feature but z exceeds 1, so
    the functions differ from the first step while at most 1 % of the power is nonlinear for inputs of unit size.

    ``edge_mask`` (d_out, d_in) is False where :meth:`prune` has switched an edge off: such an edge gives exactly 0
    and gets no gradient. It is saved with the weights, which keep their values: setting it to True revives an edge.
    Averages of weights over training (EMA) do not follow a mask that changes: prune before or after such a run.

    Source: Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024, eq. 2.10 (edges) with Gaussian bases for the splines;
    polar coordinates in the place of re and im, as in ``docs/core.md``, are own choice: functions of (log r, theta)
    are one-dimensional where the symmetry is, and magnitudes carry importance here.

    Args:
        d_in: complex input channels.
        d_out: complex output channels.
        n_knots: number of knots K, at least 2, equally spaced; h is their spacing.
        low: first knot, in units of log r.
        high: last knot, in units of log r.
        n_harmonics: highest power of u; 0 for no phase terms, 1 for conj(u) alone.
        bias: add a complex bias, 0 at the start.
        gain: factor on the whole start; the mean squared magnitude is kept times gain^2.

    Raises:
        ValueError: an impossible size.
    """

    edge_mask: Tensor

    def __init__(
        self,
        d_in: int,
        d_out: int,
        n_knots: int = 6,
        low: float = -3.0,
        high: float = 2.0,
        n_harmonics: int = 2,
        bias: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        if d_in < 1 or d_out < 1:
            raise ValueError(f"d_in and d_out must be at least 1, got {d_in} and {d_out}")
        if n_knots < 2 or not low < high:
            raise ValueError(f"need at least 2 knots and low < high, got {n_knots} knots on [{low}, {high}]")
        if n_harmonics < 0:
            raise ValueError(f"n_harmonics must be at least 0 (no phase terms), got {n_harmonics}")
        self.d_in, self.d_out, self.gain = d_in, d_out, gain
        self.n_knots, self.low, self.high, self.n_harmonics = n_knots, low, high, n_harmonics
        self.orders = [-1, *range(2, n_harmonics + 1)] if n_harmonics else []
        self.n_features = 1 + n_knots + len(self.orders)
        self.weight_re = nn.Parameter(torch.empty(d_out, d_in))
        self.weight_im = nn.Parameter(torch.empty(d_out, d_in))
        # C, then E, in one tensor; no "weight" in the name, so that weight decay leaves them alone.
        self.coefficients_re = nn.Parameter(torch.empty(d_out, self.n_features - 1, d_in))
        self.coefficients_im = nn.Parameter(torch.empty(d_out, self.n_features - 1, d_in))
        self.bias = nn.Parameter(torch.empty(2 * d_out)) if bias else None
        self.register_buffer("edge_mask", torch.ones(d_out, d_in, dtype=torch.bool))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the start anew; pruned edges stay pruned."""
        std = self.gain / math.sqrt(2 * self.d_in)
        for weight in (self.weight_re, self.weight_im):
            nn.init.normal_(weight, std=std)
        for coefficients in (self.coefficients_re, self.coefficients_im):
            nn.init.normal_(coefficients, std=START * std / math.sqrt(self.n_features - 1))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @complex_in_complex_out
    def forward(self, z: Planes) -> Planes:
        """Map planes, each (..., d_in), to planes, each (..., d_out); a complex tensor gives a complex tensor."""
        self._check_channels(z)
        p, q = (c.flatten(1) for c in self.effective_coefficients())  # (d_out, F d_in)
        weight = torch.cat([torch.cat([p, -q], dim=1), torch.cat([q, p], dim=1)])  # (2 d_out, 2 F d_in)
        features = self.features(z).flatten(-2).to(z[0].dtype)  # (..., 2 F d_in)
        re, im = real_linear(features, weight, self.bias).split(self.d_out, dim=-1)
        return re, im

    def features(self, z: Planes) -> Tensor:
        """What the edges combine: z, u RBF_1(s), .., u RBF_K(s), u^-1, u^2, .., all real parts, then all imaginary.

        Args:
            z: planes, each (..., D); D need not be d_in, for all channels have the same features.

        Returns:
            Tensor (..., 2 F, D), float32 at least.
        """
        r2 = squared_magnitude(z)  # float32 at least, and with it all that follows
        s, (cos, sin) = log_magnitude(r2), unit_phase(z, r2)
        # In units of h the knots are whole numbers, exact in every dtype: no buffer that ``double()`` would convert.
        knots = torch.arange(self.n_knots, dtype=s.dtype, device=s.device)[:, None]
        distance = ((s - self.low) * self.inverse_width).unsqueeze(-2) - knots  # (..., K, D)
        bases = torch.exp(-(distance * distance))
        powers = [(cos, -sin)] if self.orders else []
        re, im = cos, sin
        for _ in self.orders[1:]:
            re, im = re * cos - im * sin, re * sin + im * cos
            powers.append((re, im))
        parts = [
            [linear.unsqueeze(-2), phase.unsqueeze(-2) * bases, *(power[part].unsqueeze(-2) for power in powers)]
            for part, (linear, phase) in enumerate(zip(z, (cos, sin), strict=True))
        ]
        return torch.cat(parts[0] + parts[1], dim=-2)  # (..., 2 F, D)

    def effective_coefficients(self) -> Planes:
        """Planes (d_out, F, d_in) of W, C and E in the order of the features, 0 on pruned edges."""
        pruned = ~self.edge_mask.unsqueeze(1)  # (d_out, 1, d_in)
        re = torch.cat([self.weight_re.unsqueeze(1), self.coefficients_re], dim=1)
        im = torch.cat([self.weight_im.unsqueeze(1), self.coefficients_im], dim=1)
        return re.masked_fill(pruned, 0.0), im.masked_fill(pruned, 0.0)

    @property
    def inverse_width(self) -> float:
        """1/h."""
        return (self.n_knots - 1) / (self.high - self.low)

    @property
    def n_edges(self) -> int:
        """Edges that are not pruned."""
        return int(self.edge_mask.sum())

    def edge_function(self, i: int, j: int, s: Tensor, theta: Tensor) -> Tensor:
        """phi_ij(exp(s + i theta)), for plots and for reading a trained layer.

        Args:
            i: input channel.
            j: output channel.
            s: log-magnitudes, real (...).
            theta: phases in radians, real, broadcast with ``s``.

        Returns:
            Complex tensor (...).

        Raises:
            ValueError: there is no such edge.
        """
        self._check_edge(i, j)
        s, theta = torch.broadcast_tensors(s.to(self.weight_re), theta.to(self.weight_re))
        r = torch.exp(s)
        re, im = self.features(((r * theta.cos())[..., None], (r * theta.sin())[..., None])).chunk(2, dim=-2)
        values = torch.complex(re, im).squeeze(-1)  # (..., F)
        coefficients = torch.complex(*(c[j, :, i] for c in self.effective_coefficients()))
        return (values * coefficients).sum(dim=-1)

    def edge_coefficients(self, i: int, j: int) -> dict[str, complex]:
        """Coefficients of phi_ij by name: ``W``, ``C_1`` .. ``C_K``, ``E_-1``, ``E_2`` ..; all 0 if pruned.

        Args:
            i: input channel.
            j: output channel.

        Raises:
            ValueError: there is no such edge.
        """
        self._check_edge(i, j)
        names = ["W", *(f"C_{k + 1}" for k in range(self.n_knots)), *(f"E_{m}" for m in self.orders)]
        re, im = (c[j, :, i].tolist() for c in self.effective_coefficients())
        return {name: complex(*value) for name, value in zip(names, zip(re, im, strict=True), strict=True)}

    def edge_scores(self, z: Tensor | Planes | None = None) -> Tensor:
        """RMS of phi_ij over samples, sqrt(c^H G c) with the F x F Gram matrix G of the features of channel i.

        Differentiable: their mean, times a small factor, is a sparsity penalty on edges.

        Args:
            z: samples (..., d_in), complex or planes, without padded tokens (pass ``z[mask]``); None for the
                reference distribution: s uniform on [low, high], theta uniform.

        Returns:
            Tensor (d_out, d_in), 0 where pruned; computed in float64.

        Raises:
            ValueError: no samples, or another number of channels.
        """
        if z is None:
            gram = self._reference_gram()
        else:
            planes = as_planes(z)
            self._check_channels(planes)
            re, im = (plane.reshape(-1, self.d_in) for plane in planes)
            if not len(re):
                raise ValueError("edge scores need at least one sample, got none; pass z=None for the reference scores")
            gram = self._gram((re, im))
        c = torch.complex(*(plane.double() for plane in self.effective_coefficients()))  # (d_out, F, d_in)
        gram = gram.expand(self.d_in, -1, -1)
        power = (c.conj() * torch.einsum("ifg,jgi->jfi", gram, c)).real.sum(dim=1)  # (d_out, d_in)
        # The floor keeps the derivative of the root finite where all coefficients are 0.
        scores = power.clamp(min=torch.finfo(power.dtype).tiny).sqrt()
        return scores.masked_fill(~self.edge_mask, 0.0).to(self.weight_re.dtype)

    @torch.no_grad()
    def important_edges(self, z: Tensor | Planes | None = None, top: int = 10) -> list[Edge]:
        """The edges of the largest scores, largest first, without pruned ones.

        Args:
            z: samples, see :meth:`edge_scores`.
            top: at most so many.

        Raises:
            ValueError: ``top`` is not positive.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1, got {top}")
        scores = self.edge_scores(z)
        power = scores.double().square()
        shares = power / power.sum(dim=1, keepdim=True).clamp(min=torch.finfo(power.dtype).tiny)
        ranked = scores.masked_fill(~self.edge_mask, -1.0).flatten().argsort(descending=True, stable=True)
        found = [divmod(index, self.d_in) for index in ranked[: min(top, self.n_edges)].tolist()]
        return [Edge(i, j, scores[j, i].item(), shares[j, i].item()) for j, i in found]

    @torch.no_grad()
    def prune(self, threshold: float, z: Tensor | Planes | None = None) -> int:
        """Switch off the edges whose score is below ``threshold`` times the largest score; for good.

        Args:
            threshold: in [0, 1]; 0 removes nothing, 1 keeps the largest alone.
            z: samples, see :meth:`edge_scores`.

        Returns:
            How many edges remain.

        Raises:
            ValueError: ``threshold`` outside [0, 1], or scores that are not finite.
        """
        if not 0.0 <= threshold <= 1.0:
            raise ValueError(f"threshold must lie in [0, 1], a share of the largest edge score, got {threshold}")
        scores = self.edge_scores(z)
        if not scores.isfinite().all():
            raise ValueError("edge scores are not finite; pass samples and train weights without NaN and inf")
        self.edge_mask.logical_and_(scores >= threshold * scores.max())
        return self.n_edges

    def plot(
        self, edges: Sequence[tuple[int, int]] | None = None, z: Tensor | Planes | None = None, top: int = 6
    ) -> Figure:
        """Picture of edge functions: response over magnitude and over phase, their coefficients, all edge scores.

        Args:
            edges: pairs (i, j) to show; None for the ``top`` most important ones.
            z: samples that decide the scores, see :meth:`edge_scores`; their range of log|z| is shaded.
            top: how many edges to show.

        Raises:
            ValueError: no such edge, or none to show.
        """
        from cvkan import plots_edges  # the one place where the core draws; matplotlib is loaded only here

        if edges is None:
            edges = [(edge.i, edge.j) for edge in self.important_edges(z, top)]
        if not edges:
            raise ValueError("there is no edge to plot: all are pruned or the list is empty; name edges as (i, j)")
        for i, j in edges:
            self._check_edge(i, j)
        return plots_edges.edge_functions(self, edges, None if z is None else as_planes(z))

    def extra_repr(self) -> str:
        return (
            f"d_in={self.d_in}, d_out={self.d_out}, n_knots={self.n_knots}, low={self.low}, high={self.high}, "
            f"n_harmonics={self.n_harmonics}, bias={self.bias is not None}"
        )

    def _gram(self, z: Planes) -> Tensor:
        """Mean over samples of conj(feature f) feature g: (D, F, F) complex128 of planes (M, D)."""
        n_samples, n_channels = z[0].shape
        size = max(1, BLOCK // (self.n_features * n_channels))
        total: Tensor | None = None
        for re, im in zip(z[0].split(size), z[1].split(size), strict=True):
            # float64: a function may be a small difference of large terms
            values = torch.complex(*self.features((re.double(), im.double())).chunk(2, dim=-2)).permute(2, 1, 0)
            product = values.conj() @ values.mT  # (D, F, F)
            total = product if total is None else total + product
        assert total is not None
        return total / n_samples

    def _reference_gram(self) -> Tensor:
        """The Gram matrix (1, F, F) for s uniform on [low, high] and theta uniform, by quadrature."""
        device = self.weight_re.device
        middle = torch.arange(N_REFERENCE, dtype=torch.float64, device=device) + 0.5
        s = self.low + (self.high - self.low) * middle / N_REFERENCE
        # Products of features hold the harmonics up to n_harmonics + 1: so many equal steps sum them exactly.
        n_angles = self.n_harmonics + 2
        theta = torch.arange(n_angles, dtype=torch.float64, device=device)[:, None] * (2 * math.pi / n_angles)
        r = torch.exp(s)
        return self._gram(((r * theta.cos()).reshape(-1, 1), (r * theta.sin()).reshape(-1, 1)))

    def _check_channels(self, z: Planes) -> None:
        if z[0].shape[-1] != self.d_in:
            raise ValueError(f"expected {self.d_in} complex channels in the last dimension, got {tuple(z[0].shape)}")

    def _check_edge(self, i: int, j: int) -> None:
        if not (0 <= i < self.d_in and 0 <= j < self.d_out):
            raise ValueError(
                f"no edge from input {i} to output {j}: there are {self.d_in} inputs, {self.d_out} outputs"
            )
