"""Quantiles of what a regression leaves over on windows that it was not fitted to, against the least pinball loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from cvkan.analysis import forecast_residuals
from cvkan.analysis.forecast_residuals import residual_quantiles, weighted_quantiles
from cvkan.analysis.forecasting import ForecastWindows, fit_ridge, forecast_errors, moments, no_level, window_mean

LEVELS = (0.1, 0.5, 0.9)


def noise(n_rows: int, n_columns: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(n_rows, n_columns, generator=torch.Generator().manual_seed(seed))


def windows(table: Tensor, lookback: int, horizon: int) -> ForecastWindows:
    return ForecastWindows(table, torch.arange(len(table) - lookback - horizon + 1), lookback, horizon)


def unscaled(past: Tensor) -> Tensor:
    return torch.ones(len(past), 1)


def deviation(past: Tensor) -> Tensor:
    """Of the window, as its normalisation divides by it."""
    return (past.var(dim=1, correction=0, keepdim=True) + 1e-5).sqrt()


def sun(n_rows: int) -> Tensor:
    """Days of 24 rows, dark for half of them, each of another brightness."""
    hours = torch.arange(n_rows)
    brightness = torch.rand(n_rows // 24 + 1, generator=torch.Generator().manual_seed(n_rows))[hours // 24]
    return (brightness * torch.sin(2 * torch.pi * hours / 24).clamp(min=0))[:, None]


def wandering(n_rows: int) -> Tensor:
    return noise(n_rows, seed=n_rows).cumsum(0)


@pytest.mark.parametrize(
    ("table", "scale"), [(wandering, lambda x: 2 + x[:, -1:].square()), (sun, deviation)], ids=["wandering", "sun"]
)
def test_they_have_the_least_pinball_loss_about_the_regression_of_the_other_stretches(
    table: Callable[[int], Tensor], scale: Callable[[Tensor], Tensor]
) -> None:
    train, val = (windows(table(n), 6, 3) for n in (128, 200))  # 120 windows: stretches of 24
    fit = fit_ridge(moments(train), moments(val), window_mean(6))
    past, future = (part.squeeze(1).double().numpy() for part in train.at(torch.arange(120)))
    level = past.mean(axis=1, keepdims=True)
    left = []
    for stretch in np.arange(120).reshape(5, 24):
        rest = np.setdiff1d(np.arange(120), stretch)
        x, y = past[rest] - level[rest], future[rest] - level[rest]
        model = Ridge(alpha=fit.penalty * np.square(x).sum() / 6, fit_intercept=False).fit(x, y)
        left.append(future[stretch] - model.predict(past[stretch] - level[stretch]) - level[stretch])
    residual, size = np.concatenate(left), scale(torch.from_numpy(past)).numpy()  # (120, 3), (120, 1)

    def losses(bias: np.ndarray) -> np.ndarray:
        """(H, Q, n) of n biases for each step and level."""
        over = residual.T[:, None, None] - bias[..., None] * size[:, 0]  # (H, Q, n, 120)
        level = np.array(LEVELS)[:, None, None]
        return np.maximum(level * over, (level - 1) * over).mean(axis=-1)

    corners = (residual / size).T[:, None].repeat(3, axis=1)  # (H, Q, 120): one of these has the least loss
    found = residual_quantiles(train, fit, scale, LEVELS).double().numpy()
    np.testing.assert_allclose(losses(found[..., None])[..., 0], losses(corners).min(axis=-1), rtol=1e-4)


def test_windows_that_hardly_move_decide_nothing() -> None:
    train = windows(sun(960), 6, 3)
    fit = fit_ridge(moments(train), moments(train), window_mean(6))
    assert residual_quantiles(train, fit, deviation, LEVELS).abs().max() < 5  # 34 if all windows weighed alike


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 3)), min_size=1, max_size=9), st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_weights_are_repetitions(pairs: list[tuple[int, int]], level: float) -> None:
    pairs.append((1, 1))  # some weight there is
    values, weights = (torch.tensor(column, dtype=torch.float32) for column in zip(*pairs, strict=True))
    repeated = np.repeat(values.numpy(), weights.int().numpy())
    expected = np.quantile(repeated, level, method="inverted_cdf")
    assert weighted_quantiles(values, weights, [level]).item() == expected


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
