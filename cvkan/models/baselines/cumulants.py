"""Logistic regression on cumulants: what modulation recognition could do before it learned its features.

Legend: B frames, T samples, K outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvkan.models.heads import LinearHead, RowNorm
from cvkan.models.iq import iq_length
from cvkan.radio.cumulants import CUMULANTS, cumulants
from cvkan.spec import Spec


class CumulantNet(nn.Module):
    """Cumulants of the frame, standardised over the training batches, then one linear map.

    Args:
        spec: frames of I/Q samples (T,).

    Raises:
        ValueError: the samples are no I/Q frames.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        iq_length(spec, "model=cumulants")
        self.norm = RowNorm(len(CUMULANTS), affine=False)
        self.head = LinearHead(len(CUMULANTS), spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of frames (B, T) complex."""
        with torch.no_grad():  # nothing to learn in the features
            features = cumulants(x)  # (B, 9)
        return self.head(self.norm(features))
