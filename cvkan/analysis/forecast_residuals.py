"""What a ridge regression leaves over on windows it was not fitted to: where the quantiles of forecasts start.

Legend: M pasts, L rows looked back, H rows ahead, Q quantiles.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from cvkan.analysis.forecasting import ForecastWindows, LinearForecast, moments, ridge_weights

FOLDS = 5
PASTS = 30_000  # taken at most: neighbouring windows say nearly the same, and 720 steps ahead are 90 MB of residuals


def residual_quantiles(
    windows: ForecastWindows, fit: LinearForecast, scale: Callable[[Tensor], Tensor], levels: Sequence[float]
) -> Tensor:
    """Quantiles of ``(y - M x) / scale(x)`` at each step ahead; columns count alike.

    The windows are cut into ``FOLDS`` stretches of time, and the M of each is the regression of the others: on the
    windows that it was fitted to a regression of a short series is far too sure of itself (0.71 of 0.8 covered, where
    these quantiles cover 0.74 to 0.82).

    Args:
        windows: those of training.
        fit: names level and penalty of the regression.
        scale: positive number of each past, (M, L) to (M, 1).
        levels: Q numbers between 0 and 1.

    Returns:
        Tensor (H, Q).
    """
    windows = windows.thinned(PASTS)
    folds = [replace(windows, starts=starts) for starts in windows.starts.tensor_split(min(FOLDS, len(windows)))]
    sums = [moments(fold) for fold in folds]
    residuals = []
    for fold, own in zip(folds, sums, strict=True):
        others = [one for one in sums if one is not own] or sums
        (weight,) = ridge_weights(reduce(operator.add, others), fit.level, (fit.penalty,))
        residuals += [(future - past @ weight.float().T) / scale(past) for past, future in fold.chunks()]  # (M, H) each
    return torch.from_numpy(np.quantile(torch.cat(residuals).numpy(), levels, axis=0).T).float()
