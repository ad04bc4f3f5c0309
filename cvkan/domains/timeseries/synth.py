"""``data=series_synth``: seven hourly series of seasons, trends, changes of regime and noise that remembers.

Legend: T rows (hours), C columns, R regimes, K harmonics.
"""

from __future__ import annotations

from typing import Unpack

import numpy as np
from scipy.signal import lfilter

from cvkan.domains.timeseries.base import TimeSeries, Windowing
from cvkan.domains.timeseries.table import Series
from cvkan.domains.timeseries.user_table import FRACTION_KEYS, check_fractions, rows_by_fraction
from cvkan.errors import UserError

N_CHANNELS = 7
N_HARMONICS = 3  # of the day
DAY, WEEK = 24, 7  # hours, days
FIRST = np.datetime64("2024-01-01T00", "us")  # a Monday


class SeriesSynth(TimeSeries):
    """Generated series, each

        level[r] + slope t + size[r] day_k(t) week(t) + noise(t)

    ``day`` is one of two profiles of the hours, ``week`` falls on Saturdays and Sundays, and the regime r changes at
    random times for all series together: with it their levels, their sizes and, in turn, the profile k. The noise is
    autoregressive of order one. Weekends multiply and profiles take turns, so no linear forecast is exact.

    Args:
        n_rows: hours T.
        regime_rows: mean length of a regime in hours.
        noise_std: standard deviation of the noise; that of a daily profile is 1.
        val_fraction: share of the rows for validation.
        test_fraction: share of the rows for the test, the last ones.
        data_seed: seed of the series, independent of the run's seed.
        windowing: see :class:`~cvkan.domains.timeseries.base.Windowing`.

    Raises:
        UserError: an argument is out of range.

    Source: own choice.
    """

    part_keys = FRACTION_KEYS

    def __init__(
        self,
        *,
        n_rows: int,
        regime_rows: float,
        noise_std: float,
        val_fraction: float,
        test_fraction: float,
        data_seed: int,
        **windowing: Unpack[Windowing],
    ) -> None:
        super().__init__(**windowing)
        check_fractions(val_fraction, test_fraction)
        for name, value, least in (("n_rows", n_rows, 1), ("regime_rows", regime_rows, 1), ("noise_std", noise_std, 0)):
            if not value >= least:
                raise UserError(f"{name} must be at least {least}, got {value}", f"data.{name}", "Raise it.")
        self.n_rows, self.regime_rows, self.noise_std = n_rows, regime_rows, noise_std
        self.val_fraction, self.test_fraction, self.data_seed = val_fraction, test_fraction, data_seed

    def read_series(self) -> Series:
        values = generate(self.n_rows, self.regime_rows, self.noise_std, np.random.default_rng(self.data_seed))
        dates = FIRST + np.arange(self.n_rows) * np.timedelta64(1, "h")
        return Series(tuple(f"series_{i + 1}" for i in range(N_CHANNELS)), dates, values)

    def part_rows(self, dates: np.ndarray) -> tuple[int, int, int]:
        return rows_by_fraction(len(dates), self.val_fraction, self.test_fraction)


def generate(n_rows: int, regime_rows: float, noise_std: float, generator: np.random.Generator) -> np.ndarray:
    """The values (T, C) float64 of :class:`SeriesSynth`.

    Args:
        n_rows: hours T.
        regime_rows: mean length of a regime in hours.
        noise_std: standard deviation of the noise.
        generator: of all that is random.
    """
    hours = np.arange(n_rows)
    regime = np.cumsum(generator.random(n_rows) < 1 / regime_rows)  # (T,)
    n_regimes = regime[-1] + 1
    level = generator.normal(0, 0.7, (n_regimes, N_CHANNELS))[regime]  # (T, C)
    size = np.exp(generator.normal(0, 0.3, (n_regimes, N_CHANNELS)))[regime]
    slope = generator.normal(0, 1, N_CHANNELS) / n_rows
    profiles = _profiles(generator)  # (2, DAY, C)
    is_weekend = hours // DAY % WEEK >= 5
    week = 1 - is_weekend[:, None] * generator.uniform(0.3, 0.9, N_CHANNELS)  # (T, C)
    day = profiles[regime % 2, hours % DAY]  # (T, C)
    return level + slope * hours[:, None] + size * day * week + _noise(n_rows, noise_std, generator)


def _profiles(generator: np.random.Generator) -> np.ndarray:
    """Two profiles of the day for each column, (2, DAY, C), of standard deviation 1."""
    order = np.arange(1, N_HARMONICS + 1)[:, None]  # (K, 1)
    angle = 2 * np.pi * order * np.arange(DAY) / DAY  # (K, DAY)
    waves = np.exp(1j * angle) / order
    weights = generator.normal(size=(2, N_CHANNELS, N_HARMONICS, 2)) @ np.array([1, 1j])  # (2, C, K)
    profiles = np.einsum("pck,kh->phc", weights, waves).real
    return profiles / profiles.std(axis=1, keepdims=True)


def _noise(n_rows: int, std: float, generator: np.random.Generator) -> np.ndarray:
    """e_t = rho e_(t-1) + noise, (T, C), each column with a rho of its own; standard deviation ``std`` throughout."""
    rho = generator.uniform(0.7, 0.95, N_CHANNELS)
    shocks = generator.normal(0, std, (n_rows, N_CHANNELS))
    shocks[1:] *= np.sqrt(1 - rho**2)
    return np.stack([lfilter([1.0], [1.0, -r], shocks[:, c]) for c, r in enumerate(rho)], axis=1)
