"""Cells of a table as numbers, with a decimal point or a decimal comma."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SWAPPED = str.maketrans(",.", ".,")


@dataclass(frozen=True)
class Decimals:
    """How numbers are written.

    Attributes:
        comma: with a decimal comma. A point is no part of a number then: 1.234 could be a thousand or one and a bit.
        foreign: what a number of the other way looks like.
        fix: what to do about such a cell.
    """

    comma: bool
    foreign: re.Pattern[str]
    fix: str

    def numbers(self, cells: Sequence[str]) -> np.ndarray:
        """Cells as float64; what is no number becomes NaN."""
        if self.comma:
            cells = [cell.translate(SWAPPED) for cell in cells]
        try:
            return np.array(cells, dtype=np.float64)
        except ValueError:
            return np.array([_number(cell) for cell in cells])

    def is_foreign(self, cell: str) -> bool:
        """Whether a cell is a number of the other way."""
        return self.foreign.fullmatch(cell.strip()) is not None


THOUSANDS = "take separators of thousands out"
DECIMALS = {
    "point": Decimals(
        False, re.compile(r"[+-]?\d+,\d+"), f"Set data.decimal=comma if it is a decimal comma, else {THOUSANDS}."
    ),
    "comma": Decimals(
        True, re.compile(r"[+-]?\d+\.\d+"), f"Set data.decimal=point if it is a decimal point, else {THOUSANDS}."
    ),
}


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
