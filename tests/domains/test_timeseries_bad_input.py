"""What people's tables get wrong, through the command: one line that names the place, and nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result

CHOICES = ("domain=timeseries", "data=csv", "data.path=table.csv", "output_dir=run")
WINDOW = ("domain.lookback=16", "domain.pred_len=4", "data.period=8")


def write(changed: dict[int, str] | None = None, n_rows: int = 60) -> None:
    """A table of days in the current folder, some of its lines in other words."""
    lines = ["date,load,still"]
    lines += [f"2024-{1 + i // 28:02}-{1 + i % 28:02},{(7 * i) % 10},1" for i in range(n_rows)]
    for line, text in (changed or {}).items():
        lines[line - 1] = text
    Path("table.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("changed", "options", "said"),
    [
        ({9: "2024-01-08,?,1"}, WINDOW, ("'?' is not a finite number", "table.csv, line 9, column load")),
        ({9: "2024-01-08,,1"}, WINDOW, ("the cell is empty", "line 9, column load")),
        ({9: "2024-01-03,1,1"}, WINDOW, ("the dates are not in order", "line 9, column date")),
        ({9: "2024-01-07,1,1"}, WINDOW, ("2024-01-07 00:00:00 stands twice", "line 9, column date")),
        ({9: "Monday,1,1"}, WINDOW, ("'Monday' is no date", "line 9, column date", "data.date_format")),
        ({}, (), ("the train part has 42 of the 60 rows, at least 192 are needed", "Lower both, to 42 in sum")),
        ({}, (*WINDOW, "domain.pred_len=13"), ("the val part has 6 of the 60 rows", "domain.pred_len")),
        ({}, (*WINDOW, "data.columns=[loud]"), ("no series loud", "load, still")),
        ({}, (*WINDOW, "data.columns=[still]"), ("every column is constant in the 42 training rows: still",)),
        ({9: '2024-01-08,"1,5",1'}, WINDOW, ("'1,5' is not a finite number", "line 9", "data.decimal=comma")),
        ({9: "1704672000,1,1"}, WINDOW, ("'1704672000' is no date", "line 9", "data.date_format=unix")),
        ({}, (*WINDOW, "data.period=90"), ("a season of 90 rows is longer than the 48 rows", "data.period")),
    ],
)
def test_a_faulty_table_ends_in_one_line(
    train_here: Callable[..., Result], changed: dict[int, str], options: tuple[str, ...], said: tuple[str, ...]
) -> None:
    write(changed)
    result = train_here(*CHOICES, "data.allow_gaps=true", *options)
    assert result.code == 2, result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    for text in said:
        assert text in result.err
    assert not Path("run").exists() or not list(Path("run").rglob("*.ckpt"))
