"""Cells of a table as numbers, with a decimal point or a decimal comma."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SWAPPED = str.maketrans(",.", ".,")
SIGN, EXPONENT = r"[+\-\u2212]?", r"(?:[eE][+-]?\d+)?"
SPACES = "' \u2019\u00a0\u202f"  # that part thousands, beside the point and the comma
UNIT = r"(?:\s*[%€$£]|\s+[^\d\s]\S*)?"
# Thousands are groups of three: 01.02.2024 is a date.
LIKE_A_NUMBER = re.compile(
    rf"{SIGN}(?:\d{{1,3}}(?:[.,{SPACES}]\d{{3}})+(?:[.,]\d*)?|\d+[.,]?\d*|[.,]\d+){EXPONENT}{UNIT}"
)


@dataclass(frozen=True)
class Decimals:
    """How numbers are written.

    Attributes:
        comma: with a decimal comma. A point is no part of a number then: 1.234 could be a thousand or one and a bit.
        foreign: what a number of the other way looks like.
        fix: what to do about such a cell.
        plain: a number as it should be written.
    """

    comma: bool
    foreign: re.Pattern[str]
    fix: str
    plain: str

    def numbers(self, cells: Sequence[str]) -> np.ndarray:
        """Cells as float64; what is no number becomes NaN."""
        if self.comma:
            cells = [cell.translate(SWAPPED) for cell in cells]
        try:
            return np.array(cells, dtype=np.float64)
        except ValueError:
            return np.array([_number(cell) for cell in cells])

    def is_foreign(self, cell: str) -> bool:
        """Whether a cell is a number of the other way, perhaps with separators of thousands or a unit."""
        return self.foreign.fullmatch(cell.strip()) is not None


def is_like_a_number(cell: str) -> bool:
    """Whether a cell is meant as a number, such as 1.200,50 or 0.5 EUR, though it cannot be read as one."""
    return LIKE_A_NUMBER.fullmatch(cell.strip()) is not None


def _decimals(sign: str, other: str, other_name: str) -> Decimals:
    foreign = rf"{SIGN}(?:\d{{1,3}}(?:[{sign}{SPACES}]\d{{3}})+|\d*)[{other}]\d+{EXPONENT}{UNIT}"
    fix = f"Set data.decimal={other_name} if it is a decimal {other_name}; take separators of thousands out."
    return Decimals(sign == ",", re.compile(foreign), fix, f"1234{sign}5")


DECIMALS = {"point": _decimals(".", ",", "comma"), "comma": _decimals(",", ".", "point")}


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
