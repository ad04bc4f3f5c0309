"""Elementwise functions with hand-written derivatives, to touch memory less often.

At the sizes of a polarizing block most of the time is elementwise passes over (B, N, D) whose intermediate
results autograd would keep. These functions keep their inputs alone, work in place on one or two buffers, and
compute their derivatives anew in the backward pass. Same numbers, a fraction of the memory traffic.

A forward pass must not end in an in-place operation: torch 2.11 compiles a function that returns a tensor it has
changed in place to one without gradients, silently (pytorch issue 180642).

Legend: D channels, K coefficients, M harmonics; (...) any leading dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

TINY = 1e-30  # a row of zeros is divided by this


class Polynomial(Function):
    """sum_{k=1..K} c_k t^k, a channel each."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, coefficients: Tensor) -> Tensor:
        """Values (..., D) of t (..., D) for coefficients (K, D)."""
        ctx.save_for_backward(t, coefficients)
        *lower, last = coefficients.unbind()
        value = t * last
        for coefficient in reversed(lower[1:]):
            value.add_(coefficient).mul_(t)
        return value.add_(lower[0]) * t if lower else value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        t, coefficients = ctx.saved_tensors
        degree = len(coefficients)
        grad_t = grad_coefficients = None
        if ctx.needs_input_grad[0]:
            # d/dt = c_1 + 2 c_2 t + ... by Horner, times the incoming gradient.
            scaled = coefficients * torch.arange(1, degree + 1, dtype=t.dtype, device=t.device)[:, None]
            *lower, last = scaled.unbind()
            if lower:
                grad_t = t * last
                for coefficient in reversed(lower[1:]):
                    grad_t.add_(coefficient).mul_(t)
                grad_t.add_(lower[0]).mul_(gradient)
            else:
                grad_t = gradient * last
        if ctx.needs_input_grad[1]:
            power = gradient * t
            sums = [sum_to_channels(power)]
            for _ in range(degree - 1):
                sums.append(sum_to_channels(power.mul_(t)))
            grad_coefficients = torch.stack(sums)
        return grad_t, grad_coefficients


class Fourier(Function):
    """sum_{m=1..M} a_m cos(m theta) + b_m sin(m theta) of the phase as (cos, sin), a channel each.

    cos(m theta) and sin(m theta) stand for the real and imaginary part of (cos + i sin)^m, which is what
    the powers give when cos^2 + sin^2 < 1 (at z = 0).
    """

    @staticmethod
    def forward(ctx: Any, cos: Tensor, sin: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Values (..., D) of cos and sin (..., D) for coefficients a and b, each (M, D)."""
        ctx.save_for_backward(cos, sin, a, b)
        # sum_m Re((a_m - i b_m) u^m) by complex Horner: p = u (w_1 + u (w_2 + ...)), w_m = a_m - i b_m.
        if len(a) == 1:
            return torch.addcmul(cos * a[0], sin, b[0])
        re, im = cos * a[-1], sin * a[-1]
        re.addcmul_(sin, b[-1])
        im.addcmul_(cos, b[-1], value=-1)
        for m in range(len(a) - 2, 0, -1):
            re.add_(a[m])
            im.sub_(b[m])
            re, im = complex_product(re, im, cos, sin)
        re.add_(a[0])
        im.sub_(b[0])
        return torch.addcmul(re.mul_(cos), im, sin, value=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin, a, b = ctx.saved_tensors
        # p'(u) = sum_m m w_m u^(m-1);  d Re p / d cos = Re p',  d Re p / d sin = -Im p'.
        grad_cos = grad_sin = None
        n_harmonics = len(a)
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            if n_harmonics == 1:
                grad_cos, grad_sin = gradient * a[0], gradient * b[0]
            else:
                w_re, w_im = n_harmonics * a[-1], -n_harmonics * b[-1]
                re, im = cos * w_re, sin * w_re
                re.addcmul_(sin, w_im, value=-1)
                im.addcmul_(cos, w_im)
                for m in range(n_harmonics - 1, 0, -1):
                    re.add_(m * a[m - 1])
                    im.sub_(m * b[m - 1])
                    if m > 1:
                        re, im = complex_product(re, im, cos, sin)
                grad_cos, grad_sin = re.mul_(gradient), im.mul_(gradient).neg_()
        grad_a = grad_b = None
        if ctx.needs_input_grad[2] or ctx.needs_input_grad[3]:
            re, im = gradient * cos, gradient * sin
            sums_a, sums_b = [sum_to_channels(re)], [sum_to_channels(im)]
            for _ in range(n_harmonics - 1):
                re, im = complex_product(re, im, cos, sin)
                sums_a.append(sum_to_channels(re))
                sums_b.append(sum_to_channels(im))
            grad_a, grad_b = torch.stack(sums_a), torch.stack(sums_b)
        return grad_cos, grad_sin, grad_a, grad_b


class PolarCoordinates(Function):
    """(t, cos, sin) of planes: t = (r^2 - 1)/(r^2 + 1), (cos, sin) = (re, im)/r, with r^2 = re^2 + im^2 + eps^2."""

    @staticmethod
    def forward(ctx: Any, re: Tensor, im: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """Three tensors (...) of planes (...)."""
        r2 = (re * re).addcmul_(im, im).add_(eps * eps)
        inverse = torch.rsqrt(r2)
        cos, sin = re * inverse, im * inverse
        t = r2.add_(1).reciprocal_()  # 1 / (r^2 + 1)
        ctx.save_for_backward(cos, sin, inverse)
        return t.mul_(-2) + 1, cos, sin

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_t: Tensor, grad_cos: Tensor, grad_sin: Tensor) -> tuple[Tensor, Tensor, None]:
        cos, sin, inverse = ctx.saved_tensors
        # d t / d r = 4 r / (r^2 + 1)^2 = 4 q^3 / (1 + q^2)^2 with q = 1/r; along (cos, sin).
        # d u / d z = (I - u u^T) / r: the gradient of the phase less its component along u.
        q2 = inverse * inverse
        slope = q2 + 1
        slope = slope.mul_(slope).reciprocal_().mul_(q2).mul_(4)  # 4 q^2 / (1 + q^2)^2; one more q below
        along = (grad_cos * cos).addcmul_(grad_sin, sin)
        radial = slope.mul_(grad_t).sub_(along)
        grad_re = torch.addcmul(grad_cos, radial, cos).mul_(inverse)
        grad_im = torch.addcmul(grad_sin, radial, sin).mul_(inverse)
        return grad_re, grad_im, None


def complex_product(re: Tensor, im: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """(re + i im)(cos + i sin), overwriting re and im where it can."""
    crossed = re * sin
    re.mul_(cos).addcmul_(im, sin, value=-1)
    im.mul_(cos).add_(crossed)
    return re, im


def to_unit_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of x (M, F) divided by their largest number, in float16, and that number (M, 1), in float32."""
    scale = x.abs().amax(dim=-1, keepdim=True).float().clamp(min=TINY)
    return (x / scale).half(), scale


def sum_to_channels(x: Tensor) -> Tensor:
    """Sum (..., D) over all leading dimensions to (D,)."""
    return x.flatten(0, -2).sum(dim=0)


class GainRotate(Function):
    """2 sigma(logit) e^{2 i atan(rho)} z in Cayley form, ((1 - rho^2) + 2 i rho)/(1 + rho^2)."""

    @staticmethod
    def forward(ctx: Any, re: Tensor, im: Tensor, logit: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        """Planes (...) of planes (...), logits (...) and half-angle tangents (...)."""
        gain = torch.sigmoid(logit)  # half the gain; the other factor of 2 goes with 1/(1 + rho^2)
        ctx.save_for_backward(re, im, gain, rho)
        factor = (rho * rho).add_(1).reciprocal_().mul_(gain).mul_(2)  # g / (1 + rho^2)
        cos = (rho * rho).neg_().add_(1).mul_(factor)
        sin = factor.mul_(rho).mul_(2)
        return torch.addcmul(re * cos, im, sin, value=-1), torch.addcmul(re * sin, im, cos)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_re: Tensor, grad_im: Tensor) -> tuple[Tensor, ...]:
        re, im, gain, rho = ctx.saved_tensors
        inverse = (rho * rho).add_(1).reciprocal_()  # 1 / (1 + rho^2)
        factor = inverse * gain * 2
        cos = (rho * rho).neg_().add_(1).mul_(factor)
        sin = (factor * rho).mul_(2)
        # The gradient turned back is that of z; its product with z gives those of gain and angle.
        back_re = (grad_re * cos).addcmul_(grad_im, sin)
        back_im = (grad_im * cos).addcmul_(grad_re, sin, value=-1)
        grad_logit = (back_re * re).addcmul_(back_im, im).mul_(1 - gain)  # d log g = 1 - sigma
        # d angle / d rho = 2 / (1 + rho^2); turning z by 90 degrees gives d out / d angle.
        grad_rho = (back_im * re).addcmul_(back_re, im, value=-1).mul_(inverse).mul_(2)
        return back_re, back_im, grad_logit, grad_rho


class ScaledLinear(Function):
    """x W^T in float16, each row in units of its largest number, the result in float32.

    The gradients of the rows are scaled alike, and those of the weights as a whole: no magnitude, and no factor
    on the loss, leaves the range of float16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Values (..., d_out) of x (..., d_in) and weights (d_out, d_in)."""
        half, scale = to_unit_rows(x.flatten(0, -2))
        weight_half = weight.half()
        ctx.save_for_backward(half, scale, weight_half)
        ctx.dtypes = x.dtype, weight.dtype
        return (half @ weight_half.T * scale).unflatten(0, x.shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        half, scale, weight_half = ctx.saved_tensors
        x_dtype, weight_dtype = ctx.dtypes
        rows = gradient.flatten(0, -2)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            rows_half, rows_scale = to_unit_rows(rows)
            grad_x = (rows_half @ weight_half * rows_scale).to(x_dtype).unflatten(0, gradient.shape[:-1])
        if ctx.needs_input_grad[1]:
            # Over M rows the scales cannot be taken out of the sum but one for all. Its root of M bounds the sum by
            # root M and leaves the largest terms normal numbers.
            rows = rows * scale
            size = rows.abs().amax().clamp(min=TINY) * rows.shape[0] ** 0.5
            grad_weight = ((rows / size).half().T @ half).to(weight_dtype) * size
        return grad_x, grad_weight


class Mix(Function):
    """sigma(logit_v) V + sigma(logit_a) A, with A the same for all tokens or one a token.

    V (B, N, D) and logits (B, N, D); A (B, 1, D) or (B, N, D).
    """

    @staticmethod
    def forward(
        ctx: Any, v_re: Tensor, v_im: Tensor, a_re: Tensor, a_im: Tensor, logit_v: Tensor, logit_a: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The mixed planes, and the gain 2 sigma(logit_v) without gradient."""
        keep, take = torch.sigmoid(logit_v), torch.sigmoid(logit_a)
        ctx.save_for_backward(v_re, v_im, a_re, a_im, keep, take)
        re = torch.addcmul(keep * v_re, take, a_re)
        im = torch.addcmul(keep * v_im, take, a_im)
        gain = 2 * keep
        ctx.mark_non_differentiable(gain)
        return re, im, gain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_re: Tensor, grad_im: Tensor, _: Tensor) -> tuple[Tensor, ...]:
        v_re, v_im, a_re, a_im, keep, take = ctx.saved_tensors
        grad_keep = (grad_re * v_re).addcmul_(grad_im, v_im).mul_(keep).mul_(1 - keep)
        grad_take = (grad_re * a_re).addcmul_(grad_im, a_im).mul_(take).mul_(1 - take)
        grad_a_re, grad_a_im = grad_re * take, grad_im * take
        if a_re.shape[1] == 1:
            grad_a_re, grad_a_im = grad_a_re.sum(dim=1, keepdim=True), grad_a_im.sum(dim=1, keepdim=True)
        return grad_re * keep, grad_im * keep, grad_a_re, grad_a_im, grad_keep, grad_take
