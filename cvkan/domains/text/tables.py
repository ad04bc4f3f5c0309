"""Tables of sentences: CSV and tab-separated files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvkan.csv_cells import cells_of_any_length, header_delimiter
from cvkan.errors import DataUnavailableError, UserError


@dataclass(frozen=True)
class Row:
    """One sentence of a table.

    Attributes:
        text: as it stands there; not empty.
        label: name of its class; not empty.
        part: content of the column that names the part, empty without one.
        path: the file.
        line: its last line there, counted from 1.
    """

    text: str
    label: str
    part: str
    path: Path
    line: int

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.path}, line {self.line}"


@dataclass(frozen=True)
class Table:
    """A table of sentences.

    Attributes:
        rows: one a sentence; at least one.
        others: cells of the columns that nobody asked for, by their names.
    """

    rows: list[Row]
    others: dict[str, list[str]]


@cells_of_any_length()
def read_table(path: Path, text_column: str, label_column: str, part_column: str | None) -> Table:
    """All rows of a table with a header.

    The delimiter is that of ``, ; | tab`` which the header holds most often. Tab-separated files have no quoting, as
    those of GLUE: a quotation mark is a part of the text. In the others a cell in double quotes may hold anything.

    Args:
        path: a file in UTF-8, with or without a byte order mark.
        text_column: name of the column of sentences.
        label_column: name of the column of classes.
        part_column: name of the column that says which part a row is of; None if there is none.

    Raises:
        DataUnavailableError: there is no such file.
        UserError: the file is no such table, or a row has no text, no label or another number of cells than the
            header; the line is named.
    """
    rows = _cells(read_utf8(path), path)
    header = _header(rows)
    wanted = [name for name in (text_column, label_column, part_column) if name is not None]
    places = {name: _place(name, header, path) for name in wanted}
    others: dict[str, list[str]] = {name: [] for name in header if name not in wanted}
    places_of_others = {name: header.index(name) for name in others}
    result = []
    for line, cells in rows:
        where = f"{path}, line {line}"
        if len(cells) != len(header):
            raise UserError(
                f"the row has {len(cells)} cells, the header {len(header)}",
                where,
                "Quote texts that hold the delimiter, in tab-separated files take tabs out of them.",
            )
        values = {name: cells[place].strip() for name, place in places.items()}
        for name in wanted:
            if not values[name]:
                raise UserError(f"the cell of column {name!r} is empty", where, "Fill it in or remove the row.")
        for name, place in places_of_others.items():
            others[name].append(cells[place].strip())
        part = "" if part_column is None else values[part_column]
        result.append(Row(values[text_column], values[label_column], part, path, line))
    if not result:
        raise UserError("the table has no rows", path, "Add one row a sentence.")
    return Table(result, others)


@cells_of_any_length()
def columns_of(path: Path) -> list[str]:
    """Names of the columns of a table; raises as :func:`read_table` does."""
    return _header(_cells(read_utf8(path), path))


def read_utf8(path: Path) -> str:
    """The text of a file, lines ended by ``\\n``.

    Raises:
        DataUnavailableError: there is no such file.
        UserError: it cannot be read, or is not text in UTF-8; the line is named.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataUnavailableError("there is no such file", path, "Correct the path.") from None
    except OSError as error:
        raise UserError(f"the file cannot be read: {error.strerror}", path, "Name a file.") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        what = f"the file is not UTF-8: byte 0x{raw[error.start]:02X}"
        raise UserError(what, f"{path}, line {line}", "Save it as UTF-8.") from None
    if "\0" in text:
        raise UserError("the file is not text in UTF-8: it holds zero bytes", path, "Save it as UTF-8.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _cells(text: str, path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """Line and cells of each row that is not blank, the header among them."""
    delimiter = header_delimiter(text)
    if delimiter == "\t":
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield number, line.split(delimiter)
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"broken CSV: {error}", f"{path}, line {reader.line_num}", "Correct the file.") from None


def _header(rows: Iterator[tuple[int, Sequence[str]]]) -> list[str]:
    _, names = next(rows, (1, []))
    return [name.strip() for name in names]


def _place(name: str, header: Sequence[str], path: Path) -> int:
    if header.count(name) != 1:
        found = "no column" if name not in header else f"{header.count(name)} columns"
        columns = ", ".join(header) or "none"
        raise UserError(f"the table has {found} {name!r}; columns: {columns}", path, "Name one of them.")
    return header.index(name)
