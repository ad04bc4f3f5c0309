"""A linear map of the window beside the network.

Legend: B batch (windows of single channels), L steps of a window, H steps ahead, Q quantiles (1 where there are none).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cvkan.models.series import series_length
from cvkan.models.skip import Skip
from cvkan.spec import Spec

STARTS = ("ridge", "last", "zero")


@runtime_checkable
class LinearStart(Protocol):
    """A module that can start as a linear forecast."""

    def start_at(self, weight: Tensor) -> None:
        """Take over ``weight`` (H, L), the map from a window to the steps ahead, if that is the start asked for."""
        ...


class LinearSkip(Skip):
    r"""``(W_0 + rate W) x + logits``: a linear forecast, the same for all channels, and the network on top.

    W_0 is a fixed start and W, from 0 on, what training changes about it. Adam moves every weight by about its learning
    rate, so that ``rate`` is the learning rate of the map in units of the network's, and weight decay draws the map to
    its start. With ``task_head.gain=0`` the untrained network is this start and nothing else.

    Args:
        spec: windows (L,) and the H steps ahead.
        start: ``ridge``, which the task sets from the training windows by :meth:`start_at`; ``last``, the last value;
            ``zero``.
        rate: at least 0; 0 keeps the map at its start.

    Raises:
        ValueError: the data asks for something else than forecasts, or an argument is out of range.

    Source: own choice; a linear forecast is hard to beat (Zeng et al., "Are Transformers Effective for Time Series
        Forecasting?", 2023).
    """

    start_weight: Tensor

    def __init__(self, spec: Spec, start: str, rate: float) -> None:
        super().__init__()
        if spec.target != "forecast":
            raise ValueError(
                f"skip=linear is for targets of kind 'forecast', the data has {spec.target!r}; set skip=none"
            )
        if start not in STARTS:
            raise ValueError(f"start must be one of {', '.join(STARTS)}, got {start!r}; set skip.start=ridge")
        if rate < 0:
            raise ValueError(f"rate must not be negative, got {rate}; set skip.rate=0 to keep the map at its start")
        if start == "zero" and not rate:
            raise ValueError("a map that stays at 0 tells nothing; set skip.rate=0.1, for example, or skip=none")
        lookback, self.n_quantiles = series_length(spec, "skip=linear"), max(1, len(spec.quantiles))
        self.start, self.rate = start, rate
        weight = torch.zeros(spec.n_outputs // self.n_quantiles, lookback)
        if start == "last":
            weight[:, -1] = 1.0
        self.register_buffer("start_weight", weight)
        self.weight = nn.Parameter(torch.zeros(spec.n_outputs, lookback)) if rate else None

    def start_at(self, weight: Tensor) -> None:
        """Start at a linear forecast (H, L), with ``start=ridge``; other starts stay what they are."""
        if self.start == "ridge":
            self.start_weight.copy_(weight)

    def forward(self, logits: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, H Q) of the network and windows (B, L) to forecasts (B, H Q)."""
        weight = self.start_weight.repeat_interleave(self.n_quantiles, dim=0)  # (H Q, L): alike for quantiles
        if self.weight is not None:
            weight = weight + self.rate * self.weight
        return logits + x @ weight.T
