"""Forecasting: the next H steps of every channel from the last L.

Legend: B batch, C channels, L steps of a window, H steps ahead, Q quantiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Unpack, cast, runtime_checkable

import lightning.pytorch as pl
import torch
from torch import Tensor

from cvkan.analysis.forecast_residuals import residual_quantiles
from cvkan.analysis.forecasting import ForecastWindows, LinearForecast, no_level, window_mean
from cvkan.core.polar import no_autocast
from cvkan.losses_forecast import Pinball
from cvkan.models.heads import LinearHead
from cvkan.models.skip_linear import LinearStart
from cvkan.spec import Batch
from cvkan.tasks.base import Parts, Task
from cvkan.tasks.forecast_scores import ForecastErrors, IntervalScores
from cvkan.tasks.forecasting_frame import Normalization

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_WINDOWS = 3  # drawn, evenly spaced over the test
N_CHANNELS = 4  # drawn of each
ABOUT = (no_level, window_mean)  # levels of a window that a regression may be about


@runtime_checkable
class SeriesSource(Protocol):
    """Data with windows of a table, and the best linear forecast of those of training about a level of their past."""

    def windows(self, name: str) -> ForecastWindows: ...

    def ridge(self, level: Tensor) -> LinearForecast: ...


def series_source(data: object) -> SeriesSource:
    """Data as what it has to be here.

    Raises:
        ValueError: it has no windows or no linear forecast of them.
    """
    if not isinstance(data, SeriesSource):
        raise ValueError(f"{type(data).__name__} has no linear forecast; set data=series_synth, for example")
    return data


class ForecastingTask(Task):
    """Windows (B, L, C) against what follows them (B, H, C); the network is given one channel at a time.

    A window is normalised by its own location and scale, and the answers are led back::

        forecast_h = kept_h location + scale network((x - location) / scale)_h

    ``kept_h`` is how much of its level a series keeps over h steps, 1 for one that wanders off: the sums of the rows of
    the training windows' ridge regression M, see :meth:`before_fit`. With them a network that answers M x to any
    window is that regression of the values themselves, for it keeps what the normalisation took away. Loss and errors
    are on the scale of the data. With quantiles the point forecast is the median.

    Args:
        normalization: of windows, see :mod:`cvkan.tasks.forecasting_frame`.
        parts: see :class:`Task`.

    Raises:
        ValueError: see :class:`Task`, or the loss is not made for the outputs that the data asks for.
    """

    target = "forecast"
    kept: Tensor

    def __init__(self, *, normalization: Normalization, **parts: Unpack[Parts]) -> None:
        self.normalization = normalization  # no module; what follows already compares
        super().__init__(**parts)

    def make_metrics(self) -> None:
        spec, n_channels = self.spec, len(self.spec.channels)
        if not n_channels:
            raise ValueError("the data names no channels; load it before the task is made")
        quantiles = self.loss.quantiles if isinstance(self.loss, Pinball) else ()
        if quantiles != spec.quantiles:
            raise ValueError(
                f"{type(self.loss).__name__} is a loss of quantiles {list(quantiles)}, the data asks for "
                f"{list(spec.quantiles)}; set loss=pinball with quantiles, or loss=mse with domain.quantiles=[]"
            )
        self.n_steps = spec.n_outputs // max(1, len(quantiles))
        self.median = quantiles.index(0.5) if quantiles else None
        self.register_buffer("kept", torch.ones(self.n_steps))
        x, y = torch.zeros(2, spec.input_shape[0], n_channels), torch.zeros(2, self.n_steps, n_channels)
        self.check_loss(torch.zeros(2 * n_channels, spec.n_outputs), y, x=x)
        sizes = self.n_steps, n_channels
        self.val_errors, self.test_errors = ForecastErrors(*sizes), ForecastErrors(*sizes)
        self.naive_errors, self.ridge_errors = ForecastErrors(*sizes), ForecastErrors(*sizes)  # for the picture
        self.intervals = IntervalScores(self.loss) if isinstance(self.loss, Pinball) else None
        self.drawn: list[tuple[Tensor, Tensor, Tensor]] = []

    def before_fit(self, data: pl.LightningDataModule) -> None:
        """Give the network and the levels of its answers their start: the training windows' ridge regression.

        Whether a series is drawn to its mean or wanders off, and so what the regression is about, is told by the
        validation windows.
        """
        source = series_source(data)
        fit = min((source.ridge(level(self.spec.input_shape[0])) for level in ABOUT), key=lambda fit: fit.val_mse)
        self.kept.copy_(fit.weight.sum(dim=1))
        self.start_at(fit, source.windows("train"))

    def start_at(self, fit: LinearForecast, train: ForecastWindows) -> None:
        """Let the network start as a linear forecast.

        Quantiles start apart, as the biases of the head: a network that is a regression of the past knows from the
        start how far off it will be. From one line they would take long to open up.

        Args:
            fit: the forecast, of the steps of an answer and perhaps further ones.
            train: the training windows, of the steps of an answer.
        """
        for module in self.model.modules():
            if isinstance(module, LinearStart):
                module.start_at(fit.weight[: train.horizon].to(self.kept))
            if self.median is not None and isinstance(module, LinearHead):
                spread = residual_quantiles(train, fit, self.window_scale, self.spec.quantiles)  # (H, Q)
                module.bias.data.copy_(spread.flatten())

    def window_scale(self, past: Tensor) -> Tensor:
        """What the windows (M, L) of single channels are divided by, (M, 1)."""
        return self.normalization(past.unsqueeze(-1)).scale.squeeze(-1)

    def model_input(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Normalised windows (B C, L) of single channels; they have no mask."""
        x = batch["x"]
        return self.normalization(x).fold(x), None

    def compare(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss, and the forecast (B, H, C) or (B, H, C, Q), of answers (B C, H max(1, Q))."""
        answers = output if self.median is None else output.unflatten(-1, (self.n_steps, -1))  # (B C, H, Q)
        forecast = self.normalization(batch["x"]).unfold(answers, self.kept)
        return self.loss(forecast, batch["y"]), forecast

    def update_metrics(self, stage: str, batch: Batch, logits: Tensor) -> None:
        forecast, y = logits.detach(), batch["y"]
        if self.intervals is not None:
            # Levels that crossed are put in order. Source: Chernozhukov et al., "Quantile and Probability Curves
            # without Crossing", 2010: it never raises the pinball loss.
            forecast = forecast.sort(dim=-1).values
            self.intervals.update(forecast, y)
        point = self.point(forecast)
        (self.val_errors if stage == "val" else self.test_errors).update(point, y)
        if stage == "test":
            self.naive_errors.update(batch["x"][:, -1:].expand_as(y), y)
            with no_autocast(batch["x"]):  # as baseline/linear is reckoned, whatever the precision of the network
                self.ridge_errors.update(self.ridge_weight @ batch["x"], y)
            self.drawn.append((batch["x"][0].cpu(), y[0].cpu(), forecast[0].cpu()))

    def point(self, forecast: Tensor) -> Tensor:
        """One number a step, (B, H, C): the median where there are quantiles, (B, H, C, Q)."""
        return forecast if self.median is None else forecast[..., self.median]

    def on_validation_epoch_start(self) -> None:
        self.start_scores(self.val_errors)

    def on_validation_epoch_end(self) -> None:
        self.log_scores("val", self.val_errors)

    def on_test_epoch_start(self) -> None:
        self.start_scores(self.test_errors)
        self.naive_errors.reset()
        self.ridge_errors.reset()
        ridge = series_source(cast(Any, self.trainer).datamodule).ridge(no_level(self.spec.input_shape[0]))
        self.ridge_weight = ridge.weight.to(self.kept)  # (H, L), of baseline/linear
        self.drawn.clear()

    def on_test_epoch_end(self) -> None:
        self.log_scores("test", self.test_errors)

    def start_scores(self, errors: ForecastErrors) -> None:
        """Forget what was counted before."""
        errors.reset()
        if self.intervals is not None:
            self.intervals.reset()

    def log_scores(self, stage: str, errors: ForecastErrors) -> None:
        """Log the means over all windows, steps and channels."""
        squared, absolute = errors.compute()
        self.log(f"{stage}/mse", squared.mean(), prog_bar=stage == "val")
        self.log(f"{stage}/mae", absolute.mean())
        if self.intervals is not None:
            pinball, coverage = self.intervals.compute()
            self.log_dict({f"{stage}/pinball": pinball, f"{stage}/coverage": coverage})

    def results(self) -> dict[str, Any]:
        """Errors by step ahead and by channel; with quantiles also the share that should lie in the interval."""
        mse, mae = (errors.cpu() for errors in self.test_errors.compute())  # (H, C)
        steps = zip(range(1, self.n_steps + 1), mse.mean(dim=1).tolist(), mae.mean(dim=1).tolist(), strict=True)
        channels = zip(self.spec.channels, mse.mean(dim=0).tolist(), mae.mean(dim=0).tolist(), strict=True)
        found: dict[str, Any] = {
            "per_horizon": [dict(zip(("step", "mse", "mae"), row, strict=True)) for row in steps],
            "per_channel": [dict(zip(("channel", "mse", "mae"), row, strict=True)) for row in channels],
        }
        if self.spec.quantiles:
            found["interval"] = self.spec.quantiles[-1] - self.spec.quantiles[0]
        return found

    def figures(self) -> dict[str, Figure]:
        from cvkan import plots_forecast

        rows = torch.linspace(0, len(self.drawn) - 1, min(N_WINDOWS, len(self.drawn))).long().tolist()
        columns = torch.linspace(0, len(self.spec.channels) - 1, min(N_CHANNELS, len(self.spec.channels))).long()
        history, truth, forecast = (
            torch.stack([self.drawn[row][part][:, columns] for row in rows]) for part in range(3)
        )  # (n, L, c), (n, H, c), (n, H, c) or (n, H, c, Q)
        interval = None if self.median is None else forecast[..., [0, -1]]  # (n, H, c, 2)
        names = [self.spec.channels[column] for column in columns.tolist()]
        by_step = {"last value": self.naive_errors, "ridge": self.ridge_errors, "this run": self.test_errors}
        curves = {name: errors.compute()[0].mean(dim=1).cpu() for name, errors in by_step.items()}  # (H,) each
        return {
            **super().figures(),
            "forecast": plots_forecast.forecasts(history, truth, self.point(forecast), interval, names),
            "error_by_horizon": plots_forecast.error_by_horizon(curves),
        }

    def titles(self) -> list[str]:
        """The channel of each series that the network is given."""
        assert self.example is not None
        return list(self.spec.channels) * len(self.example["x"])
