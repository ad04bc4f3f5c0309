"""Forecasts in closed form: the floor under every trained one.

A forecast is a function of the past of one column, (M, L) to (M, H); columns share it.

Legend: T rows of a table, C columns, n windows, B windows of a chunk, M = B C pasts, L rows looked back, H rows ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Forecast = Callable[[Tensor], Tensor]

CHUNK = 2**22  # numbers of a chunk of windows: 32 MB in float64
FITTED = 300_000  # pasts that a fit takes at most: it has some hundred unknowns for each step ahead
# Relative to the mean of the Gram matrix's diagonal.
PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True, eq=False)
class ForecastWindows:
    """Windows of a table, by the row they start at: ``lookback`` rows of past, then ``horizon`` rows of future.

    Args:
        table: (T, C) float32.
        starts: (n,) int64.
        lookback: L, at least 1.
        horizon: H, at least 1.

    Raises:
        ValueError: a window is not inside the table.
    """

    table: Tensor
    starts: Tensor
    lookback: int
    horizon: int

    def __post_init__(self) -> None:
        if min(self.lookback, self.horizon) < 1:
            raise ValueError(f"a window needs a past and a future, got {self.lookback} and {self.horizon} rows")
        last = len(self.table) - self.lookback - self.horizon
        if len(self.starts) and not 0 <= int(self.starts.min()) <= int(self.starts.max()) <= last:
            raise ValueError(f"windows must start at rows 0 to {last}; use fewer or shorter ones")

    def __len__(self) -> int:
        return len(self.starts)

    def at(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Past (B, C, L) and future (B, C, H) of the windows number ``rows`` (B,)."""
        every = self.table.unfold(0, self.lookback + self.horizon, 1)  # (T - L - H + 1, C, L + H), a view
        past, future = every[self.starts[rows]].split([self.lookback, self.horizon], dim=-1)
        return past, future

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Past (M, L) and future (M, H) of some windows at a time."""
        size = max(1, CHUNK // ((self.lookback + self.horizon) * self.table.shape[1]))
        for rows in torch.arange(len(self)).split(size):
            past, future = self.at(rows)
            yield past.flatten(0, 1), future.flatten(0, 1)

    def looking_back(self, lookback: int) -> ForecastWindows:
        """The same futures with another length of past."""
        return replace(self, starts=self.starts + self.lookback - lookback, lookback=lookback)

    def thinned(self, most: int) -> ForecastWindows:
        """Every k-th window, so that there are at most ``most`` pasts."""
        step = -(-len(self) * self.table.shape[1] // most)
        return replace(self, starts=self.starts[:: max(1, step)])


def seasonal_naive(past: Tensor, period: int, horizon: int) -> Tensor:
    """The last ``period`` values again and again: step h is the value of step (h mod period) of the last season.

    Args:
        past: (..., L).
        period: 1 to L; 1 repeats the last value.
        horizon: H.

    Returns:
        (..., H).
    """
    if not 1 <= period <= past.shape[-1]:
        raise ValueError(f"period must be from 1 to the {past.shape[-1]} rows of the past, got {period}")
    return past[..., past.shape[-1] - period + torch.arange(horizon, device=past.device) % period]


def forecast_errors(forecast: Forecast, windows: ForecastWindows) -> tuple[float, float]:
    """Mean squared and mean absolute error over all windows, steps and columns.

    Args:
        forecast: (M, L) to (M, H).
        windows: at least one.
    """
    squared, absolute = torch.zeros(2, dtype=torch.float64)
    for past, future in windows.chunks():
        error = forecast(past) - future  # (M, H)
        squared += error.square().sum(dtype=torch.float64)
        absolute += error.abs().sum(dtype=torch.float64)
    n = len(windows) * windows.horizon * windows.table.shape[1]
    return float(squared) / n, float(absolute) / n


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over pasts x (L,) and futures y (H,), float64: all that a linear forecast is fitted and judged by.

    Attributes:
        past: sum of x x^T, (L, L).
        cross: sum of x y^T, (L, H).
        future: sum of y^T y.
        n_values: numbers of all futures, M H.
    """

    past: Tensor
    cross: Tensor
    future: float
    n_values: int

    def __add__(self, other: Moments) -> Moments:
        """Of the windows of both."""
        sums = (self.past + other.past, self.cross + other.cross, self.future + other.future)
        return Moments(*sums, self.n_values + other.n_values)

    def mse(self, weight: Tensor) -> float:
        """Mean squared error of y = M x for ``weight`` M (H, L) float64."""
        explained = 2 * (weight.T * self.cross).sum() - (weight @ self.past * weight).sum()
        return (self.future - float(explained)) / self.n_values


def moments(windows: ForecastWindows) -> Moments:
    """Second moments of windows, a chunk at a time; columns count alike."""
    # Neighbouring values are so alike that the smallest eigenvalues need the digits of float64.
    past = torch.zeros(windows.lookback, windows.lookback, dtype=torch.float64)
    cross = torch.zeros(windows.lookback, windows.horizon, dtype=torch.float64)
    future = torch.zeros((), dtype=torch.float64)
    for x, y in windows.chunks():
        x, y = x.double(), y.double()
        past.addmm_(x.T, x)
        cross.addmm_(x.T, y)
        future += y.square().sum()
    return Moments(past, cross, float(future), len(windows) * windows.table.shape[1] * windows.horizon)


def no_level(lookback: int) -> Tensor:
    """Weights (L,) of no level: forecasts are drawn to 0, the mean of the training rows."""
    return torch.zeros(lookback, dtype=torch.float64)


def window_mean(lookback: int) -> Tensor:
    """Weights (L,) of the mean of the past: forecasts follow a series that wanders off."""
    return torch.full((lookback,), 1 / lookback, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class LinearForecast:
    """y = M x, one M for all columns.

    Attributes:
        weight: M (H, L) float32. If it was fitted about :func:`window_mean`, each row sums to 1, so that M maps values
            less any constant, and over any scale, as well: a window in its own mean and standard deviation too.
        level: weights a (L,) of the level it was fitted about.
        penalty: what the validation windows chose of ``PENALTIES``.
        val_mse: their mean squared error.
    """

    weight: Tensor
    level: Tensor
    penalty: float
    val_mse: float

    def __call__(self, past: Tensor) -> Tensor:
        """Past (..., L) to forecast (..., H)."""
        return past @ self.weight.T


def fit_ridge(train: Moments, val: Moments, level: Tensor) -> LinearForecast:
    r"""Ridge regression from the past to the future about a level of the past, without intercept.

        y = W (x - 1 a^T x) + 1 a^T x = M x,   min_W  sum ||y - M x||^2 + lambda ||W||^2

    The penalty lambda is the one of the least squared error on the validation windows.

    Args:
        train: moments of the training windows.
        val: moments of the validation windows.
        level: weights a (L,), :func:`no_level` or :func:`window_mean`.

    Source: A. E. Hoerl, R. W. Kennard, "Ridge regression", Technometrics 12 (1970); the level is what the normalisation
        of a window subtracts.
    """
    weights = zip(PENALTIES, ridge_weights(train, level, PENALTIES), strict=True)
    fits = (LinearForecast(weight.float(), level, penalty, val.mse(weight)) for penalty, weight in weights)
    return min(fits, key=lambda fit: fit.val_mse)


def ridge_weights(train: Moments, level: Tensor, penalties: Sequence[float]) -> Iterator[Tensor]:
    """M (H, L) float64 of :func:`fit_ridge`, one a penalty. One decomposition serves them all."""
    n_past, n_future = train.cross.shape
    less_level = torch.eye(n_past, dtype=torch.float64) - level  # D = I - 1 a^T
    gram = less_level @ train.past @ less_level.T  # (L, L)
    cross = less_level @ (train.cross - (train.past @ level)[:, None])  # (L, H): y less the level, too
    values, vectors = torch.linalg.eigh(gram)
    projected = vectors.T @ cross  # (L, H)
    scale = gram.diagonal().mean().clamp_min(torch.finfo(gram.dtype).tiny)  # 0 if the series never moves
    for penalty in penalties:
        solved = vectors @ (projected / (values.clamp_min(0) + penalty * scale)[:, None])  # (L, H), W^T
        yield solved.T @ less_level + level.expand(n_future, -1)  # (H, L)
