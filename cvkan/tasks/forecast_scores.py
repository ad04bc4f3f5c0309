"""Errors of forecasts, summed over all windows: by step ahead and channel, and of intervals.

Legend: B batch, C channels, H steps ahead, Q quantiles.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from cvkan.losses_forecast import Pinball


class ForecastErrors(Metric):
    """Mean squared and mean absolute error of each step and channel; :meth:`compute` returns both, (H, C) each.

    Args:
        n_steps: H.
        n_channels: C.
    """

    squared: Tensor
    absolute: Tensor
    count: Tensor

    def __init__(self, n_steps: int, n_channels: int) -> None:
        super().__init__()
        for name, size in {"squared": (n_steps, n_channels), "absolute": (n_steps, n_channels), "count": ()}.items():
            self.add_state(name, torch.zeros(size), dist_reduce_fx="sum")

    def update(self, forecast: Tensor, y: Tensor) -> None:
        """Count a batch: forecasts and truth, (B, H, C) each."""
        error = (forecast - y).float()
        self.squared = self.squared + error.square().sum(dim=0)
        self.absolute = self.absolute + error.abs().sum(dim=0)
        self.count = self.count + len(y)

    def compute(self) -> tuple[Tensor, Tensor]:
        return self.squared / self.count, self.absolute / self.count


class IntervalScores(Metric):
    """How good quantiles are: their mean pinball loss, and how often the truth lies between the outer two.

    Args:
        pinball: the loss, which knows the levels.
    """

    loss: Tensor
    covered: Tensor
    count: Tensor

    def __init__(self, pinball: Pinball) -> None:
        super().__init__()
        self.pinball = pinball
        for name in ("loss", "covered", "count"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")

    def update(self, forecast: Tensor, y: Tensor) -> None:
        """Count a batch: ascending quantiles (B, H, C, Q), truth (B, H, C)."""
        inside = (forecast[..., 0] <= y) & (y <= forecast[..., -1])  # (B, H, C)
        self.loss = self.loss + self.pinball(forecast, y) * len(y)
        self.covered = self.covered + inside.float().mean() * len(y)
        self.count = self.count + len(y)

    def compute(self) -> tuple[Tensor, Tensor]:
        return self.loss / self.count, self.covered / self.count
