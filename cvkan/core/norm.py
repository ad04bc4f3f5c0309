"""Normalisations: of a residual branch's input, and of a whole sample at the end of the stack.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvkan.core.linear import masked
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


class SampleRMSNorm(nn.Module):
    """z / rms(z), rms over all valid tokens and channels of one sample: one real factor a sample.

    For the end of the stack: the residual stream grows with depth, and this takes the growth away while the
    ratios between tokens, the polarization, stay what they are. Not causal. Source: own choice.

    Args:
        eps: floor of the rms.
    """

    def __init__(self, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) of unit root mean square a sample; mask (B, N), 1 = valid."""
        z = masked(z, mask)
        r2 = squared_magnitude(z, 0.0).mean(dim=(1, 2), keepdim=True)  # (B, 1, 1)
        if mask is not None:
            r2 = r2 * (mask.shape[1] / mask.sum(dim=1).clamp(min=1))[:, None, None]
        factor = torch.rsqrt(r2 + self.eps**2)
        return z[0] * factor, z[1] * factor
