"""The loss of forecasts by quantiles.

Legend: Q quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Pinball(nn.Module):
    """``mean_q max(q e, (q - 1) e)`` with ``e = y - forecast_q``: each output becomes the quantile q of its target.

    Args:
        quantiles: levels, ascending, between 0 and 1, the median 0.5 among them: it is the point forecast.

    Raises:
        ValueError: there are none, or they are out of range or order.

    Source: Koenker and Bassett, "Regression Quantiles", 1978.
    """

    levels: Tensor

    def __init__(self, quantiles: Sequence[float]) -> None:
        super().__init__()
        ascending = all(low < high for low, high in pairwise(quantiles))
        if not ascending or 0.5 not in quantiles or not 0 < quantiles[0] <= quantiles[-1] < 1:
            raise ValueError(
                f"quantiles must ascend between 0 and 1 with 0.5 among them, got {list(quantiles)}; "
                "set domain.quantiles=[0.1,0.5,0.9], for example"
            )
        self.quantiles = tuple(quantiles)
        self.register_buffer("levels", torch.tensor(self.quantiles), persistent=False)

    def forward(self, forecast: Tensor, y: Tensor) -> Tensor:
        """Mean loss of forecasts (..., Q) of targets (...)."""
        return self.by_level(forecast, y).mean()

    def by_level(self, forecast: Tensor, y: Tensor) -> Tensor:
        """Mean loss (Q,) of each level, float32 at least.

        Raises:
            ValueError: the forecast has not one number a level.
        """
        if forecast.shape != (*y.shape, len(self.quantiles)):
            raise ValueError(
                f"expected forecasts of shape {(*y.shape, len(self.quantiles))}, got {tuple(forecast.shape)}; "
                "give the model one output a quantile"
            )
        error = y.unsqueeze(-1) - forecast  # (..., Q)
        return torch.maximum(self.levels * error, (self.levels - 1) * error).flatten(0, -2).mean(dim=0)
