"""Reading a table of series from a CSV file: every cell that is no number is named by line and column.

Legend: T rows, C columns.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from cvkan.domains.timeseries.dates import check_order, parse_dates
from cvkan.errors import DataUnavailableError, UserError

CHUNK = 5000  # rows parsed at once: numbers take a tenth of the memory of their text
DELIMITERS = ",;\t|"
MISSING = "Fill in the missing values first; write numbers with a decimal point."

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Series:
    """Series sampled at the same times.

    Attributes:
        names: of the C columns.
        dates: (T,) datetime64[us].
        values: (T, C) float64, all finite, in the units of the source.
    """

    names: tuple[str, ...]
    dates: np.ndarray
    values: np.ndarray


def read_table(
    path: Path, date_column: str, date_format: str | None, columns: Sequence[str] | None, allow_gaps: bool
) -> Series:
    """The series of a CSV file with a header; the delimiter is ``,``, ``;``, ``|`` or a tab.

    Args:
        path: text in UTF-8.
        date_column: column of the dates.
        date_format: see :func:`~cvkan.domains.timeseries.dates.read_date`.
        columns: the wanted ones, in this order; None takes all but those without a single number.
        allow_gaps: admit dates at unequal distances.

    Raises:
        DataUnavailableError: there is no such file.
        UserError: the file is no table, a column is missing, a cell is no finite number, or the dates are not dates,
            not in order or, without ``allow_gaps``, not evenly spaced. The line and the column are named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = max(DELIMITERS, key=file.readline().count)
            file.seek(0)
            return _read(csv.reader(file, delimiter=delimiter), path, date_column, date_format, columns, allow_gaps)
    except FileNotFoundError:
        raise DataUnavailableError("there is no such table", path, "Correct the path.") from None
    except OSError as error:
        raise UserError(f"the table cannot be read: {error.strerror}", path, "Name a CSV file.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the table is not a CSV text: {error}", path, "Save it as CSV in UTF-8.") from None


@dataclass
class _Column:
    """A column while it is read: whether it holds numbers at all is known at its end."""

    name: str
    parts: list[np.ndarray] = field(default_factory=list)
    has_number: bool = False
    fault: tuple[int, str] | None = None  # line and text of the first cell that is no number

    def add(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        values = _numbers(cells)
        faults = ~np.isfinite(values)
        self.has_number |= not faults.all()
        if self.fault is None and faults.any():
            row = int(faults.argmax())
            self.fault = (lines[row], cells[row])
        self.parts.append(values)

    def values(self, path: Path) -> np.ndarray:
        if self.fault is not None:
            line, cell = self.fault
            what = f"{cell!r} is not a finite number" if cell.strip() else "the cell is empty"
            raise UserError(what, f"{path}, line {line}, column {self.name}", MISSING)
        return np.concatenate(self.parts)


def _read(
    rows: Iterator[list[str]],
    path: Path,
    date_column: str,
    date_format: str | None,
    columns: Sequence[str] | None,
    allow_gaps: bool,
) -> Series:
    header = [name.strip() for name in next(rows, [])]
    wanted = _wanted(header, path, date_column, columns)
    place = {name: i for i, name in enumerate(header)}
    found = [_Column(name) for name in wanted]
    dates: list[str] = []
    lines: list[int] = []
    for cells, chunk_lines in _chunks(rows, len(header), path):
        dates += cells[place[date_column]]
        lines += chunk_lines
        for column in found:
            column.add(cells[place[column.name]], chunk_lines)
    if not lines:
        raise UserError("the table has no rows", path, "Add one row a point in time.")
    if columns is None:
        found = _numeric(found, path)
    parsed = parse_dates(dates, lines, path, date_column, date_format)
    check_order(parsed, lines, path, date_column, allow_gaps)
    values = np.stack([column.values(path) for column in found], axis=1)  # (T, C)
    return Series(tuple(column.name for column in found), parsed, values)


def _chunks(rows: Iterator[list[str]], n_columns: int, path: Path) -> Iterator[tuple[list[tuple[str, ...]], list[int]]]:
    """Columns of up to ``CHUNK`` rows and the lines of these; blank lines are passed over."""
    numbered = ((rows.line_num, row) for row in rows if row)  # type: ignore[attr-defined]
    while chunk := list(islice(numbered, CHUNK)):
        for line, row in chunk:
            if len(row) != n_columns:
                what = f"the row has {len(row)} cells, the header {n_columns}"
                raise UserError(what, f"{path}, line {line}", "Give every row one cell a column.")
        lines, cells = zip(*chunk, strict=True)
        yield list(zip(*cells, strict=True)), list(lines)


def _wanted(header: list[str], path: Path, date_column: str, columns: Sequence[str] | None) -> list[str]:
    """Names of the columns to read."""
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f"two columns have one name: {', '.join(twice)}", path, "Rename one of them.")
    others = [name for name in header if name != date_column]
    if len(others) == len(header):
        what = f"there is no date column {date_column!r}; columns: {', '.join(header) or 'none'}"
        raise UserError(what, path, "Set data.date_column.")
    if columns is None:
        return others
    unknown = [name for name in columns if name not in others]
    if unknown or not columns or len(set(columns)) < len(columns):
        what = f"no series {', '.join(unknown)}" if unknown else f"data.columns names none, or one twice: {columns}"
        raise UserError(what, path, f"Choose data.columns of: {', '.join(others)}.")
    return list(columns)


def _numeric(found: list[_Column], path: Path) -> list[_Column]:
    """The columns that hold any number; the others are told."""
    numeric = [column for column in found if column.has_number]
    if not numeric:
        raise UserError("no column but the date's holds a number", path, "Check the file and data.date_column.")
    if len(numeric) < len(found):
        left = ", ".join(column.name for column in found if not column.has_number)
        log.info("left out, as they hold no number: %s", left)
    return numeric


def _numbers(cells: Sequence[str]) -> np.ndarray:
    """Cells as float64; what is no number becomes NaN."""
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        return np.array([_number(cell) for cell in cells])


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
