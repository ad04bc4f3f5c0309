"""The real-valued rival of :class:`cvkan.core.linear.ComplexLinear`.

Legend: D complex channels; (...) any leading dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from cvkan.core.linear import real_linear
from cvkan.core.polar import Planes, complex_in_complex_out


class FreeLinear(nn.Module):
    """y = M [re, im] + b with a free real matrix M: the two planes mix as they like, twice the parameters.

    A network of these, narrower by sqrt(2), is the real-valued twin of equal parameters: it can do all that complex
    products do and more, so what it loses is what the complex structure is worth. Source: own choice.

    Args:
        d_in: complex input channels.
        d_out: complex output channels.
        bias: add a bias, 0 at the start.
        identity: start at the identity map (needs ``d_in == d_out``) in place of M ~ N(0, gain^2 / (2 d_in)).
        gain: factor on the random start.

    Raises:
        ValueError: ``identity`` with ``d_in != d_out``.
    """

    def __init__(self, d_in: int, d_out: int, bias: bool = True, identity: bool = False, gain: float = 1.0) -> None:
        super().__init__()
        if identity and d_in != d_out:
            raise ValueError(f"identity=True needs d_in == d_out, got {d_in} and {d_out}")
        self.d_in, self.d_out = d_in, d_out
        start = torch.eye(2 * d_in) if identity else torch.randn(2 * d_out, 2 * d_in) * (gain / math.sqrt(2 * d_in))
        self.weight = nn.Parameter(start)
        self.bias = nn.Parameter(torch.zeros(2 * d_out)) if bias else None

    @complex_in_complex_out
    def forward(self, z: Planes) -> Planes:
        """Map planes, each (..., d_in), to planes, each (..., d_out); a complex tensor gives a complex tensor."""
        y = real_linear(torch.cat(z, dim=-1), self.weight, self.bias)  # (..., 2 d_out)
        re, im = y.split(self.d_out, dim=-1)
        return re, im

    def extra_repr(self) -> str:
        return f"d_in={self.d_in}, d_out={self.d_out}, bias={self.bias is not None}"
