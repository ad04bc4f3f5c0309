"""``data=csv``: the user's own table, and how a series of any length is cut into parts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Unpack

import numpy as np

from cvkan.domains.timeseries.base import TimeSeries, Windowing
from cvkan.domains.timeseries.dates import read_date
from cvkan.domains.timeseries.table import Layout, Series, read_table
from cvkan.errors import DataUnavailableError, UserError

FRACTION_KEYS = "data.val_fraction, data.test_fraction"
DATE_KEYS = "data.val_from, data.test_from"
DATE_FORMATS = (None, "%Y-%m", "%Y")  # of these two; a month or a year is its first day


def check_fractions(val: float, test: float) -> None:
    """Refuse shares of the rows that leave none for training, or a part empty.

    Raises:
        UserError: they do.
    """
    if not (val > 0 and test > 0 and val + test < 1):
        raise UserError(
            f"the validation and test part must be shares that leave rows for training, got {val} and {test}",
            FRACTION_KEYS,
            "Set 0.1 and 0.2, for example.",
        )


def rows_by_fraction(n_rows: int, val: float, test: float) -> tuple[int, int, int]:
    """Rows of train, val and test: shares rounded down, the rest is for training."""
    n_val, n_test = int(n_rows * val), int(n_rows * test)
    return n_rows - n_val - n_test, n_val, n_test


class CsvSeries(TimeSeries):
    """A CSV file with a header, a column of dates and any number of columns of numbers.

    Args:
        path: the file.
        date_column: name of the column of dates.
        date_format: as of :meth:`datetime.datetime.strptime`; ``unix`` or ``unix_ms`` for seconds or milliseconds from
            1970 on; None for ISO 8601.
        decimal: ``point`` or ``comma``, how numbers are written.
        columns: series to use; None for all that hold numbers.
        allow_gaps: take rows as equally far apart, whatever their dates.
        val_fraction: share of the rows for validation.
        test_fraction: share of the rows for the test, the last ones.
        val_from: date (ISO 8601, or a month or a year) of the first validation row, in the place of ``val_fraction``;
            with ``test_from``.
        test_from: date of the first test row, in the place of ``test_fraction``.
        windowing: see :class:`~cvkan.domains.timeseries.base.Windowing`.

    Raises:
        UserError: an argument is out of range, or the table is at fault; the line and column are named.
        DataUnavailableError: there is no such file.
    """

    def __init__(
        self,
        *,
        path: str,
        date_column: str,
        date_format: str | None,
        decimal: str,
        columns: Sequence[str] | None,
        allow_gaps: bool,
        val_fraction: float,
        test_fraction: float,
        val_from: str | int | None,
        test_from: str | int | None,
        **windowing: Unpack[Windowing],
    ) -> None:
        super().__init__(**windowing)
        check_fractions(val_fraction, test_fraction)
        self.path = Path(path).expanduser()
        self.layout = Layout(date_column, date_format, decimal, columns, allow_gaps)
        self.names_columns = columns is not None
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.parts_from = _first_dates(val_from, test_from)
        self.part_keys = FRACTION_KEYS if self.parts_from is None else DATE_KEYS

    def prepare_data(self) -> None:
        """Look whether the file is there."""
        if not self.path.exists():
            raise DataUnavailableError("there is no such table", self.path, "Correct data.path.")

    def read_series(self) -> Series:
        return read_table(self.path, self.layout)

    def part_rows(self, dates: np.ndarray) -> tuple[int, int, int]:
        if self.parts_from is None:
            return rows_by_fraction(len(dates), self.val_fraction, self.test_fraction)
        n_train, n_before_test = (int(row) for row in np.searchsorted(dates, self.parts_from))
        return n_train, n_before_test - n_train, len(dates) - n_before_test


def _first_dates(val_from: str | int | None, test_from: str | int | None) -> np.ndarray | None:
    """First dates of the validation and the test part, (2,) datetime64[us]; None if neither is given."""
    where = DATE_KEYS
    if val_from is None and test_from is None:
        return None
    if val_from is None or test_from is None:
        raise UserError("only one of the two dates is given", where, "Set both, or none to split by fractions.")
    dates = np.array([_first_date(str(text)) for text in (val_from, test_from)], dtype="datetime64[us]")
    if dates[0] >= dates[1]:
        raise UserError(f"validation from {val_from} is not before test from {test_from}", where, "Swap them.")
    return dates


def _first_date(text: str) -> datetime:
    for date_format in DATE_FORMATS:
        with suppress(ValueError):
            return read_date(text, date_format)
    raise UserError(f"no date: {text}", DATE_KEYS, "Write 2017-07-01, 2017-07 or 2017, for example.")
