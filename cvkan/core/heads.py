"""What the heads of a block are: how channels are turned, projected and share functions.

Built as ``Heads(d_complex, n_heads)``. A block lets its values ``enter``, works on them, and lets the result ``leave``.

Legend: B batch, N tokens, D complex channels, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cvkan.core.linear import ComplexLinear
from cvkan.core.polar import Planes


class Heads(nn.Module):
    """Base of all kinds of heads, and the plainest: a head is a group of D / H neighbouring channels (``emergent``).

    Args:
        d_complex: complex channels D.
        n_heads: heads H, a divisor of D.

    Raises:
        ValueError: ``n_heads`` does not divide ``d_complex``.
    """

    def __init__(self, d_complex: int, n_heads: int) -> None:
        super().__init__()
        check_heads(d_complex, n_heads)
        self.n_heads = n_heads

    def enter(self, z: Planes) -> Planes:
        """Planes (B, N, D) as the heads see them."""
        return z

    def leave(self, z: Planes) -> Planes:
        """Planes (B, N, D) of the heads, back in the stream's coordinates."""
        return z

    def shared(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The constructor of a function of D channels, as this kind of heads wants it."""
        return function


class EmergentHeads(Heads):
    """Channels differ by what they learn; nothing is imposed. Source: the default of the original CV-KAN."""


class OffsetHeads(Heads):
    """Head h sees its channels turned by 2 pi h / H, and its result is turned back.

    Functions of the absolute phase then start at different places of the circle in each head.
    Source: the ``offset`` heads of the original CV-KAN.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, d_complex: int, n_heads: int) -> None:
        super().__init__(d_complex, n_heads)
        angle = 2 * math.pi / n_heads * torch.arange(n_heads).repeat_interleave(d_complex // n_heads)  # (D,)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def enter(self, z: Planes) -> Planes:
        return z[0] * self.cos - z[1] * self.sin, z[0] * self.sin + z[1] * self.cos

    def leave(self, z: Planes) -> Planes:
        return z[0] * self.cos + z[1] * self.sin, z[1] * self.cos - z[0] * self.sin


class FactoredHeads(Heads):
    """H complex projections to D / H channels each, with one set of functions for all heads; joined by a projection.

    Both projections start at the identity, so that an untrained stack is the closed-form polarizer, as with the other
    kinds. From a random start every channel is a mixture of unrelated phases: 200 steps on the hard synthetic
    task reach a recovery of 0.61 in the place of 0.82. Source: the ``factored`` heads of the original CV-KAN, and
    Vaswani et al., "Attention is all you need", 2017, section 3.2.2, for the projections.
    """

    def __init__(self, d_complex: int, n_heads: int) -> None:
        super().__init__(d_complex, n_heads)
        self.project = ComplexLinear(d_complex, d_complex, bias=False, identity=True)  # D / H rows a head
        self.join = ComplexLinear(d_complex, d_complex, bias=False, identity=True)

    def enter(self, z: Planes) -> Planes:
        return self.project(z)

    def leave(self, z: Planes) -> Planes:
        return self.join(z)

    def shared(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda d_complex, *args, **kwargs: PerHead(
            function(d_complex // self.n_heads, *args, **kwargs), self.n_heads
        )


def check_heads(d_complex: int, n_heads: int) -> None:
    """Refuse heads that cannot share the channels evenly.

    Raises:
        ValueError: ``n_heads`` does not divide ``d_complex``.
    """
    if d_complex % n_heads:
        raise ValueError(f"n_heads must divide d_complex, got n_heads={n_heads} and d_complex={d_complex}")


class PerHead(nn.Module):
    """One function of D / H channels, used by every head.

    Args:
        function: maps tensors or planes (..., D / H) to the same.
        n_heads: heads H.
    """

    def __init__(self, function: nn.Module, n_heads: int) -> None:
        super().__init__()
        self.function, self.n_heads = function, n_heads

    @property
    def coordinates(self) -> Any:
        """The coordinates that the function works on, see :class:`cvkan.core.univariate.Psi`."""
        return self.function.coordinates

    def forward(self, x: Tensor | Planes) -> Tensor | Planes:
        """Tensor or planes (..., D) to tensor or planes (..., D)."""
        if isinstance(x, Tensor):
            out = self.function(x.unflatten(-1, (self.n_heads, -1)))  # (..., H, D/H)
        else:
            out = self.function((x[0].unflatten(-1, (self.n_heads, -1)), x[1].unflatten(-1, (self.n_heads, -1))))
        return out.flatten(-2) if isinstance(out, Tensor) else (out[0].flatten(-2), out[1].flatten(-2))
