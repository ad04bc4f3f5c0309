"""What a ridge regression leaves over on windows it was not fitted to: where the quantiles of forecasts start.

Legend: M pasts, L rows looked back, H rows ahead, Q quantiles, N numbers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from cvkan.analysis.forecasting import ForecastWindows, LinearForecast, moments, ridge_weights

FOLDS = 5
PASTS = 30_000  # taken at most: neighbouring windows say nearly the same, and 720 steps ahead are 90 MB of residuals


def residual_quantiles(
    windows: ForecastWindows, fit: LinearForecast, scale: Callable[[Tensor], Tensor], levels: Sequence[float]
) -> Tensor:
    r"""Quantiles of r = (y - M x) / s at each step ahead, s = ``scale(x)``; each weighs s, and columns count alike.

    As pinball(y - M x - b s) = s pinball(r - b), these are the b of the least loss on the scale of the data. Were all r
    alike, windows that hardly move, such as those of the sun at night, would decide: their s is next to nothing.

    The windows are cut into ``FOLDS`` stretches of time, and the M of each is the regression of the others: on the
    windows that it was fitted to a regression of a short series is far too sure of itself.

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
    residuals, scales = [], []
    for fold, own in zip(folds, sums, strict=True):
        others = [one for one in sums if one is not own] or sums
        (weight,) = ridge_weights(reduce(operator.add, others), fit.level, (fit.penalty,))
        for past, future in fold.chunks():
            scales.append(scale(past))  # (M, 1)
            residuals.append((future - past @ weight.float().T) / scales[-1])  # (M, H)
    weights = torch.cat(scales).squeeze(1)
    # A step at a time: the order and the weights of 720 of them would be 500 MB.
    return torch.stack([weighted_quantiles(step, weights, levels) for step in torch.cat(residuals).T])


def weighted_quantiles(values: Tensor, weights: Tensor, levels: Sequence[float]) -> Tensor:
    """The least values that at least a share q of the weight does not exceed: min_b sum_n w_n pinball_q(v_n - b).

    Args:
        values: v (N,).
        weights: w (N,), not negative, some of them positive.
        levels: Q numbers q between 0 and 1.

    Returns:
        Tensor (Q,).

    Source: R. Koenker, G. Bassett, "Regression Quantiles", Econometrica 46 (1978), with weights.
    """
    ordered, order = values.sort()
    below = weights.double()[order].cumsum(dim=0)  # (N,)
    return ordered[torch.searchsorted(below, below[-1] * torch.tensor(levels, dtype=torch.float64))]
