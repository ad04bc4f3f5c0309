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

from cvkan.csv_cells import cells_of_any_length, header_delimiter
from cvkan.domains.timeseries.dates import check_order, parse_dates
from cvkan.domains.timeseries.decimals import DECIMALS, Decimals, is_like_a_number
from cvkan.errors import DataUnavailableError, UserError

CHUNK = 5000  # rows parsed at once: numbers take a tenth of the memory of their text
PLAINLY = (
    "Fill in missing values first; write numbers plainly, such as {}, without units or separators of thousands; or "
    "name the other columns in data.columns."
)

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


def without_constants(series: Series, n_train: int, named: bool) -> Series:
    """The series without the columns that are constant in the first ``n_train`` rows; these are told.

    Args:
        series: all columns.
        n_train: rows of the training part.
        named: whether the user asked for each of the columns.

    Raises:
        UserError: none is left, or one that was asked for is constant.
    """
    train = series.values[:n_train]
    constant = train.min(axis=0) == train.max(axis=0)  # (C,); rounding keeps their std from being exactly 0
    if not constant.any():
        return series
    names = ", ".join(np.array(series.names)[constant])
    if constant.all():
        what = f"every column is constant in the {n_train} training rows: {names}"
        raise UserError(what, "data.columns", "Choose columns that change, or a longer training part.")
    if named:
        what = f"data.columns names what is constant in the {n_train} training rows: {names}"
        raise UserError(what, "data.columns", "Take it out, or choose a longer training part.")
    log.warning("left out, as they are constant in the %d training rows: %s", n_train, names)
    kept = tuple(name for name, still in zip(series.names, constant, strict=True) if not still)
    return Series(kept, series.dates, series.values[:, ~constant])


@dataclass(frozen=True)
class Layout:
    """How a table is written, and what is wanted of it.

    Attributes:
        date_column: column of the dates.
        date_format: see :func:`~cvkan.domains.timeseries.dates.read_date`.
        decimal: ``point`` or ``comma``.
        columns: the wanted ones, in this order; None takes all but those without a single number.
        allow_gaps: admit dates at unequal distances.
    """

    date_column: str
    date_format: str | None
    decimal: str
    columns: Sequence[str] | None
    allow_gaps: bool

    def __post_init__(self) -> None:
        if self.decimal not in DECIMALS:
            raise UserError(f"no decimal {self.decimal!r}", "data.decimal", f"Choose {' or '.join(DECIMALS)}.")


def read_table(path: Path, layout: Layout) -> Series:
    """The series of a CSV file with a header; the delimiter is ``,``, ``;``, ``|`` or a tab.

    Args:
        path: text in UTF-8.
        layout: see :class:`Layout`.

    Raises:
        DataUnavailableError: there is no such file.
        UserError: the file is no table, a column is missing, a cell is no finite number, or the dates are not dates,
            not in order or, without ``allow_gaps``, not evenly spaced. The line and the column are named.
    """
    try:
        with cells_of_any_length(), path.open(newline="", encoding="utf-8-sig") as file:
            delimiter = header_delimiter(file.readline())
            file.seek(0)
            return _read(csv.reader(file, delimiter=delimiter), path, layout)
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
    decimals: Decimals
    parts: list[np.ndarray] = field(default_factory=list)
    has_number: bool = False  # in whatever way it is written
    fault: tuple[int, str] | None = None  # line and text of the first cell that is no number
    foreign: tuple[int, str] | None = None  # of the first one that is a number with the other decimal sign

    def add(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        values = self.decimals.numbers(cells)
        faults = (~np.isfinite(values)).nonzero()[0]
        self.has_number |= len(faults) < len(values)
        places = [(lines[row], cells[row]) for row in faults]
        self.has_number = self.has_number or any(is_like_a_number(cell) for _, cell in places)
        self.fault = self.fault or next(iter(places), None)
        self.foreign = self.foreign or next((place for place in places if self.decimals.is_foreign(place[1])), None)
        self.parts.append(values)

    def values(self, path: Path) -> np.ndarray:
        fault = self.foreign or self.fault
        if fault is not None:
            line, cell = fault
            what = f"{cell!r} is not a finite number" if cell.strip() else "the cell is empty"
            fix = PLAINLY.format(self.decimals.plain) if self.foreign is None else self.decimals.fix
            raise UserError(what, f"{path}, line {line}, column {self.name}", fix)
        return np.concatenate(self.parts)


def _read(rows: Iterator[list[str]], path: Path, layout: Layout) -> Series:
    header = [name.strip() for name in next(rows, [])]
    wanted = _wanted(header, path, layout)
    place = {name: i for i, name in enumerate(header)}
    found = [_Column(name, DECIMALS[layout.decimal]) for name in wanted]
    dates: list[str] = []
    lines: list[int] = []
    for cells, chunk_lines in _chunks(rows, len(header), path):
        dates += cells[place[layout.date_column]]
        lines += chunk_lines
        for column in found:
            column.add(cells[place[column.name]], chunk_lines)
    if not lines:
        raise UserError("the table has no rows", path, "Add one row a point in time.")
    if layout.columns is None:
        found = _numeric(found, path)
    parsed = parse_dates(dates, lines, path, layout.date_column, layout.date_format)
    check_order(parsed, lines, path, layout.date_column, layout.allow_gaps)
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


def _wanted(header: list[str], path: Path, layout: Layout) -> list[str]:
    """Names of the columns to read."""
    date_column, columns = layout.date_column, layout.columns
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f"two columns have one name: {', '.join(twice)}", path, "Rename one of them.")
    others = [name for name in header if name != date_column]
    if len(others) == len(header):
        what = f"there is no date column {date_column!r}; columns: {', '.join(header) or 'none'}"
        raise UserError(what, path, "Set data.date_column.")
    if columns is None:
        return others
    columns = [str(name) for name in columns]  # a name such as 1 is no text on a command line
    unknown = [name for name in columns if name not in others]
    if unknown or not columns or len(set(columns)) < len(columns):
        what = f"no series {', '.join(unknown)}" if unknown else f"data.columns names none, or one twice: {columns}"
        raise UserError(what, path, f"Choose data.columns of: {', '.join(others)}.")
    return columns


def _numeric(found: list[_Column], path: Path) -> list[_Column]:
    """The columns that hold any number; the others are told."""
    numeric = [column for column in found if column.has_number]
    if not numeric:
        raise UserError("no column but the date's holds a number", path, "Check the file and data.date_column.")
    if len(numeric) < len(found):
        left = ", ".join(column.name for column in found if not column.has_number)
        log.warning("left out, as they hold no number: %s", left)
    return numeric
