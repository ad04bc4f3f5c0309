"""Mean ± sample standard deviation of the figures of several runs."""

from __future__ import annotations

import statistics
from typing import Any


def summary(runs: list[dict[str, Any]]) -> dict[str, str]:
    """Figure name to ``mean ± std`` (sample standard deviation) over the runs that have it; lists place by place.

    Args:
        runs: contents of ``metrics.json``; what is no figure is left out.
    """
    names = sorted({name for run in runs for name, value in run.items() if is_figure(value)})
    return {name: spread([run[name] for run in runs if run.get(name) is not None]) for name in names}


def is_figure(value: Any) -> bool:
    """A number or a list of numbers, no table and no text."""
    return all(isinstance(each, (int, float)) for each in (value if isinstance(value, list) else [value]))


def spread(values: list[Any]) -> str:
    """``mean ± std`` of numbers; of lists, the same for each place."""
    if not values:
        return ""
    if isinstance(values[0], list):
        return ", ".join(spread(list(place)) for place in zip(*values, strict=True))
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"
