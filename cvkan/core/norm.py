"""Normalisations of a residual branch's input.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

import torch
from torch import nn

from cvkan.core.polar import EPS, Planes, complex_in_complex_out, squared_magnitude


class NoNorm(nn.Module):
    """Identity. Source: the setting under which polarization in the stream is not rescaled at all.

    Args:
        d_complex: unused; all norms are built alike.
    """

    def __init__(self, d_complex: int) -> None:
        super().__init__()

    @complex_in_complex_out
    def forward(self, z: Planes) -> Planes:
        """Planes (B, N, D), unchanged."""
        return z


class PreRMSNorm(nn.Module):
    """z~ = weight z / rms(z), rms over the channels of one token; a real factor, so the phase is kept.

    Only the branch is normalised, never the residual stream: magnitudes in the stream carry importance.
    Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019, eq. 4, on |z|.

    Args:
        d_complex: channels D.
        eps: floor of the rms.
    """

    def __init__(self, d_complex: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_complex))

    @complex_in_complex_out
    def forward(self, z: Planes) -> Planes:
        """Planes (B, N, D) of unit root mean square a token, times ``weight``."""
        r2 = squared_magnitude(z, self.eps).mean(dim=-1, keepdim=True)  # (B, N, 1)
        factor = torch.rsqrt(r2) * self.weight  # (B, N, D)
        return z[0] * factor, z[1] * factor
