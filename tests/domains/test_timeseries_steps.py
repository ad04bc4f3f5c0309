"""Steps of dates: what people call months, hours and working days, with and without rows missing."""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkan.domains.timeseries.steps import Step, usual_step


def fixed(step: timedelta, n: int = 40) -> list[datetime]:
    return [datetime(2023, 1, 28, 6) + i * step for i in range(n)]


def months(every: int, day: int, n: int = 40) -> list[datetime]:
    """One row every so many months, on a day or, in shorter months, on the last one."""
    found = []
    for i in range(n):
        year, month = 1999 + every * i // 12, every * i % 12 + 1
        found.append(datetime(year, month, min(day, calendar.monthrange(year, month)[1])))
    return found


def working_days(n: int = 40) -> list[datetime]:
    days = (datetime(2024, 1, 1, 17) + timedelta(days=i) for i in range(2 * n))
    return [day for day in days if day.weekday() < 5][:n]


CASES = [
    (fixed(timedelta(seconds=1)), "0:00:01", [3600, 60, 1]),
    (fixed(timedelta(seconds=30)), "0:00:30", [120, 2, 1]),
    (fixed(timedelta(minutes=1)), "0:01:00", [1440, 60, 1]),
    (fixed(timedelta(minutes=15)), "0:15:00", [96, 4, 1]),
    (fixed(timedelta(minutes=7)), "0:07:00", [1]),
    (fixed(timedelta(hours=1)), "1:00:00", [24, 1]),
    (fixed(timedelta(hours=6)), "6:00:00", [4, 1]),
    (fixed(timedelta(days=1)), "1 day, 0:00:00", [7, 1]),
    (fixed(timedelta(days=2)), "2 days, 0:00:00", [1]),
    (fixed(timedelta(weeks=1)), "7 days, 0:00:00", [52, 1]),
    (months(1, 1), "1 month", [12, 1]),
    (months(1, 15), "1 month", [12, 1]),
    (months(1, 31), "1 month", [12, 1]),
    (months(1, 30), "1 month", [12, 1]),
    (months(3, 31), "3 months", [4, 1]),
    (months(12, 1), "12 months", [1]),
    (months(12, 29), "12 months", [1]),
    (working_days(), "1 working day", [5, 1]),
]


@pytest.mark.parametrize(("dates", "name", "seasons"), CASES, ids=[f"{case[1]} {case[0][0].day}" for case in CASES])
def test_step_and_seasons_of_even_rows_and_the_row_behind_a_gap(
    dates: list[datetime], name: str, seasons: list[int]
) -> None:
    step, is_usual = usual_step(np.array(dates, dtype="datetime64[us]"))
    assert (str(step), step.seasons(), is_usual.all()) == (name, seasons, True)
    gapped, is_usual = usual_step(np.array(dates[:17] + dates[18:], dtype="datetime64[us]"))
    assert gapped == step
    assert (~is_usual).nonzero()[0].tolist() == [16]


def test_five_working_days_in_a_row_are_days() -> None:
    assert usual_step(np.array(working_days(5), dtype="datetime64[us]"))[0] == Step("microsecond", 86_400_000_000)


def test_the_29th_of_february_is_a_month_after_the_29th_of_january() -> None:
    dates = np.array(["2024-01-29", "2024-02-29", "2024-03-29"], dtype="datetime64[us]")
    assert usual_step(dates)[0] == Step("month", 1)


@given(
    seconds=st.sampled_from([1, 10, 60, 300, 900, 3600, 10800, 86400, 604800]) | st.integers(1, 10**6),
    n=st.integers(2, 60),
    start=st.integers(0, 10**9),
)
@settings(max_examples=80, deadline=None)
def test_any_fixed_step_is_found_and_seasons_are_whole_rows(seconds: int, n: int, start: int) -> None:
    dates = np.datetime64("1970-01-01", "us") + (start + seconds * np.arange(n)) * np.timedelta64(1, "s")
    step, is_usual = usual_step(dates)
    assert is_usual.all()
    assert step == Step("microsecond", seconds * 10**6)
    assert {rows * seconds for rows in step.seasons()[:-1]} <= {60, 3600, 86400, 604800, 52 * 604800}
    assert step.seasons()[-1] == 1
