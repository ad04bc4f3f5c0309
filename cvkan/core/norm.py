"""Normalisations: of a residual branch's input, of the stream, and of a whole sample at the end of the stack.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cvkan.core.linear import masked
from cvkan.core.polar import EPS, Planes, complex_in_complex_out, squared_magnitude


class Norm(nn.Module):
    """Base of all norms of a block, built as ``Norm(d_complex)``.

    Attributes:
        on_stream: the norm acts on the residual stream at the end of a layer, not on the input of each branch.
        causal: what a token becomes does not depend on later tokens.
    """

    on_stream = False
    causal = True

    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) to planes (B, N, D); mask (B, N), 1 = valid. Complex in, complex out."""
        raise NotImplementedError


class NoNorm(Norm):
    """Identity. Source: the setting under which polarization in the stream is not rescaled at all.

    Args:
        d_complex: unused; all norms are built alike.
    """

    def __init__(self, d_complex: int) -> None:
        super().__init__()

    @complex_in_complex_out
    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D), unchanged."""
        return z


def branch_norm(norm: Callable[..., Norm], d_complex: int) -> Norm:
    """The norm for the input of a branch: the one that is asked for, or none if that one is for the stream."""
    made = norm(d_complex)
    return NoNorm(d_complex) if made.on_stream else made


def stream_norm(norm: Callable[..., Norm], d_complex: int) -> Norm:
    """The norm for the stream at the end of a layer: the one that is asked for, or none if it is for branches."""
    made = norm(d_complex)
    return made if made.on_stream else NoNorm(d_complex)


class PreRMSNorm(Norm):
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
    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) of unit root mean square a token, times ``weight``."""
        r2 = squared_magnitude(z, self.eps).mean(dim=-1, keepdim=True)  # (B, N, 1)
        factor = torch.rsqrt(r2) * self.weight  # (B, N, D)
        return z[0] * factor, z[1] * factor


class SampleRMSNorm(nn.Module):
    """z / rms(z), rms over all valid tokens and channels of one sample: one real factor a sample.

    For the end of the stack: the residual stream grows with depth, and this takes the growth away while the
    ratios between tokens, the polarization, stay what they are. Source: own choice.

    Args:
        causal: the rms of token t runs over the tokens up to t; then it is one factor a token.
        eps: floor of the rms.
    """

    def __init__(self, causal: bool = False, eps: float = EPS) -> None:
        super().__init__()
        self.causal, self.eps = causal, eps

    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) of unit root mean square a sample; mask (B, N), 1 = valid."""
        z = masked(z, mask)
        r2 = mean_over_tokens(squared_magnitude(z, 0.0).mean(dim=2, keepdim=True), mask, self.causal)  # (B, 1 or N, 1)
        factor = torch.rsqrt(r2 + self.eps**2)
        return z[0] * factor, z[1] * factor


def mean_over_tokens(x: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
    """Mean over the valid tokens, or over the valid tokens up to each one.

    Args:
        x: (B, N, F), finite; 0 at padded tokens.
        mask: (B, N), 1 = valid.
        causal: a mean for every token, which runs up to it.

    Returns:
        Tensor (B, 1, F), or (B, N, F) if causal; 0 where no token is valid.
    """
    if not causal and mask is None:
        return x.mean(dim=1, keepdim=True)
    valid = torch.ones_like(x[..., :1]) if mask is None else mask.unsqueeze(-1).to(x.dtype)  # (B, N, 1)
    if causal:
        return x.cumsum(dim=1) / valid.cumsum(dim=1).clamp(min=1)
    return x.sum(dim=1, keepdim=True) / valid.sum(dim=1, keepdim=True).clamp(min=1)
