"""Mean ± standard deviation of the final figures over the runs of each folder, as a Markdown table.

    python scripts/summarize_runs.py multirun/2026-11-20_10-00-00 [FOLDER ...]

Every folder is one row, its runs are the folders with a metrics.json below it; this is how the tables of
docs/results.md were made.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Print the table; 2 if a folder holds no finished run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="a multirun folder, or any folder with runs below it")
    rows = {}
    for folder in parser.parse_args().folders:
        runs = [json.loads(path.read_text()) for path in sorted(folder.glob("**/metrics.json"))]
        if not runs:
            print(
                f"error: no metrics.json below {folder} (command line). Name a folder of finished runs.",
                file=sys.stderr,
            )
            return 2
        rows[folder.name] = {"runs": str(len(runs)), **summary(runs)}
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    print("| runs in | " + " | ".join(names) + " |")
    print("| --- |" + " --- |" * len(names))
    for folder_name, row in rows.items():
        print(f"| {folder_name} | " + " | ".join(row.get(name, "") for name in names) + " |")
    return 0


def summary(runs: list[dict[str, Any]]) -> dict[str, str]:
    """Figure name to ``mean ± std`` (sample standard deviation) over the runs that have it; lists place by place."""
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


if __name__ == "__main__":
    sys.exit(main())
