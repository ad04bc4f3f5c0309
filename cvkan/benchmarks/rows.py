"""The result of a benchmark: rows, their table, their files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from cvkan.atomic import write_text


@dataclass(frozen=True)
class Row:
    """One figure and what it is compared with.

    Attributes:
        case: what was measured, with its sizes.
        metric: name of the figure.
        value: the figure, in ``unit``.
        unit: unit of ``value``.
        against: what it is compared with.
        ratio: how many times better than ``against``; above 1 cvkan is better. The median of all repetitions.
        ratio_min: smallest ratio of a repetition.
        ratio_max: largest ratio of a repetition.
    """

    case: str
    metric: str
    value: float
    unit: str
    against: str
    ratio: float
    ratio_min: float
    ratio_max: float


def compared(
    case: str, metric: str, own: Sequence[float], unit: str, against: str, others: Sequence[float], scale: float = 1.0
) -> Row:
    """A row of a cost, where less is better, from repetitions measured in turns.

    Args:
        case: see :class:`Row`.
        metric: see :class:`Row`.
        own: cvkan's cost in each repetition.
        unit: unit of ``value``.
        against: see :class:`Row`.
        others: the other's cost in each repetition, in the same order.
        scale: factor from the cost to ``unit``.
    """
    ratios = [other / mine for mine, other in zip(own, others, strict=True)]
    return Row(case, metric, median(own) * scale, unit, against, median(ratios), min(ratios), max(ratios))


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table whose columns line up."""
    cells = [["case", "metric", "value", "unit", "against", "ratio", "from", "to"]]
    for row in rows:
        figures = (row.ratio, row.ratio_min, row.ratio_max)
        cells.append([row.case, row.metric, f"{row.value:.4g}", row.unit, row.against, *(f"{x:.2f}" for x in figures)])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    )


def write(rows: Sequence[Row], folder: Path, suite: str) -> Path:
    """Write ``suite.json`` and ``suite.md`` into ``folder``, which is made if needed.

    Returns:
        The path of the JSON file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{suite}.json"
    write_text(path, json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    write_text(
        path.with_suffix(".md"), f"# suite={suite}\n\nA ratio above 1 means that cvkan is better.\n\n{table(rows)}\n"
    )
    return path
