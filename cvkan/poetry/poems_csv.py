"""Poems out of a CSV with a header."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from cvkan.csv_cells import DELIMITERS, cells_of_any_length, header_delimiter
from cvkan.errors import UserError
from cvkan.poetry.poem_fields import COLUMNS, key, listed

CSV_SUFFIXES = {".csv", ".tsv"}


@cells_of_any_length()
def delimiter_of(text: str, path: Path) -> str | None:
    """What parts the columns of a CSV, or None for plain text.

    A header names the text and at least one column more, without a space after the delimiter, and the first row is as
    long: ``Poem, by night`` is none. In a file named .csv any first line is a header.
    """
    named = path.suffix.lower() in CSV_SUFFIXES
    for delimiter in DELIMITERS:
        rows = csv.reader(io.StringIO(text.lstrip("\n"), newline=""), delimiter=delimiter, strict=True)
        try:
            header, row = next(rows), next(rows, [])
        except csv.Error:
            continue
        simple = all(re.fullmatch(r"(?:\w[\w -]*)?", name) for name in header)
        if key(COLUMNS, header) is not None and (named or (simple and len(header) == len(row) > 1)):
            return delimiter
    return header_delimiter(text) if named else None


@cells_of_any_length()
def csv_records(text: str, delimiter: str, path: Path) -> list[dict[str, str]]:
    """The rows of a CSV by the names of their columns.

    Raises:
        UserError: it is broken, or has no column of texts.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[dict[str, str]] = []
    header: list[str] = []
    try:
        for row in filter(None, rows):
            if not header:
                header = [name.strip() for name in row]
                _check_header(header, path)
            elif len(row) != len(header):
                what = f"poem {len(records)} has {len(row)} cells, the header {len(header)}"
                raise UserError(what, f"{path}, line {rows.line_num}", "Quote texts that hold the delimiter.")
            else:
                records.append(dict(zip(header, row, strict=True)))
    except csv.Error as error:
        where = f"{path}, line {rows.line_num}"
        raise UserError(f"broken CSV in poem {len(records)}: {error}", where, "Correct the file.") from None
    return records


def _check_header(header: list[str], path: Path) -> None:
    if len(set(header)) < len(header):
        raise UserError("two columns have one name", path, f"Rename one of {listed(header)}.")
    if key(COLUMNS, header) is None:
        what = f"no text column among {listed(header)}, which the first row names"
        raise UserError(what, path, f"Name one {' or '.join(COLUMNS)}.")
