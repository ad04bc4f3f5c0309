"""Dates of the rows of a table: reading them, and refusing rows that do not follow each other evenly.

Legend: T rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cvkan.domains.timeseries.steps import usual_step
from cvkan.errors import UserError

UNIX_UNITS = {"unix": 1.0, "unix_ms": 1e-3}  # seconds
UNIX = re.compile(r"\d{9,}(\.\d*)?")  # a number that counts seconds or milliseconds from 1970
UNITS_BELOW = ((1e11, "seconds", "unix"), (1e14, "milliseconds", "unix_ms"))  # both the year 5138
COMPACT = {10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # by their digits
CLOCK = "or write the offset from UTC (2024-10-27T02:00+01:00) if the clock was put back."


def read_date(text: str, date_format: str | None) -> datetime:
    """One date, without a zone; one that states its offset from UTC becomes UTC.

    Args:
        text: as it stands in the file.
        date_format: ``unix`` or ``unix_ms`` for seconds or milliseconds from 1970 on, else as of
            :meth:`datetime.datetime.strptime`; None for ISO 8601, such as ``2016-07-01 00:00:00``.

    Raises:
        ValueError: it is no such date.
    """
    text = text.strip()
    if date_format in UNIX_UNITS:
        try:
            return datetime.fromtimestamp(float(text) * UNIX_UNITS[date_format], UTC).replace(tzinfo=None)
        except (OverflowError, OSError) as error:
            raise ValueError(f"{text} is beyond the years of dates") from error
    if date_format is None and UNIX.fullmatch(text):  # ISO 8601 would read some of these as the year 1711
        raise ValueError(f"{text} counts seconds")
    date = datetime.fromisoformat(text) if date_format is None else datetime.strptime(text, date_format)
    return date if date.tzinfo is None else date.astimezone(UTC).replace(tzinfo=None)


def parse_dates(
    cells: Sequence[str], lines: Sequence[int], path: Path, column: str, date_format: str | None
) -> np.ndarray:
    """The dates of all rows, (T,) datetime64[us].

    Args:
        cells: one a row.
        lines: their lines in the file, for messages.
        path: the file, for messages.
        column: name of the column, for messages.
        date_format: see :func:`read_date`.

    Raises:
        UserError: a cell is no date.
    """
    dates = np.empty(len(cells), dtype="datetime64[us]")
    for row, cell in enumerate(cells):
        try:
            dates[row] = read_date(cell, date_format)
        except ValueError:
            raise UserError(
                f"{cell!r} is no date {'such as 2016-07-01 00:00:00' if date_format is None else f'in {date_format}'}",
                f"{path}, line {lines[row]}, column {column}",
                _how_to_read(cell.strip()),
            ) from None
    return dates


def _how_to_read(cell: str) -> str:
    """What to do about a cell that is no date."""
    if UNIX.fullmatch(cell):
        compact = COMPACT.get(len(cell))
        if compact is not None and _is_recent(cell, compact):
            return f"Set data.date_format='{compact}'."
        for end, unit, name in UNITS_BELOW:
            if float(cell) < end:
                return f"Set data.date_format={name} if these are {unit} from 1970 on."
        return "Divide by 1000 first (nanoseconds by 1000000) and set data.date_format=unix_ms."
    return "Correct the cell, or set data.date_format, such as '%d.%m.%Y %H:%M', %Y-%m, %Y or unix."


def _is_recent(cell: str, date_format: str) -> bool:
    """Whether digits are a date of a year that tables are of."""
    try:
        return 1900 <= datetime.strptime(cell, date_format).year < 2100
    except ValueError:
        return False


def check_order(dates: np.ndarray, lines: Sequence[int], path: Path, column: str, allow_gaps: bool) -> None:
    """Refuse dates that do not rise from row to row, or do so by unequal steps.

    A step is a fixed time, months of the calendar or working days, as
    :func:`~cvkan.domains.timeseries.steps.usual_step` finds it.

    Args:
        dates: (T,) datetime64.
        lines: line of each row in the file, for messages.
        path: the file, for messages.
        column: name of the column, for messages.
        allow_gaps: admit unequal steps.

    Raises:
        UserError: a date stands twice, is earlier than the one before, or a step differs from the most common one.
    """
    steps = np.diff(dates)
    if not len(steps):
        return

    def place(row: int) -> str:
        return f"{path}, line {lines[row]}, column {column}"

    falls = steps <= np.timedelta64(0)
    if falls.any():
        row = int(falls.argmax()) + 1
        if dates[row] == dates[row - 1]:
            raise UserError(f"the date {_shown(dates[row])} stands twice", place(row), f"Keep one row a date, {CLOCK}")
        raise UserError(
            f"the dates are not in order: {_shown(dates[row])} follows {_shown(dates[row - 1])}",
            place(row),
            f"Sort the rows by date, {CLOCK}",
        )
    if allow_gaps:
        return
    step, is_usual = usual_step(dates)
    if not is_usual.all():
        row = int(is_usual.argmin()) + 1
        raise UserError(
            f"{_shown(dates[row])} follows {_shown(dates[row - 1])}, but most rows are {step} apart",
            place(row),
            "Fill in the missing rows, or set data.allow_gaps=true to take all rows as equally far apart.",
        )


def _shown(date: np.datetime64) -> str:
    """``2016-07-01 00:00:00``."""
    return str(date.item())
