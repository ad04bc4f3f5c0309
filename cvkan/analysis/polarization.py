"""How polarized tokens are: pure functions on tensors.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cvkan.core.polar import Planes, squared_magnitude


def token_magnitude(z: Planes) -> Tensor:
    """Mean magnitude of each token over its channels: planes (B, N, D) to (B, N)."""
    return torch.sqrt(squared_magnitude(z)).mean(dim=-1)


def topk_recovery(scores: Tensor, wanted: Tensor) -> Tensor:
    """Share of the k wanted tokens among the k highest scores, a sample.

    Args:
        scores: (B, N), higher = more likely wanted.
        wanted: (B, N), 1 = wanted; k is its sum, at least 1.

    Returns:
        Tensor (B,) in [0, 1].
    """
    k = wanted.sum(dim=1, keepdim=True)  # (B, 1)
    rank = scores.argsort(dim=1, descending=True).argsort(dim=1)  # (B, N)
    return ((rank < k) * wanted).sum(dim=1) / k.squeeze(1).clamp(min=1)
