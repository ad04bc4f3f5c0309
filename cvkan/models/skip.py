"""A simple model beside the network: it sees the sample itself, and its answer is added to the network's.

Strong rivals of a network are often simple: a linear map of the window, a bag of words. A network with such a skip
contains its rival and has only the rest to learn.

Legend: B batch, K outputs.
"""

from __future__ import annotations

from torch import Tensor, nn

from cvkan.spec import Spec


class Skip(nn.Module):
    """Base of all skips, built as ``skip(spec=spec)``."""

    def forward(self, logits: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of the network, with those of the simple model for x (B, ...), mask (B, N), added."""
        raise NotImplementedError


class NoSkip(Skip):
    """The network alone.

    Args:
        spec: plays no part.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()

    def forward(self, logits: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits as they are."""
        return logits
