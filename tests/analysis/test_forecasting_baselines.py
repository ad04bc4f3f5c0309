"""Closed-form forecasts against scikit-learn, plain loops and series whose future is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from cvkan.analysis import forecasting
from cvkan.analysis.forecasting import (
    PENALTIES,
    ForecastWindows,
    fit_ridge,
    forecast_errors,
    moments,
    no_level,
    seasonal_naive,
    window_mean,
)


def walk(n_rows: int, n_columns: int, seed: int = 0) -> Tensor:
    """Random walks about a season of 6."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(n_rows, n_columns, generator=generator)
    season = torch.sin(torch.arange(n_rows) * (2 * torch.pi / 6))
    return steps.cumsum(0) * 0.2 + season[:, None] + torch.randn(n_columns, generator=generator)


def windows(table: Tensor, first: int, end: int, lookback: int = 10, horizon: int = 4) -> ForecastWindows:
    return ForecastWindows(table, torch.arange(first, end - lookback - horizon + 1), lookback, horizon)


def pairs(parts: ForecastWindows) -> tuple[np.ndarray, np.ndarray]:
    """All pasts and futures by plain loops, in float64."""
    table = parts.table.double().numpy()
    cut = [
        (table[s : s + parts.lookback, c], table[s + parts.lookback : s + parts.lookback + parts.horizon, c])
        for s in parts.starts.tolist()
        for c in range(table.shape[1])
    ]
    return np.stack([past for past, _ in cut]), np.stack([future for _, future in cut])


@given(starts=st.lists(st.integers(0, 26), min_size=1, max_size=9), lookback=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_windows_are_slices_of_the_table(starts: list[int], lookback: int) -> None:
    table = torch.arange(80.0).view(40, 2)
    parts = ForecastWindows(table, torch.tensor(starts), lookback, 5)
    past, future = parts.at(torch.arange(len(starts)))
    for i, start in enumerate(starts):
        assert torch.equal(past[i].T, table[start : start + lookback])
        assert torch.equal(future[i].T, table[start + lookback : start + lookback + 5])


def test_chunks_are_all_windows_and_another_past_keeps_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasting, "CHUNK", 200)  # two windows of 14 rows and 7 columns
    parts = windows(walk(60, 7), 20, 60)
    chunks = list(parts.chunks())
    assert len(chunks) > 10
    for found, expected in zip(map(torch.cat, zip(*chunks, strict=True)), pairs(parts), strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)
    longer = parts.looking_back(25)
    assert torch.equal(longer.at(torch.arange(5))[1], parts.at(torch.arange(5))[1])
    assert torch.equal(longer.at(torch.arange(5))[0][..., -10:], parts.at(torch.arange(5))[0])


def test_windows_outside_the_table_are_refused() -> None:
    table = torch.zeros(20, 1)
    for starts in ([-1], [0, 7]):
        with pytest.raises(ValueError, match="windows must start at rows 0 to 6"):
            ForecastWindows(table, torch.tensor(starts), 10, 4)
    with pytest.raises(ValueError, match="a window needs a past and a future"):
        ForecastWindows(table, torch.tensor([0]), 10, 0)


def test_the_last_season_comes_again_and_again() -> None:
    past = torch.arange(10.0)
    assert seasonal_naive(past, 4, 9).tolist() == [6, 7, 8, 9, 6, 7, 8, 9, 6]
    assert seasonal_naive(past.expand(2, 3, 10), 1, 2).tolist() == [[[9, 9]] * 3] * 2
    for period in (0, 11):
        with pytest.raises(ValueError, match="period must be from 1 to the 10 rows"):
            seasonal_naive(past, period, 2)


def test_errors_are_means_over_every_number(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = windows(walk(90, 3), 0, 90)
    past, future = pairs(parts)
    errors = np.repeat(past[:, -1:], 4, axis=1) - future
    expected = (np.square(errors).mean(), np.abs(errors).mean())
    for size in (10**6, 100):  # chunks of other sizes, and a last one of its own
        monkeypatch.setattr(forecasting, "CHUNK", size)
        assert forecast_errors(lambda x: seasonal_naive(x, 1, 4), parts) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("centered", [False, True])
def test_the_fit_is_ridge_regression_with_the_best_penalty_on_validation(centered: bool) -> None:
    table = walk(300, 2)
    train, val = windows(table, 0, 60), windows(table, 50, 300)
    fit = fit_ridge(moments(train), moments(val), (window_mean if centered else no_level)(10))
    (x, y), (x_val, y_val) = pairs(train), pairs(val)
    level, level_val = (a.mean(axis=1, keepdims=True) * centered for a in (x, x_val))
    scale = np.square(x - level).sum() / 10  # mean of the Gram matrix's diagonal
    models = {p: Ridge(alpha=p * scale, fit_intercept=False).fit(x - level, y - level) for p in PENALTIES}
    scores = {p: np.square(model.predict(x_val - level_val) + level_val - y_val).mean() for p, model in models.items()}
    best = min(scores, key=scores.__getitem__)
    assert (fit.penalty, fit.val_mse) == (best, pytest.approx(scores[best], rel=1e-6))
    assert len(set(np.round(list(scores.values()), 6))) > 3  # the penalty matters here
    expected = models[best].predict(x_val - level_val) + level_val
    np.testing.assert_allclose(fit(torch.from_numpy(x_val).float()).numpy(), expected, atol=1e-4)
    assert forecast_errors(fit, val)[0] == pytest.approx(fit.val_mse, rel=1e-5)


def test_a_fit_about_the_window_mean_follows_place_and_scale() -> None:
    table = walk(200, 2)
    fit = fit_ridge(moments(windows(table, 0, 150)), moments(windows(table, 140, 200)), window_mean(10))
    past = walk(10, 1, seed=5).T
    torch.testing.assert_close(fit.weight.sum(1), torch.ones(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(fit(100 + 3 * past), 100 + 3 * fit(past), atol=1e-3, rtol=0)


def test_a_linear_recurrence_is_forecast_exactly() -> None:
    t = torch.arange(200.0)
    table = torch.stack([torch.sin(0.3 * t), torch.cos(0.3 * t)], dim=1)
    fit = fit_ridge(moments(windows(table, 0, 150)), moments(windows(table, 140, 200)), no_level(10))
    assert forecast_errors(fit, windows(table, 140, 200))[0] < 1e-9


def test_fewer_windows_than_unknowns_and_series_at_rest_stay_finite() -> None:
    few = walk(40, 1)
    fit = fit_ridge(moments(windows(few, 0, 25, 20, 4)), moments(windows(few, 5, 40, 20, 4)), window_mean(20))
    assert fit.weight.isfinite().all()
    still = torch.full((40, 1), 2.0)
    fit = fit_ridge(moments(windows(still, 0, 25)), moments(windows(still, 5, 40)), window_mean(10))
    torch.testing.assert_close(fit(still[:10].T), still[:4].T)


def test_large_sets_are_thinned_evenly() -> None:
    parts = windows(walk(60, 2), 0, 60)  # 47 windows, 94 pasts
    assert parts.thinned(30).starts.tolist() == list(range(0, 47, 4))
    assert windows(walk(24, 2), 0, 24).thinned(30).starts.tolist() == list(range(11))


def test_moments_of_two_sets_of_windows_add_up() -> None:
    table = walk(90, 2)
    first, second, both = (moments(windows(table, *rows)) for rows in ((0, 50), (37, 90), (0, 90)))
    for found, expected in zip(vars(first + second).values(), vars(both).values(), strict=True):
        torch.testing.assert_close(found, expected)
