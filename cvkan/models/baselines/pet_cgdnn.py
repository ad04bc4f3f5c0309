"""PET-CGDNN: an estimated phase is taken out, then two convolutions and a GRU.

Source: Zhang, Luo, Xu and Luo, "An efficient deep learning model for automatic modulation recognition based on
parameter estimation and transformation", IEEE Communications Letters 25(10), 2021.

Legend: B frames, T samples, C channels, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.models.iq import iq_length, iq_planes
from cvkan.spec import Spec

WIDTHS = (8, 5)  # samples of the filters of both convolutions


class PETCGDNN(nn.Module):
    """A linear map of all samples gives one angle, the frame is turned back by it; convolutions, a GRU, the head.

    71,871 parameters with 128 samples and 11 classes, as published.

    Args:
        spec: frames of I/Q samples (T,).
        dropout: probability of dropping a sample before the angle is estimated.
        head: constructor of what makes logits of features, ``head(n_features, spec)``.

    Raises:
        ValueError: the samples are no I/Q frames, or shorter than the filters.
    """

    def __init__(self, spec: Spec, *, dropout: float, head: Callable[..., nn.Module]) -> None:
        super().__init__()
        n_samples = iq_length(spec, "model=pet_cgdnn", at_least=sum(WIDTHS))
        self.angle = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * n_samples, 1))
        self.joined = nn.Conv2d(1, 75, (2, WIDTHS[0]))
        self.narrow = nn.Conv1d(75, 25, WIDTHS[1])
        self.gru = nn.GRU(25, 128, batch_first=True)
        self.head = head(n_features=128, spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of frames (B, T) complex; mask (B, T), 1 = valid sample."""
        turned = self.turned_back(iq_planes(x, mask))  # (B, 2, T)
        maps = F.relu(self.joined(turned.unsqueeze(1))).squeeze(2)  # (B, 75, T - 7)
        maps = F.relu(self.narrow(maps))  # (B, 25, T - 11)
        _, last = self.gru(maps.transpose(1, 2))  # (1, B, 128)
        return self.head(last[0])

    def turned_back(self, planes: Tensor) -> Tensor:
        """x exp(-i angle(x)) of planes (B, 2, T)."""
        angle = self.angle(planes).float()  # (B, 1)
        cos, sin = angle.cos(), angle.sin()
        re, im = planes.unbind(1)  # (B, T) each
        return torch.stack([re * cos + im * sin, im * cos - re * sin], dim=1)
