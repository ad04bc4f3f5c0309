"""Mean ± standard deviation of the final figures over the runs of each folder, as a Markdown table.

    python scripts/summarize_runs.py multirun/2026-11-20_10-00-00 [FOLDER ...]

Every folder is one row, its runs are the folders with a metrics.json below it; this is how the tables of
docs/results.md were made.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from cvkan.sweeping.spread import summary


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


if __name__ == "__main__":
    sys.exit(main())
