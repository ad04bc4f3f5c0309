"""What all sources of time series share: parts in the order of time, standardised columns, windows, baselines.

Legend: T rows, C columns, B batch, L rows looked back, H rows ahead.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from cvkan.analysis.forecasting import (
    FITTED,
    ForecastWindows,
    LinearForecast,
    Moments,
    fit_ridge,
    forecast_errors,
    moments,
    no_level,
    seasonal_naive,
    window_mean,
)
from cvkan.domains.datamodule import SPLITS, DataModule, Loading
from cvkan.domains.timeseries.steps import usual_step
from cvkan.domains.timeseries.table import Series, without_constants
from cvkan.errors import UserError
from cvkan.spec import Batch, Spec

log = logging.getLogger(__name__)


class Windowing(Loading):
    """Arguments that all sources take and hand on to :class:`TimeSeries`.

    Attributes:
        lookback: rows L that a forecast may see, at least 2.
        pred_len: rows H that it has to tell.
        quantiles: those to forecast, rising and in (0, 1), the median 0.5 among them; empty for one number.
        period: rows of a season, for the seasonal baseline; None for what the step of the dates suggests.
    """

    lookback: int
    pred_len: int
    quantiles: list[float]
    period: int | None


class WindowSplit(Dataset[Batch]):
    """The windows of one part; a batch is cut from the table by one indexing operation."""

    def __init__(self, windows: ForecastWindows) -> None:
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Batch:
        return {name: tensor[0] for name, tensor in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        past, future = self.windows.at(torch.as_tensor(indices))
        return {"x": past.transpose(1, 2), "y": future.transpose(1, 2)}  # (B, L, C), (B, H, C)


class TimeSeries(DataModule):
    """Base of the sources: ``x`` (B, L, C) and ``y`` (B, H, C) float32, in standard deviations of the training rows.

    A part is a stretch of rows: train, then validation, then test. Windows start at every row. The future of a window
    lies in its part; the past of a validation or test window may reach into the part before. Each column is
    standardised by mean and standard deviation of the training rows. One that is constant there has no scale, whatever
    it does later, and nothing to learn from: it is left out, and that is told, or refused if the user named it.

    Args:
        windowing: see :class:`Windowing`.

    Attributes:
        names_columns: whether the user named the columns; a constant one among them is an error then.
        part_keys: options that share the rows out to the parts, for messages; empty where none does.
        series: the whole series in its own units, without the columns left out; after :meth:`setup`, as the others.
        mean: (C,) float64, of the training rows.
        std: (C,) float64, of the training rows.
        season: rows of a season, of the seasonal baseline.

    Raises:
        UserError: an argument is out of range.
    """

    names_columns = False
    part_keys = ""
    series: Series
    mean: np.ndarray
    std: np.ndarray
    season: int

    def __init__(
        self, *, lookback: int, pred_len: int, quantiles: list[float], period: int | None, **loading: Unpack[Loading]
    ) -> None:
        super().__init__(**loading)
        for name, value, least in (("lookback", lookback, 2), ("pred_len", pred_len, 1), ("period", period, 1)):
            if value is not None and (not isinstance(value, int) or value < least):
                what = f"{name} must be a whole number, at least {least}, got {value!r}"
                raise UserError(what, f"data.{name}", "Set more rows.")
        rising = all(low < high for low, high in zip([0.0, *quantiles], [*quantiles, 1.0], strict=True))
        if quantiles and not (rising and 0.5 in quantiles):
            raise UserError(
                f"quantiles must rise from 0 to 1 and name the median 0.5, got {quantiles}",
                "domain.quantiles",
                "Set [0.1, 0.5, 0.9], or [] for a forecast of one number.",
            )
        self.lookback, self.pred_len, self.period = lookback, pred_len, period
        # The columns' names follow once the series is read.
        self.spec = Spec(
            input_shape=(lookback,),
            target="forecast",
            n_outputs=pred_len * max(1, len(quantiles)),
            quantiles=tuple(quantiles),
        )

    def read_series(self) -> Series:
        """The series of the source; called once."""
        raise NotImplementedError

    def part_rows(self, dates: np.ndarray) -> tuple[int, int, int]:
        """Rows of the training, validation and test part, from the first row on.

        Args:
            dates: (T,) datetime64, of all rows.
        """
        raise NotImplementedError

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        series = self.read_series()
        n_rows = self.part_rows(series.dates)
        self._check_lengths(n_rows, len(series.dates))
        self.season = self._season(series.dates, n_rows[0] + n_rows[1])
        self.series = without_constants(series, n_rows[0], self.names_columns)
        self.spec = replace(self.spec, channels=self.series.names)
        table = self._standardized(n_rows[0])
        splits: dict[str, Dataset[Batch]] = {}
        end = 0
        for name, n in zip(SPLITS, n_rows, strict=True):
            first = max(0, end - self.lookback)
            end += n
            starts = torch.arange(first, end - self.lookback - self.pred_len + 1)
            splits[name] = WindowSplit(ForecastWindows(table, starts, self.lookback, self.pred_len))
        return splits

    def _check_lengths(self, n_rows: tuple[int, int, int], total: int) -> None:
        """Refuse parts that hold no window."""
        past, ahead = f"domain.lookback={self.lookback}", f"domain.pred_len={self.pred_len}"
        window = (self.lookback + self.pred_len, 3, f"{past} and {ahead}", "both, to {} in sum")
        future = (self.pred_len, 1, f"{ahead}; the past may be in the part before", "domain.pred_len, to {}")
        for name, n, needs in zip(SPLITS, n_rows, (window, future, future), strict=True):
            least, least_possible, why, lower = needs
            if n < least:
                ways = [f"lower {lower.format(n)}"] if n >= least_possible else []
                ways += [f"give the part more rows ({self.part_keys})"] if self.part_keys else []
                fix = ", or ".join([*ways, "take a longer series."])
                what = f"the {name} part has {n} of the {total} rows, at least {least} are needed ({why})"
                raise UserError(what, "data", fix[0].upper() + fix[1:])

    def _season(self, dates: np.ndarray, n_before_test: int) -> int:
        """Rows of a season: the given ones, or those that the dates suggest and that there is a whole one of."""
        if self.period is None:
            step, _ = usual_step(dates)
            season = next(rows for rows in step.seasons() if rows <= n_before_test)
            log.info("rows are %s apart: a season is taken to be %d of them (data.period)", step, season)
            return season
        if self.period > n_before_test:
            what = f"a season of {self.period} rows is longer than the {n_before_test} rows before the test part"
            raise UserError(what, "data.period", f"Set {n_before_test} at most, or null to go by the dates.")
        return self.period

    def _standardized(self, n_train: int) -> Tensor:
        """The table (T, C) float32 in standard deviations of the first ``n_train`` rows."""
        train = self.series.values[:n_train]
        self.mean, self.std = train.mean(axis=0), train.std(axis=0)
        return torch.from_numpy((self.series.values - self.mean) / self.std).float()

    def fingerprint(self) -> str:
        """SHA-256 of the values and of the windows' starts."""
        digest = hashlib.sha256(f"{self.series.names} {self.lookback} {self.pred_len}".encode())
        digest.update(self.series.values.tobytes())
        for name in SPLITS:
            digest.update(self.windows(name).starts.numpy().tobytes())
        return digest.hexdigest()

    def windows(self, name: str) -> ForecastWindows:
        """The windows of ``train``, ``val`` or ``test``; those that ``limit_train`` has kept."""
        split: Any = self.splits[name]
        if isinstance(split, Subset):
            windows = split.dataset.windows  # type: ignore[attr-defined]
            return replace(windows, starts=windows.starts[torch.as_tensor(split.indices)])
        return split.windows

    @cached_property
    def _moments(self) -> tuple[Moments, Moments]:
        train, val = (self.windows(name).thinned(FITTED) for name in ("train", "val"))
        return moments(train), moments(val)

    def ridge(self, level: Tensor) -> LinearForecast:
        """The closed-form linear forecast of the training windows, see :func:`~cvkan.analysis.forecasting.fit_ridge`.

        Args:
            level: weights (L,), such as of :func:`~cvkan.analysis.forecasting.window_mean`.
        """
        return fit_ridge(*self._moments, level)

    def baselines(self) -> dict[str, float]:
        """Errors of simple forecasts on the test windows, of standardised values.

        Returns:
            ``baseline/NAME_mse`` and ``baseline/NAME_mae`` of ``last_value``; of ``seasonal_naive``, the last
            ``season`` rows again, even where these are more than ``lookback``; of ``linear``, a ridge regression on the
            values as they are; and of ``linear_centered``, one on values less the mean of their window.
        """
        test = self.windows("test")
        figures = {}
        for name, period in (("last_value", 1), ("seasonal_naive", self.season)):
            forecast = partial(seasonal_naive, period=period, horizon=self.pred_len)
            figures[name] = forecast_errors(forecast, test.looking_back(period))
        for name, level in (("linear", no_level), ("linear_centered", window_mean)):
            figures[name] = forecast_errors(self.ridge(level(self.lookback)), test)
        return {
            f"baseline/{name}_{measure}": value
            for name, errors in figures.items()
            for measure, value in zip(("mse", "mae"), errors, strict=True)
        }
