"""The forecasting task: its errors against scikit-learn, its start against the ridge, intervals, pictures."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, mean_squared_error
from torch import Tensor, nn

from cvkan.analysis.forecasting import (
    ForecastWindows,
    LinearForecast,
    fit_ridge,
    forecast_errors,
    moments,
    no_level,
    window_mean,
)
from cvkan.analysis.polarization import polarization
from cvkan.domains.datamodule import DataModule, TensorSplit
from cvkan.losses_forecast import Pinball
from cvkan.models.baselines.dlinear import DLinear
from cvkan.models.heads import LinearHead
from cvkan.models.skip_linear import LinearSkip
from cvkan.schedulers import constant
from cvkan.spec import Spec
from cvkan.tasks.forecasting import ForecastingTask
from cvkan.tasks.forecasting_frame import WindowNormalization

N_PAST, N_AHEAD, CHANNELS = 12, 5, ("load", "oil", "wind")
SPEC = Spec((N_PAST,), "forecast", N_AHEAD, channels=CHANNELS)
LEVELS = (0.1, 0.5, 0.9)
QUANTILES = Spec((N_PAST,), "forecast", 3 * N_AHEAD, channels=CHANNELS, quantiles=LEVELS)


class Waves(DataModule):
    """Noisy waves about 0: a window's level is worth little, so that the ridge without a level wins."""

    def __init__(self, spec: Spec = SPEC) -> None:
        super().__init__(batch_size=32, num_workers=0, seed=0, limit_train=None)
        self.spec = spec

    def load_splits(self) -> dict[str, TensorSplit]:
        draw = torch.Generator().manual_seed(0)
        time = torch.arange(400.0)[:, None]
        waves = torch.sin(time / torch.tensor([2.0, 3.0, 5.0]))
        self.table = waves + 0.5 * torch.randn(400, len(CHANNELS), generator=draw)
        splits = {}
        for name, first, n in (("train", 0, 150), ("val", 167, 60), ("test", 244, 75)):
            past, future = self.part(first, n).at(torch.arange(n))
            splits[name] = TensorSplit(x=past.transpose(1, 2), y=future.transpose(1, 2))
        return splits

    def part(self, first: int, n: int) -> ForecastWindows:
        return ForecastWindows(self.table, torch.arange(first, first + n), N_PAST, N_AHEAD)

    def windows(self, name: str) -> ForecastWindows:
        return {"train": self.part(0, 150), "val": self.part(167, 60), "test": self.part(244, 75)}[name]

    def ridge(self, level: Tensor) -> LinearForecast:
        return fit_ridge(moments(self.windows("train")), moments(self.windows("val")), level)


class Network(nn.Module):
    """A linear map of the window, with a skip beside it."""

    def __init__(self, spec: Spec = SPEC, start: str = "ridge", gain: float = 0.0) -> None:
        super().__init__()
        self.head = LinearHead(N_PAST, spec, gain)
        self.skip = LinearSkip(spec, start=start, rate=0.0)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        assert x.shape[1:] == (N_PAST,)
        return self.skip(self.head(x), x, mask)


def task(spec: Spec = SPEC, model: nn.Module | None = None, **parts: Any) -> ForecastingTask:
    given = {
        "loss": Pinball(LEVELS) if spec.quantiles else nn.MSELoss(),
        "optimizer": partial(torch.optim.SGD, lr=0.0),
        "scheduler": constant,
        "augment": None,
        "normalization": WindowNormalization(eps=1e-5),
    }
    torch.manual_seed(0)
    return ForecastingTask(spec=spec, model=model or Network(spec), **{**given, **parts})


def trainer(**options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)


def loaded(spec: Spec = SPEC) -> Waves:
    data = Waves(spec)
    data.setup()
    return data


def forecasts(subject: ForecastingTask, data: Waves) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts of all test windows at once, and the truth."""
    batch = data.splits["test"][:]  # type: ignore[index]
    with torch.no_grad():
        _, forecast = subject.eval().loss_and_logits(batch)
    return forecast.numpy(), batch["y"].numpy()


def test_untrained_task_with_a_ridge_start_is_the_ridge_of_the_values_themselves() -> None:
    data, subject = loaded(), task()
    subject.before_fit(data)
    fits = [data.ridge(level(N_PAST)) for level in (no_level, window_mean)]
    best = min(fits, key=lambda fit: fit.val_mse)
    assert best is fits[0]  # the level is not kept, and normalisation would keep it
    found, _ = forecasts(subject, data)
    expected = best(data.splits["test"][:]["x"].transpose(1, 2)).transpose(1, 2)  # type: ignore[index]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_levels_are_kept_whole_until_the_data_have_been_looked_at() -> None:
    subject = task(model=Network(start="last"))
    x = torch.randn(3, N_PAST, len(CHANNELS), generator=torch.Generator().manual_seed(1)) + 7
    batch = {"x": x, "y": torch.zeros(3, N_AHEAD, len(CHANNELS))}
    _, forecast = subject.loss_and_logits(batch)
    torch.testing.assert_close(forecast, x[:, -1:].expand_as(forecast))


def test_a_saved_task_starts_nowhere_else() -> None:
    data, subject = loaded(), task()
    subject.before_fit(data)
    again = task()
    again.load_state_dict(subject.state_dict())
    for found, expected in zip(forecasts(again, data), forecasts(subject, data), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_errors_are_those_of_scikit_learn_over_all_windows_steps_and_channels() -> None:
    data, subject = loaded(), task()
    (logged,) = trainer().test(subject, datamodule=data, verbose=False)
    forecast, y = forecasts(subject, data)
    assert logged["test/mse"] == pytest.approx(mean_squared_error(y.ravel(), forecast.ravel()), rel=1e-5)
    assert logged["test/mae"] == pytest.approx(mean_absolute_error(y.ravel(), forecast.ravel()), rel=1e-5)
    found = subject.results()
    by_step = [mean_squared_error(y[:, h].ravel(), forecast[:, h].ravel()) for h in range(N_AHEAD)]
    assert [row["step"] for row in found["per_horizon"]] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([row["mse"] for row in found["per_horizon"]], by_step, rtol=1e-5)
    by_channel = [mean_absolute_error(y[..., c].ravel(), forecast[..., c].ravel()) for c in range(len(CHANNELS))]
    assert [row["channel"] for row in found["per_channel"]] == list(CHANNELS)
    np.testing.assert_allclose([row["mae"] for row in found["per_channel"]], by_channel, rtol=1e-5)


def test_a_second_test_counts_from_nothing() -> None:
    data, subject = loaded(), task()
    first, second = (trainer().test(subject, datamodule=data, verbose=False)[0] for _ in range(2))
    assert first == second
    assert len(subject.drawn) == 3  # one a batch


def test_quantiles_have_the_pinball_loss_of_scikit_learn_and_a_coverage() -> None:
    data, subject = loaded(QUANTILES), task(QUANTILES, Network(QUANTILES, gain=1.0))
    (logged,) = trainer().test(subject, datamodule=data, verbose=False)
    forecast, y = forecasts(subject, data)
    ordered = np.sort(forecast, axis=-1)
    assert (ordered != forecast).any()  # random quantiles cross
    losses = [mean_pinball_loss(y.ravel(), ordered[..., q].ravel(), alpha=level) for q, level in enumerate(LEVELS)]
    assert logged["test/pinball"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert logged["test/mse"] == pytest.approx(mean_squared_error(y.ravel(), ordered[..., 1].ravel()), rel=1e-5)
    inside = (ordered[..., 0] <= y) & (y <= ordered[..., 2])
    assert logged["test/coverage"] == pytest.approx(inside.mean(), rel=1e-5)
    assert subject.results()["interval"] == pytest.approx(0.8)


def test_quantiles_start_about_the_ridge_and_cover_what_they_promise() -> None:
    data, subject = loaded(QUANTILES), task(QUANTILES)
    subject.before_fit(data)
    forecast, y = forecasts(subject, data)
    assert (np.diff(forecast, axis=-1) > 0).all()
    for q, level in enumerate(LEVELS):
        assert (y < forecast[..., q]).mean() == pytest.approx(level, abs=0.06)
    line, _ = forecasts(start_of(task(), data), data)
    # Of one distance from the ridge in standard deviations of the window, the same for all channels.
    scale = data.splits["test"][:]["x"].std(dim=1, correction=0, keepdim=True).numpy()  # type: ignore[index]
    apart = (forecast - line[..., None]) / scale[..., None]
    np.testing.assert_allclose(apart, np.broadcast_to(apart[:1, :, :1], apart.shape), atol=1e-3)


def start_of(subject: ForecastingTask, data: Waves) -> ForecastingTask:
    subject.before_fit(data)
    return subject


def test_quantiles_of_a_rival_without_a_linear_skip_start_apart_as_well() -> None:
    data = loaded(QUANTILES)
    subject = start_of(task(QUANTILES, DLinear(QUANTILES, kernel_size=5, head=partial(LinearHead, gain=0.0))), data)
    apart, expected = (np.diff(forecasts(one, data)[0], axis=-1) for one in (subject, start_of(task(QUANTILES), data)))
    np.testing.assert_allclose(apart, expected, rtol=1e-4)


def test_training_by_quantiles_keeps_what_they_promise() -> None:
    data = loaded(QUANTILES)
    subject = start_of(task(QUANTILES, optimizer=partial(torch.optim.Adam, lr=0.01)), data)
    trainer(max_epochs=2).fit(subject, datamodule=data)
    (logged,) = trainer().test(subject, datamodule=data, verbose=False)
    assert logged["test/coverage"] == pytest.approx(0.8, abs=0.08)


def test_polarization_shows_what_the_network_is_given() -> None:
    seen = []

    class Traced(Network):
        grid = (1,)

        def trace(self, x: Tensor, mask: Tensor | None = None) -> list[Any]:
            seen.append(x)
            raise InterruptedError

    data, subject = loaded(), task(model=Traced())
    batch = data.splits["test"][:4]  # type: ignore[index]
    with pytest.raises(InterruptedError):
        polarization(subject, batch)
    (x,) = seen
    assert x.shape == (4 * len(CHANNELS), N_PAST)
    torch.testing.assert_close(x.mean(dim=1), torch.zeros(len(x)), atol=1e-5, rtol=0)
    subject.example = batch
    assert subject.titles()[:4] == [*CHANNELS, "load"]


@pytest.mark.parametrize("spec", [SPEC, QUANTILES])
def test_pictures_show_windows_from_the_first_to_the_last_batch(spec: Spec) -> None:
    data, subject = loaded(spec), task(spec)
    trainer().test(subject, datamodule=data, verbose=False)
    figures = subject.figures()
    assert set(figures) == {"forecast", "error_by_horizon"}
    for figure in figures.values():
        figure.savefig(io.BytesIO(), format="png")
    last = figures["forecast"].axes[-1].lines[0].get_ydata()  # the last row's last channel: history and truth
    np.testing.assert_allclose(last, data.table[244 + 64 :, 2][: N_PAST + N_AHEAD], rtol=1e-6)
    naive, ridge, own = (line.get_ydata() for line in figures["error_by_horizon"].axes[0].lines)
    batch = data.splits["test"][:]  # type: ignore[index]
    expected = (batch["x"][:, -1:] - batch["y"]).square().mean(dim=(0, 2))
    np.testing.assert_allclose(naive, expected, rtol=1e-5)
    mse, _ = forecast_errors(data.ridge(no_level(N_PAST)), data.windows("test"))  # what a run calls baseline/linear_mse
    assert np.mean(ridge) == pytest.approx(mse, rel=1e-5)
    assert ridge.std() > 0
    np.testing.assert_allclose(own, [row["mse"] for row in subject.results()["per_horizon"]], rtol=1e-6)


def test_the_ridge_in_the_picture_is_the_baseline_in_any_precision() -> None:
    data, subject = loaded(), task()
    trainer(precision="bf16-mixed").test(subject, datamodule=data, verbose=False)
    mse, mae = forecast_errors(data.ridge(no_level(N_PAST)), data.windows("test"))
    found = [float(errors.mean()) for errors in subject.ridge_errors.compute()]
    assert found == pytest.approx([mse, mae], rel=1e-5)


@pytest.mark.parametrize(
    ("spec", "loss"),
    [
        (SPEC, Pinball(LEVELS)),
        (QUANTILES, nn.MSELoss()),  # would compare every quantile with the truth, and call it a mean
        (QUANTILES, Pinball((0.25, 0.5, 0.75))),
        (SPEC, nn.NLLLoss()),
    ],
)
def test_a_loss_that_does_not_fit_the_outputs_is_refused(spec: Spec, loss: nn.Module) -> None:
    with pytest.raises(ValueError, match="loss"):
        task(spec, loss=loss)


def test_data_without_a_ridge_is_refused() -> None:
    with pytest.raises(ValueError, match="DataModule has no linear forecast"):
        task().before_fit(DataModule(batch_size=1, num_workers=0, seed=0, limit_train=None))
