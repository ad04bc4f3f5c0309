"""Normalisations: of a residual branch's input, of the stream, and of a whole sample at the end of the stack.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.core.linear import masked
from cvkan.core.polar import (
    EPS,
    Planes,
    at_least_float32,
    complex_in_complex_out,
    log_magnitude,
    squared_magnitude,
)


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


class StreamRMSNorm(PreRMSNorm):
    """:class:`PreRMSNorm` on the stream itself: after each layer every token has unit rms, times ``weight``.

    It takes from a token what the layers made of its size, and leaves its channels and phases. It is there to test the
    claim that normalising the stream hurts. Source: the ``rms`` norm of the original CV-KAN.

    Args:
        d_complex: channels D.
        eps: floor of the rms.
    """

    on_stream = True

    @complex_in_complex_out
    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) of unit root mean square a token, times ``weight``; 0 at padded tokens."""
        return super().forward(masked(z, mask))


class StreamLogLayerNorm(Norm):
    """z exp(s' - s), s = log|z|, s' = weight (s - mean(s)) / std(s) + bias, over the channels of one token.

    Layer norm of the log-magnitudes, as one real factor, so the phase is kept. Every token then has the same spread of
    log-magnitudes, whatever the layers made of it; it is there to test the claim that normalising the stream
    hurts. A channel is at most sqrt(D - 1) standard deviations from the mean, which bounds the factor.
    Source: the ``layer`` norm of the original CV-KAN, there by way of the polar form; Ba, Kiros and Hinton, "Layer
    normalization", 2016, eq. 3, on log|z|.

    Args:
        d_complex: channels D.
        eps: added to the variance of the log-magnitudes: channels of equal size stay so.
    """

    on_stream = True

    def __init__(self, d_complex: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_complex))
        self.bias = nn.Parameter(torch.zeros(d_complex))

    @complex_in_complex_out
    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) with standardised log-magnitudes a token; 0 at padded tokens."""
        z = masked(z, mask)
        s = log_magnitude(squared_magnitude(z))
        # One exponential of the difference: z / |z| exp(s') would overflow a step earlier and lose phases at z = 0.
        factor = torch.exp(F.layer_norm(s, s.shape[-1:], self.weight, self.bias, self.eps) - s)  # (B, N, D)
        return z[0] * factor, z[1] * factor


class ComplexBatchNorm(Norm):
    """gamma V^(-1/2) (z - mean) + beta, a channel each: 2x2 whitening of (re, im) over all valid tokens of a batch.

    ::

        V^(-1/2) = [[V_ii + s, -V_ri], [-V_ri, V_rr + s]] / (s t),    s = sqrt(det V),  t = sqrt(trace V + 2 s)

    It does not keep phases: a channel whose phases prefer one axis is stretched along the other. As it looks at all
    tokens of all samples, a causal stack refuses it; in evaluation running averages take the place of the batch's.
    Source: Trabelsi et al., "Deep complex networks", 2018, eq. 14-16; the running covariance starts at 1/2, so that
    an untrained module in evaluation is the identity.

    Args:
        d_complex: channels D.
        momentum: weight of a batch in the running averages, in (0, 1].
        eps: added to both variances.

    Raises:
        ValueError: ``momentum`` is out of range.
    """

    causal = False
    running_mean: Tensor
    running_covariance: Tensor

    def __init__(self, d_complex: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        if not 0.0 < momentum <= 1.0:
            raise ValueError(f"momentum must lie in (0, 1], got {momentum}; set norm.momentum=0.1")
        self.momentum, self.eps = momentum, eps
        scale = math.sqrt(0.5)  # two planes of variance 1 make a mean squared magnitude of 2
        self.gamma = nn.Parameter(torch.tensor([scale, scale, 0.0])[:, None].repeat(1, d_complex))  # rr, ii, ri
        self.beta = nn.Parameter(torch.zeros(2, d_complex))
        self.register_buffer("running_mean", torch.zeros(2, d_complex))
        self.register_buffer("running_covariance", torch.tensor([0.5, 0.5, 0.0])[:, None].repeat(1, d_complex))

    @complex_in_complex_out
    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) to planes (B, N, D), float32 at least; mask (B, N), 1 = valid."""
        re, im = at_least_float32(masked(z, mask))
        mean, covariance = self.running_mean, self.running_covariance
        if self.training:
            mean, covariance = self.statistics((re, im), mask)
        w_rr, w_ii, w_ri = self.whitening(covariance)
        g_rr, g_ii, g_ri = self.gamma
        re, im = re - mean[0], im - mean[1]
        # gamma and V^(-1/2) as one matrix a channel: two passes over the tokens a plane.
        return (
            (g_rr * w_rr + g_ri * w_ri) * re + (g_rr * w_ri + g_ri * w_ii) * im + self.beta[0],
            (g_ri * w_rr + g_ii * w_ri) * re + (g_ri * w_ri + g_ii * w_ii) * im + self.beta[1],
        )

    def statistics(self, z: Planes, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean (2, D) and covariance (3, D) of the valid tokens, which also move the running ones."""
        re, im = z
        weight = torch.ones_like(re[..., :1]) if mask is None else mask.bool().unsqueeze(-1).to(re.dtype)  # (B, N, 1)
        n_valid = weight.sum()
        share = weight / n_valid.clamp(min=1)
        mean = torch.stack([(share * re).sum(dim=(0, 1)), (share * im).sum(dim=(0, 1))])
        re, im = re - mean[0], im - mean[1]
        products = [(share * product).sum(dim=(0, 1)) for product in (re * re, im * im, re * im)]
        covariance = torch.stack(products)
        with torch.no_grad():
            momentum = self.momentum * (n_valid > 0)  # a batch of padding alone says nothing
            self.running_mean.lerp_(mean.to(self.running_mean), momentum.to(self.running_mean))
            self.running_covariance.lerp_(covariance.to(self.running_mean), momentum.to(self.running_mean))
        return mean, covariance

    def whitening(self, covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """V^(-1/2) as (rr, ii, ri), each (D,), of the covariance (3, D) plus ``eps``."""
        v_rr, v_ii, v_ri = covariance
        size = 0.5 * (v_rr + v_ii) + self.eps  # in units of it no square leaves the range of float32
        # Where re and im are proportional the determinant is rounding alone: the second eps is that of the dtype.
        eps = self.eps / size + torch.finfo(size.dtype).eps
        v_rr, v_ii, v_ri = v_rr / size, v_ii / size, v_ri / size
        det = (v_rr * v_ii - v_ri * v_ri).clamp(min=0) + eps * (v_rr + v_ii + eps)
        s = torch.sqrt(det)
        scale = torch.rsqrt(size * (2 + 2 * s)) / s  # the trace is 2 but for rounding
        return (v_ii + eps + s) * scale, (v_rr + eps + s) * scale, -v_ri * scale


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
