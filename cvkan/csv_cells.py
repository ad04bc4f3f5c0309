"""CSV files of users: what parts their cells, and cells of any length."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager

DELIMITERS = ",;\t|"


def header_delimiter(text: str) -> str:
    """The delimiter that the first line holds most often."""
    return max(DELIMITERS, key=text.partition("\n")[0].count)


@contextmanager
def cells_of_any_length() -> Iterator[None]:
    """Lift the csv module's limit, 131072 characters a cell, which is one for the whole process."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)
