"""How far the rows of a table are apart: months, a fixed time, or working days; and how many rows make a season.

Legend: T rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000  # microseconds
# Seasons of rows that are a fixed time apart, by the least such time; the most usual season first.
FIXED_SEASONS = ((7 * DAY, (52 * 7 * DAY,)), (DAY, (7 * DAY,)), (MINUTE, (DAY, HOUR)), (0, (HOUR, MINUTE)))
CALENDAR_SEASONS = {"month": (12,), "working day": (5,)}


@dataclass(frozen=True)
class Step:
    """What lies between two rows.

    Attributes:
        unit: ``month``, ``microsecond`` or ``working day``.
        count: how many of them, at least 1.
    """

    unit: str
    count: int

    def __str__(self) -> str:
        if self.unit == "microsecond":
            return str(timedelta(microseconds=self.count))
        return f"{self.count} {self.unit}{'s' if self.count > 1 else ''}"

    def seasons(self) -> list[int]:
        """Rows of the seasons to expect, the most usual first; in the end 1, a series without one.

        Twelve months, a week of five working days, 52 weeks, a week of days, a day of minutes or more, an hour of
        seconds; then shorter ones for a series that holds none of these. Each is a whole number of rows.

        Source: own choice, near the seasons that GluonTS expects of the same steps.
        """
        fixed = next(lengths for least, lengths in FIXED_SEASONS if self.unit != "microsecond" or self.count >= least)
        lengths = CALENDAR_SEASONS.get(self.unit, fixed)
        return [*(n // self.count for n in lengths if n > self.count and n % self.count == 0), 1]


def usual_step(dates: np.ndarray) -> tuple[Step, np.ndarray]:
    """The step that most rows are apart, and which rows are: (T - 1,) bool, of the second row on.

    Args:
        dates: (T,) datetime64[us], rising, T at least 2.
    """
    found = []
    for unit, place in PLACES.items():
        places = place(dates)
        if places is None:
            continue
        steps = np.diff(places)
        kinds, counts = np.unique(steps, return_counts=True)
        usual = int(kinds[counts.argmax()])
        if usual > 0:
            found.append((Step(unit, usual), steps == usual))
    return max(found, key=lambda one: int(one[1].sum()))


def _months(dates: np.ndarray) -> np.ndarray | None:
    """Number of the month of each row; None if rows are not on one day of it, at one time."""
    months, days = dates.astype("datetime64[M]"), dates.astype("datetime64[D]")
    first, end = months.astype("datetime64[D]"), (months + 1).astype("datetime64[D]")
    day, last = (days - first).astype(int), (end - first).astype(int) - 1  # (T,) each, counted from 0
    on_one_day = (day == np.minimum(day.max(), last)).all()  # of a day that a month lacks, its last one
    return months.astype(int) if on_one_day and _at_one_time(dates) else None


def _microseconds(dates: np.ndarray) -> np.ndarray | None:
    """The time of each row."""
    return dates.astype("datetime64[us]").astype(np.int64)


def _working_days(dates: np.ndarray) -> np.ndarray | None:
    """Number of the working day, Monday to Friday, of each row; None if there are others, or several times."""
    days = dates.astype("datetime64[D]")
    if not (np.is_busday(days).all() and _at_one_time(dates)):
        return None
    return np.busday_count(days[0], days)


def _at_one_time(dates: np.ndarray) -> bool:
    """Whether all rows have the same time of the day."""
    times = dates - dates.astype("datetime64[D]")
    return bool((times == times[0]).all())


# Of steps that fit as many rows, the first is meant: months of 31 days are months, and weeks are no five working days.
PLACES: dict[str, Callable[[np.ndarray], np.ndarray | None]] = {
    "month": _months,
    "microsecond": _microseconds,
    "working day": _working_days,
}
