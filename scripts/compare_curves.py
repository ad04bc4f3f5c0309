"""Curves of training and validation of several runs side by side, on one scale.

python scripts/compare_curves.py RUN RUN --titles "no dropout" "dropout 0.5" --picture curves.png
python scripts/compare_curves.py RUN RUN RUN --figure accuracy
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cvkan.report import history
from cvkan.run_directory import RunDirectory

PARTS = {"train": "--", "val": "-"}


def main() -> int:
    """Draw the picture; 2 if a folder is none of a run, or a run has not logged the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories, or folders of sweeps' jobs")
    parser.add_argument("--figure", default="loss", help="name behind train/ and val/")
    parser.add_argument("--titles", nargs="+", help="one a run; the names of the folders otherwise")
    parser.add_argument("--picture", type=Path, default=Path("curves.png"), help="where the picture is written")
    typed = parser.parse_args()
    titles = typed.titles or [run.name for run in typed.runs]
    if len(titles) != len(typed.runs):
        print(
            f"error: {len(typed.runs)} runs have {len(titles)} titles (--titles). Give each run one.", file=sys.stderr
        )
        return 2
    # Before a run is read: RunDirectory makes the folder that it is given.
    missing = [run for run in typed.runs if not (run / "metrics.csv").is_file()]
    if missing:
        print(f"error: there is no metrics.csv ({missing[0]}). Name the folder of a run.", file=sys.stderr)
        return 2
    curves = [read_curves(run, typed.figure) for run in typed.runs]
    if "val" not in set.intersection(*(set(curve) for curve in curves)):
        run = next(run for run, curve in zip(typed.runs, curves, strict=True) if "val" not in curve)
        print(
            f"error: no val/{typed.figure} in metrics.csv ({run}). Name another figure (--figure) or run.",
            file=sys.stderr,
        )
        return 2
    draw(curves, titles, typed.figure, typed.picture)
    print(f"picture: {typed.picture}")
    return 0


def read_curves(run: Path, figure: str) -> dict[str, list[tuple[float, float]]]:
    """``train`` and ``val``, those that the run has logged: (epoch, value) pairs."""
    past = history(RunDirectory(run))
    return {part: past[f"{part}/{figure}"] for part in PARTS if f"{part}/{figure}" in past}


def draw(curves: list[dict[str, list[tuple[float, float]]]], titles: list[str], figure: str, path: Path) -> None:
    """One panel a run, all on the same axis of values."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(3.4 * len(curves), 3.2), layout="constrained")
    axes = picture.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axis, parts, title in zip(axes, curves, titles, strict=True):
        for part, points in parts.items():
            axis.plot(*zip(*points, strict=True), label=part, linestyle=PARTS[part], marker=".")
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(figure)
    axes[0].legend()
    picture.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
