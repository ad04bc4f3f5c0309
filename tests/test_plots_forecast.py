"""Pictures of forecasts: what is drawn is what was given."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from cvkan import plots_forecast

N_WINDOWS, N_PAST, N_AHEAD, CHANNELS = 2, 6, 3, ["load", "oil", "wind"]
DRAW = torch.Generator().manual_seed(0)
HISTORY = torch.randn(N_WINDOWS, N_PAST, 3, generator=DRAW)
TRUTH, FORECAST = torch.randn(2, N_WINDOWS, N_AHEAD, 3, generator=DRAW)
INTERVAL = torch.stack([FORECAST - 1, FORECAST + 2], dim=-1)


def drawn(figure: Figure) -> Figure:
    """The figure after it was rendered; nothing of it may be cut off at its edges."""
    figure.savefig(io.BytesIO(), format="png")
    inside = figure.bbox
    found = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert found.x0 >= inside.x0 - 1
    assert found.y0 >= inside.y0 - 1
    assert found.x1 <= inside.x1 + 1
    assert found.y1 <= inside.y1 + 1
    return figure


def test_each_window_has_a_row_and_each_channel_a_column() -> None:
    figure = drawn(plots_forecast.forecasts(HISTORY, TRUTH, FORECAST, INTERVAL, CHANNELS))
    axes = np.array(figure.axes).reshape(N_WINDOWS, 3)
    assert [axis.get_title() for axis in axes[0]] == CHANNELS
    for row, column in np.ndindex(axes.shape):
        known, told, now = (line.get_xydata() for line in axes[row, column].lines)
        np.testing.assert_allclose(known[:, 1], [*HISTORY[row, :, column], *TRUTH[row, :, column]])
        np.testing.assert_allclose(known[:, 0], [-5, -4, -3, -2, -1, 0, 1, 2, 3])
        np.testing.assert_allclose(told[:, 1], FORECAST[row, :, column])
        np.testing.assert_allclose(told[:, 0], [1, 2, 3])
        assert 0 < now[0, 0] < 1
        (shade,) = axes[row, column].collections
        inside = shade.get_paths()[0].get_extents()
        assert inside.y0 == pytest.approx(float(INTERVAL[row, :, column, 0].min()))
        assert inside.y1 == pytest.approx(float(INTERVAL[row, :, column, 1].max()))


def test_without_quantiles_there_is_no_shade() -> None:
    figure = drawn(plots_forecast.forecasts(HISTORY[:1], TRUTH[:1], FORECAST[:1], None, CHANNELS))
    assert not any(axis.collections for axis in figure.axes)


def test_error_by_horizon_names_each_forecast_and_its_mean() -> None:
    errors = {
        "last value": torch.tensor([1.0, 2.0, 3.0]),
        "ridge": torch.tensor([0.5, 0.6, 0.7]),
        "this run": torch.tensor([0.5, 0.5, 0.8]),
    }
    (axis,) = drawn(plots_forecast.error_by_horizon(errors)).axes
    labels = [line.get_label() for line in axis.lines]
    assert labels == ["last value, mean 2.000", "ridge, mean 0.600", "this run, mean 0.600"]
    assert [line.get_linestyle() for line in axis.lines] == ["--", "--", "-"]
    for line, values in zip(axis.lines, errors.values(), strict=True):
        np.testing.assert_allclose(line.get_xydata(), np.column_stack([[1, 2, 3], values]), rtol=1e-6)
