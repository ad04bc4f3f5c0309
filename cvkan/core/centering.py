"""Centring of log-magnitudes: one real factor, so that no phase changes.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvkan.core.linear import masked
from cvkan.core.polar import Planes, complex_in_complex_out, log_magnitude, squared_magnitude


class Centering(nn.Module):
    """Base of all centrings, built as ``Centering(causal)``; stands at the end of each layer, on the stream.

    Args:
        causal: means run over the tokens up to each one, so that none depends on a later one.
    """

    def __init__(self, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) to planes (B, N, D); mask (B, N), 1 = valid. Complex in, complex out."""
        raise NotImplementedError


class NoCentering(Centering):
    """Identity: magnitudes in the stream keep what the layers made of them."""

    @complex_in_complex_out
    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D), unchanged."""
        return z


class TokenCentering(Centering):
    """z exp(-mean_t log|z_t|): the mean log-magnitude over the tokens becomes 0, a sample and channel.

    With one token it sets every |z| to 1. Source: the centring of the original CV-KAN, there by way of the polar form;
    here as one real factor.
    """

    @complex_in_complex_out
    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) whose log-magnitudes average to 0 over the valid tokens, a channel; 0 at padded tokens."""
        z = masked(z, mask)
        factor = torch.exp(-mean_log_magnitude(z, self.causal))  # (B, 1 or N, D)
        return z[0] * factor, z[1] * factor


class SampleCentering(Centering):
    """z exp(-mean_td log|z_td|): one factor a sample, so that ratios between channels stay. Source: own choice."""

    @complex_in_complex_out
    def forward(self, z: Planes, mask: Tensor | None = None) -> Planes:
        """Planes (B, N, D) whose log-magnitudes average to 0 over valid tokens and channels; 0 at padded tokens."""
        z = masked(z, mask)
        factor = torch.exp(-mean_log_magnitude(z, self.causal, per_sample=True))  # (B, 1 or N, 1)
        return z[0] * factor, z[1] * factor


def mean_log_magnitude(z: Planes, causal: bool, per_sample: bool = False) -> Tensor:
    """Mean of log|z| over the tokens that are there, each with weight |z|^2 / (|z|^2 + eps^2).

    A silent token has the floor of the logarithm for a magnitude, -6.9: with an equal say, a sample that is mostly
    silent would be blown up by e^(6.9 p / (1 - p)) for a silent share p. Padded tokens must be 0.

    Args:
        z: planes (B, N, D).
        causal: a mean for each token, over the tokens up to it.
        per_sample: over channels too.

    Returns:
        Tensor (B, 1 or N, D or 1); 0 where all is silent.
    """
    r2 = squared_magnitude(z)
    presence = squared_magnitude(z, 0.0) / r2
    total, weight = presence * log_magnitude(r2), presence
    if per_sample:
        total, weight = total.sum(dim=-1, keepdim=True), weight.sum(dim=-1, keepdim=True)
    if causal:
        total, weight = total.cumsum(dim=1), weight.cumsum(dim=1)
    else:
        total, weight = total.sum(dim=1, keepdim=True), weight.sum(dim=1, keepdim=True)
    return total / weight.clamp(min=1e-6)
