"""Linear maps of complex tensors, as one real matrix product.

Legend: D complex channels; (...) any leading dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.core.fused import ScaledLinear
from cvkan.core.polar import Planes, complex_in_complex_out, in_float16


class PlaneLinear(nn.Module):
    """Base of the linear maps of planes: one real product of [re, im] with a matrix that a subclass makes.

    Args:
        d_in: complex input channels.
        d_out: complex output channels.
        bias: add a complex bias, 0 at the start.
        identity: start at the identity map (needs ``d_in == d_out``) in place of normal numbers of variance
            gain^2 / (2 d_in), which keep the mean squared magnitude times gain^2.
        gain: factor on the random start.

    Raises:
        ValueError: ``identity`` with ``d_in != d_out``.
    """

    def __init__(self, d_in: int, d_out: int, bias: bool = True, identity: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        if identity and d_in != d_out:
            raise ValueError(f"identity=True needs d_in == d_out, got {d_in} and {d_out}")
        self.d_in, self.d_out, self.identity, self.gain = d_in, d_out, identity, gain
        self.make_weights()
        self.bias = nn.Parameter(torch.empty(2 * d_out)) if bias else None
        self.reset_parameters()

    def make_weights(self) -> None:
        """Create the weights, each (.., d_out) x (.., d_in), uninitialised."""
        raise NotImplementedError

    def matrix(self) -> Tensor:
        """The real matrix (2 d_out, 2 d_in)."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Start anew."""
        raise NotImplementedError

    @complex_in_complex_out
    def forward(self, z: Planes) -> Planes:
        """Map planes, each (..., d_in), to planes, each (..., d_out); a complex tensor gives a complex tensor."""
        y = real_linear(torch.cat(z, dim=-1), self.matrix(), self.bias)  # (..., 2 d_out)
        re, im = y.split(self.d_out, dim=-1)
        return re, im

    def extra_repr(self) -> str:
        return f"d_in={self.d_in}, d_out={self.d_out}, bias={self.bias is not None}"


class ComplexLinear(PlaneLinear):
    """y = (P + iQ) z + b, one real product of [re, im] with [[P, Q], [-Q, P]]. Arguments as :class:`PlaneLinear`."""

    def make_weights(self) -> None:
        self.weight_re = nn.Parameter(torch.empty(self.d_out, self.d_in))
        self.weight_im = nn.Parameter(torch.empty(self.d_out, self.d_in))

    def matrix(self) -> Tensor:
        return torch.cat(
            [
                torch.cat([self.weight_re, -self.weight_im], dim=1),
                torch.cat([self.weight_im, self.weight_re], dim=1),
            ]
        )

    def reset_parameters(self) -> None:
        if self.identity:
            nn.init.eye_(self.weight_re)
            nn.init.zeros_(self.weight_im)
        else:
            std = self.gain / math.sqrt(2 * self.d_in)
            nn.init.normal_(self.weight_re, std=std)
            nn.init.normal_(self.weight_im, std=std)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class FreeLinear(PlaneLinear):
    """y = M [re, im] + b with a free real matrix M: the two planes mix as they like, twice the parameters.

    A network of these, narrower by sqrt(2), is the rival of equal parameters: it can do all that complex products
    do and more, so what it loses is what the complex structure is worth. Arguments as :class:`PlaneLinear`.
    Source: own choice.
    """

    def make_weights(self) -> None:
        self.weight = nn.Parameter(torch.empty(2 * self.d_out, 2 * self.d_in))

    def matrix(self) -> Tensor:
        return self.weight

    def reset_parameters(self) -> None:
        if self.identity:
            nn.init.eye_(self.weight)
        else:
            nn.init.normal_(self.weight, std=self.gain / math.sqrt(2 * self.d_in))
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def real_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b, the one place where the core multiplies matrices of weights.

    Under autocast to float16 magnitudes of a few thousand would give sums above 65504, and small gradients of silent
    tokens would be lost: every row, forward and backward, is brought to unit size first, and back in float32.
    Half precision then does for any magnitude, at the cost of two passes over x and y. bfloat16 needs none of this,
    but GPUs that have it have no need of float16.

    Args:
        x: (..., d_in).
        weight: (d_out, d_in).
        bias: (d_out,).

    Returns:
        Tensor (..., d_out); float32 under autocast to float16.
    """
    if not in_float16(x):
        return F.linear(x, weight, bias)
    y: Tensor = ScaledLinear.apply(x, weight)
    return y if bias is None else y + bias


class RealLinear(nn.Linear):
    """``nn.Linear`` by way of :func:`real_linear`: of any range under autocast to float16."""

    def forward(self, x: Tensor) -> Tensor:
        return real_linear(x, self.weight, self.bias)


class RealScale(nn.Module):
    """gamma z with one real factor a channel: the layer scale of a residual branch.

    Args:
        d_complex: channels D.
        start: value of every factor at the start.
    """

    def __init__(self, d_complex: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((d_complex,), start))

    def forward(self, z: Planes, residual: Planes) -> Planes:
        """residual + gamma z; all planes (..., D)."""
        return torch.addcmul(residual[0], self.gamma, z[0]), torch.addcmul(residual[1], self.gamma, z[1])


def complex_dropout(z: Planes, p: float, training: bool) -> Planes:
    """Drop whole complex numbers: one Bernoulli draw for both planes, so that no phase is destroyed.

    Args:
        z: planes, each (...).
        p: probability of dropping.
        training: identity when False.
    """
    if not training or p == 0.0:
        return z
    keep = F.dropout(torch.ones_like(z[0]), p)
    return z[0] * keep, z[1] * keep


def masked(z: Planes, mask: Tensor | None) -> Planes:
    """Set padded tokens to exactly zero, whatever they hold (also inf and NaN).

    Args:
        z: planes, each (B, N, D).
        mask: (B, N), True = valid, or None.
    """
    if mask is None:
        return z
    padded = ~mask.bool().unsqueeze(-1)  # (B, N, 1)
    return z[0].masked_fill(padded, 0.0), z[1].masked_fill(padded, 0.0)
