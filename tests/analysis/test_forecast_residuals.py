"""Quantiles of what a regression leaves over on windows that it was not fitted to, against a plain cross-validation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from cvkan.analysis import forecast_residuals
from cvkan.analysis.forecast_residuals import residual_quantiles
from cvkan.analysis.forecasting import ForecastWindows, fit_ridge, forecast_errors, moments, no_level, window_mean

LEVELS = (0.1, 0.5, 0.9)


def noise(n_rows: int, n_columns: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(n_rows, n_columns, generator=torch.Generator().manual_seed(seed))


def windows(table: Tensor, lookback: int, horizon: int) -> ForecastWindows:
    return ForecastWindows(table, torch.arange(len(table) - lookback - horizon + 1), lookback, horizon)


def unscaled(past: Tensor) -> Tensor:
    return torch.ones(len(past), 1)


def test_each_stretch_is_judged_by_the_regression_of_the_others() -> None:
    train, val = (windows(noise(n, seed=n).cumsum(0), 6, 3) for n in (63, 200))  # 55 windows: stretches of 11
    fit = fit_ridge(moments(train), moments(val), window_mean(6))
    past, future = (part.squeeze(1).double().numpy() for part in train.at(torch.arange(55)))
    level = past.mean(axis=1, keepdims=True)
    left = []
    for stretch in np.arange(55).reshape(5, 11):
        rest = np.setdiff1d(np.arange(55), stretch)
        x, y = past[rest] - level[rest], future[rest] - level[rest]
        model = Ridge(alpha=fit.penalty * np.square(x).sum() / 6, fit_intercept=False).fit(x, y)
        left.append(future[stretch] - model.predict(past[stretch] - level[stretch]) - level[stretch])
    scaled = np.concatenate(left) / (2 + past[:, -1:] ** 2)
    found = residual_quantiles(train, fit, lambda x: 2 + x[:, -1:].square(), LEVELS)
    np.testing.assert_allclose(found, np.quantile(scaled, LEVELS, axis=0).T, rtol=1e-3, atol=1e-4)


def test_a_regression_of_noise_with_many_unknowns_is_not_believed() -> None:
    """Of noise there is nothing to know: in truth 0.1 and 0.9 are 1.28 apart from 0, and more with a fit of chance."""
    train = windows(noise(120), 60, 1)
    fit = fit_ridge(moments(train), moments(train), no_level(60))  # least penalty
    seen = forecast_errors(fit, train)[0] ** 0.5
    assert seen < 0.2
    low, _, high = residual_quantiles(train, fit, unscaled, LEVELS)[0].tolist()
    assert high - low > 2 * 1.28


def test_columns_count_alike_and_thinning_changes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    train = windows(noise(4000, 2), 8, 2)
    fit = fit_ridge(moments(train), moments(train), no_level(8))
    whole = residual_quantiles(train, fit, unscaled, LEVELS)
    assert whole.shape == (2, 3)
    torch.testing.assert_close(whole, torch.tensor([[-1.28, 0, 1.28]]).expand(2, 3), atol=0.06, rtol=0)
    monkeypatch.setattr(forecast_residuals, "PASTS", 4000)
    torch.testing.assert_close(residual_quantiles(train, fit, unscaled, LEVELS), whole, atol=0.06, rtol=0)


def test_one_window_alone_stays_finite() -> None:
    train = windows(noise(10), 8, 2)
    fit = fit_ridge(moments(train), moments(train), window_mean(8))
    assert residual_quantiles(train, fit, unscaled, LEVELS).isfinite().all()
