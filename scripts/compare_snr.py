"""Radio runs side by side: a table of their accuracies, and a picture of them over the SNR with the Bayes limit.

    python scripts/compare_snr.py RUN RUN --titles cvkan ResNet-18 --picture networks.png
    python scripts/compare_snr.py RUN RUN --above 10

The table goes to the terminal as Markdown; its last columns are means over the SNRs from --above upwards.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

PARTS = ("modulation", "combined")
# Of metrics.json, and the heading of its column.
FIGURES = {"test/modulation_accuracy": "modulation", "test/combined_accuracy": "combined", "test/eta": "eta"}


def main() -> int:
    """Print the table and draw the picture; 2 if a folder is none of a radio run, or runs have unlike SNRs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--titles", nargs="+", help="one a run; the names of the folders otherwise")
    parser.add_argument("--above", type=float, default=0.0, help="dB, from which the last columns count")
    parser.add_argument("--picture", type=Path, default=Path("snr.png"), help="where the picture is written")
    typed = parser.parse_args()
    titles = typed.titles or [run.name for run in typed.runs]
    try:
        if len(titles) != len(typed.runs):
            raise ValueError(f"{len(typed.runs)} runs have {len(titles)} titles (--titles). Give each run one.")
        runs = [read_run(folder) for folder in typed.runs]
        if len({tuple(levels(run)) for run in runs}) > 1:
            raise ValueError(f"the runs have unlike SNRs ({', '.join(titles)}). Name runs on the same data.")
        if typed.above > max(levels(runs[0])):
            raise ValueError(f"no SNR of at least {typed.above:g} dB (--above). Highest: {max(levels(runs[0])):g}.")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    heads = [*FIGURES.values(), *(f"{part}, from {typed.above:g} dB" for part in PARTS)]
    print("| run | " + " | ".join(heads) + " |")
    print("| --- |" + " --- |" * len(heads))
    for title, run in zip(titles, runs, strict=True):
        values = [run.get(name) for name in FIGURES] + [
            mean_above(run, f"{part}_accuracy", typed.above) for part in PARTS
        ]
        print(f"| {title} | " + " | ".join("" if value is None else f"{value:.3f}" for value in values) + " |")
    draw(runs, titles, typed.picture)
    print(f"picture: {typed.picture}")
    return 0


def read_run(folder: Path) -> dict[str, Any]:
    """The figures of a radio run, SNRs without a test frame left out.

    Raises:
        ValueError: the folder is none of a finished one.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        raise ValueError(f"there is no metrics.json ({folder}). Name the folder of a finished run.")
    metrics: dict[str, Any] = json.loads(path.read_text())
    if "per_snr" not in metrics:
        raise ValueError(f"there is no accuracy over the SNR ({path}). Name a run of domain=radio.")
    metrics["per_snr"] = [row for row in metrics["per_snr"] if row["count"]]
    return metrics


def levels(run: dict[str, Any]) -> list[float]:
    """SNRs of a run in dB."""
    return [row["snr_db"] for row in run["per_snr"]]


def mean_above(run: dict[str, Any], name: str, lowest: float) -> float:
    """Mean of a column of ``per_snr`` over the SNRs of at least ``lowest`` dB."""
    return statistics.mean(row[name] for row in run["per_snr"] if row["snr_db"] >= lowest)


def draw(runs: list[dict[str, Any]], titles: list[str], path: Path) -> None:
    """A panel for the modulation and one for both answers, a line a run; dashed the limit, if the runs know it."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(9.6, 3.8), layout="constrained")
    axes = picture.subplots(1, len(PARTS), sharey=True)
    for axis, part in zip(axes, PARTS, strict=True):
        for run, title in zip(runs, titles, strict=True):
            axis.plot(levels(run), [row[f"{part}_accuracy"] for row in run["per_snr"]], ".-", label=title)
        limit = [row.get(f"{part}_bound") for row in runs[0]["per_snr"]]
        if None not in limit:
            axis.plot(levels(runs[0]), limit, "k--", linewidth=1.2, label="at best (Bayes)")
        axis.set(title="modulation" if part == "modulation" else "modulation and SNR", xlabel="SNR / dB")
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="accuracy", ylim=(-0.02, 1.02))
    axes[0].legend(frameon=False, fontsize=8)
    picture.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
