"""A sweep as a table and a picture: figures over one of its overrides, mean ± standard deviation over the others.

    python scripts/compare_sweep.py multirun/2026-11-20_10-00-00 --by domain.d_latent
    python scripts/compare_sweep.py FOLDER --by model.cell --figures test/token_cosine baseline/pca_cosine

The table goes to the terminal as Markdown; the picture, by default comparison.png, into the folder of the sweep.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cvkan.sweeping.spread import spread

DEFAULT_FIGURES = ("test/token_cosine", "baseline/pca_cosine", "baseline/mean_vector_cosine", "test/word_accuracy")


def main() -> int:
    """Print the table and draw the picture; 2 if there is nothing to compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a multirun folder")
    parser.add_argument("--by", required=True, help="the override on the horizontal axis, such as domain.d_latent")
    parser.add_argument("--figures", nargs="+", default=DEFAULT_FIGURES, help="names of figures in metrics.json")
    parser.add_argument("--picture", type=Path, help="where the picture is written")
    typed = parser.parse_args()
    try:
        groups = read_groups(typed.folder, typed.by, typed.figures)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"| {typed.by} | runs | " + " | ".join(typed.figures) + " |")
    print("| --- | --- |" + " --- |" * len(typed.figures))
    for value, runs in groups.items():
        cells = [spread([run[name] for run in runs]) for name in typed.figures]
        print(f"| {value} | {len(runs)} | " + " | ".join(cells) + " |")
    picture = typed.picture or typed.folder / "comparison.png"
    draw(groups, typed.by, typed.figures, picture)
    print(f"picture: {picture}")
    return 0


def read_groups(folder: Path, key: str, figures: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Figures of the finished runs below a folder, by what was typed for ``key``, in the order of its values.

    Raises:
        ValueError: no run has finished, or one has no such override or figure.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("**/metrics.json")):
        overrides = dict(line.split("=", 1) for line in OmegaConf.load(path.parent / ".hydra/overrides.yaml"))
        if key not in overrides:
            raise ValueError(f"the run was not given {key} ({path.parent}). Known: {', '.join(overrides)}.")
        metrics = json.loads(path.read_text())
        missing = [name for name in figures if not isinstance(metrics.get(name), (int, float))]
        if missing:
            numbers = [name for name, value in metrics.items() if isinstance(value, (int, float))]
            raise ValueError(f"the run has no figure {missing[0]} ({path}). Known: {', '.join(numbers)}.")
        groups.setdefault(overrides[key], []).append(metrics)
    if not groups:
        raise ValueError(f"no metrics.json below {folder} (command line). Name the folder of a finished sweep.")
    return dict(sorted(groups.items(), key=lambda item: order(item[0])))


def order(value: str) -> tuple[float, str]:
    """Numbers by size, before words by the alphabet."""
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value


def draw(groups: dict[str, list[dict[str, Any]]], key: str, figures: list[str], path: Path) -> None:
    """One line a figure, with the standard deviation as bars; baselines are dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    for name in figures:
        values = [[run[name] for run in runs] for runs in groups.values()]
        means = [statistics.mean(each) for each in values]
        deviations = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in values]
        style = "--" if name.startswith("baseline/") else "-"
        axis.errorbar(range(len(groups)), means, deviations, label=name, marker="o", linestyle=style, capsize=3)
    axis.set_xticks(range(len(groups)), groups)
    axis.set(xlabel=key, ylabel="mean over runs")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
