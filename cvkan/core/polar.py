"""Complex tensors as two real planes, and their polar coordinates in real arithmetic.

Inside the core a complex tensor is a pair ``(re, im)`` of real tensors of one shape. No complex dtype, no angle,
atan2, sin, cos or complex exp: gradients stay finite at z = 0 and the elementwise work runs in plain float32.

Under autocast, float32 are: the residual stream and what is added to it, polar coordinates, squares, log, exp, rsqrt,
softmax, sums and means over tokens, agreement with a context, depthwise filters, gates and rotations. Half are: the
products of linear layers, GELU and tanh between them, convolutions of embeddings, attention between tokens. float16
has no range to spare: there linear layers scale their rows (``linear.py``) and attention runs in float32.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cvkan.core.fused import GainRotate, PolarCoordinates

Planes = tuple[Tensor, Tensor]

# Activations are of order 1. The gradient of the unit phase is at most 1/EPS; 1e-6 would allow 1e6.
EPS = 1e-3


def as_planes(z: Tensor | Planes) -> Planes:
    """Split a complex tensor into its (re, im) planes; a pair of planes passes through.

    Args:
        z: complex tensor (...), or a pair of real tensors of one shape.

    Returns:
        (re, im), each (...), real.

    Raises:
        ValueError: a real tensor, or planes of different shapes.
    """
    if isinstance(z, Tensor):
        if not z.is_complex():
            raise ValueError(
                f"expected a complex tensor or a pair (re, im), got a real tensor of dtype {z.dtype}; "
                "pass (x, torch.zeros_like(x)) for a signal without imaginary part"
            )
        planes = torch.view_as_real(z).unbind(-1)
        return planes[0].contiguous(), planes[1].contiguous()
    re, im = z
    if re.shape != im.shape:
        raise ValueError(f"the planes (re, im) must have one shape, got {tuple(re.shape)} and {tuple(im.shape)}")
    return re, im


def as_complex(z: Planes) -> Tensor:
    """Join planes (re, im), each (...), to one complex tensor (...)."""
    # torch.complex takes no half precision; complex64 is the narrowest that all operations know.
    dtype = torch.float64 if z[0].dtype == torch.float64 else torch.float32
    return torch.complex(z[0].to(dtype), z[1].to(dtype))


def complex_in_complex_out(forward: Callable[..., Planes]) -> Callable[..., Any]:
    """Let a module's ``forward(self, z: Planes, ...) -> Planes`` also take, and then return, a complex tensor."""

    def wrapper(self: Any, z: Tensor | Planes, *args: Any, **kwargs: Any) -> Tensor | Planes:
        planes = forward(self, as_planes(z), *args, **kwargs)
        return as_complex(planes) if isinstance(z, Tensor) else planes

    wrapper.__doc__ = forward.__doc__
    # torch.compile counts its versions by code object and gives up after eight: every method gets its own.
    name = forward.__qualname__
    wrapper.__code__ = wrapper.__code__.replace(co_name=forward.__name__, co_qualname=name)
    wrapper.__name__, wrapper.__qualname__ = forward.__name__, name
    return wrapper


def at_least_float32(z: Planes) -> Planes:
    """The planes, widened if autocast made them half precision: squares and logarithms need the range."""
    re, im = (plane.float() if plane.dtype in (torch.float16, torch.bfloat16) else plane for plane in z)
    return re, im


def no_autocast(x: Tensor) -> torch.autocast:
    """A context in which products on the device of x keep the precision of their factors."""
    return torch.autocast(x.device.type, enabled=False)


def in_float16(x: Tensor) -> bool:
    """Autocast to float16 is on for the device of x: what exceeds 65504 is infinite, what is below 6e-8 is 0."""
    device = x.device.type
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16


def squared_magnitude(z: Planes, eps: float = EPS) -> Tensor:
    """r^2 = re^2 + im^2 + eps^2, float32 at least (autocast must not round it).

    Args:
        z: planes, each (...).
        eps: floor of the magnitude.

    Returns:
        Tensor (...), positive.
    """
    re, im = at_least_float32(z)
    return re * re + im * im + eps * eps


def log_magnitude(r2: Tensor) -> Tensor:
    """s = log r = 0.5 log r^2 for r^2 of :func:`squared_magnitude`; |ds/dz| <= 1/(2 eps)."""
    return 0.5 * torch.log(r2)


def polar_coordinates(z: Planes, eps: float = EPS) -> tuple[Tensor, Planes]:
    """Bounded log-magnitude and unit phase in one pass.

    Args:
        z: planes, each (...).
        eps: floor of the magnitude.

    Returns:
        t = tanh(log r) = (r^2 - 1)/(r^2 + 1), in (-1, 1), and u = z / r as (cos, sin); each (...), float32 at least.
    """
    re, im = at_least_float32(z)
    t, cos, sin = PolarCoordinates.apply(re, im, eps)
    return t, (cos, sin)


def unit_phase(z: Planes, r2: Tensor) -> Planes:
    """u = z / r, the phase as a point on the unit circle; 0 at z = 0.

    Args:
        z: planes, each (...).
        r2: squared magnitude (...) of :func:`squared_magnitude`.

    Returns:
        (cos, sin) of the phase, each (...).
    """
    inverse = torch.rsqrt(r2)
    return z[0] * inverse, z[1] * inverse


def relative_phase(u: Planes, v: Planes) -> Planes:
    """(cos, sin) of the angle from v to u: u conj(v), each (...) after broadcasting."""
    return u[0] * v[0] + u[1] * v[1], u[1] * v[0] - u[0] * v[1]


def gain_rotate(z: Planes, logit: Tensor, rho: Tensor) -> Planes:
    """2 sigma(logit) e^{i angle} z with angle = 2 atan(rho), in Cayley form: no sin, no cos.

    Args:
        z: planes, each (...).
        logit: logit of half the gain, (...); 0 keeps the magnitude.
        rho: tangent of half the angle (...); every angle but pi is reached, 0 keeps the phase.

    Returns:
        Planes, each (...).
    """
    re, im = GainRotate.apply(*at_least_float32(z), logit, rho)
    return re, im
