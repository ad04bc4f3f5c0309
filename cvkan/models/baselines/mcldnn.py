"""MCLDNN: convolutions of I and Q together and apart, then two LSTMs.

Source: Xu, Luo, Parr and Luo, "A spatiotemporal multi-channel learning framework for automatic modulation recognition",
IEEE Wireless Communications Letters 9(10), 2020.

Legend: B frames, T samples, C channels, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.models.iq import iq_length, iq_planes
from cvkan.spec import Spec

WIDTH = 8  # samples of the first filters
TAIL = 5  # of the last


class MCLDNN(nn.Module):
    """Three streams (both planes, I, Q) of 50 channels, joined, two LSTMs of 128 units, two SELU layers, the head.

    406,199 parameters with 11 classes, as published. It differs from the paper in nothing but the framework: LSTMs have
    two biases, as those of the authors' code had on a GPU.

    Args:
        spec: frames of I/Q samples (T,).
        dropout: probability of dropping a feature after each of the two last layers.
        head: constructor of what makes logits of features, ``head(n_features, spec)``.

    Raises:
        ValueError: the samples are no I/Q frames, or shorter than a filter.
    """

    def __init__(self, spec: Spec, *, dropout: float, head: Callable[..., nn.Module]) -> None:
        super().__init__()
        iq_length(spec, "model=mcldnn", at_least=WIDTH)
        self.both = nn.Conv2d(1, 50, (2, WIDTH))
        self.in_phase, self.quadrature = nn.Conv1d(1, 50, WIDTH), nn.Conv1d(1, 50, WIDTH)
        self.apart = nn.Conv2d(50, 50, (1, WIDTH))
        self.joined = nn.Conv2d(100, 100, (2, TAIL))
        self.lstm = nn.LSTM(100, 128, num_layers=2, batch_first=True)
        self.dense = nn.Sequential(
            *(nn.Linear(128, 128), nn.SELU(), nn.Dropout(dropout)),
            *(nn.Linear(128, 128), nn.SELU(), nn.Dropout(dropout)),
        )
        self.head = head(n_features=128, spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of frames (B, T) complex; mask (B, T), 1 = valid sample."""
        planes = iq_planes(x, mask)  # (B, 2, T)
        both = F.relu(self.both(padded(planes.unsqueeze(1), rows=1)))  # (B, 50, 2, T)
        apart = [
            F.relu(conv(F.pad(plane, (WIDTH - 1, 0))))  # (B, 50, T), causal
            for conv, plane in zip((self.in_phase, self.quadrature), planes.split(1, dim=1), strict=True)
        ]
        apart_joined = F.relu(self.apart(padded(torch.stack(apart, dim=2), rows=0)))  # (B, 50, 2, T)
        maps = F.relu(self.joined(torch.cat([both, apart_joined], dim=1)))  # (B, 100, 1, T - 4)
        sequence, _ = self.lstm(maps.squeeze(2).transpose(1, 2))  # (B, T - 4, 128)
        return self.head(self.dense(sequence[:, -1]))


def padded(maps: Tensor, rows: int) -> Tensor:
    """Maps (B, C, 2, T) with the zeros that keep their size under filters of 1 + ``rows`` by 8: more behind."""
    return F.pad(maps, ((WIDTH - 1) // 2, WIDTH // 2, 0, rows))
