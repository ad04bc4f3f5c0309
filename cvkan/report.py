"""What a person looks at after a run: the table on the terminal, ``plots/`` and ``report.html``."""

from __future__ import annotations

import base64
import csv
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

from cvkan.atomic import atomic_file, write_text
from cvkan.run_directory import RunDirectory
from cvkan.tasks.base import Task

# The picture named under the result table: the first of these that the run made.
HEADLINE_PLOTS = ("polarization", "polarization_layers", "confusion_matrix", "curves")


def write(run: RunDirectory, task: Task) -> None:
    """Draw the curves and the task's figures into ``plots/`` and write ``report.html``.

    Args:
        run: a finished run with ``metrics.csv``, ``metrics.json`` and ``run.json``.
        task: the tested task.
    """
    from cvkan import plots  # matplotlib costs a second that the first training step need not wait for

    figures = task.figures()
    past = history(run)
    if past:
        figures["curves"] = plots.curves(past, run.path.name)
    for name, figure in figures.items():
        with atomic_file(run.plots / f"{name}.png") as file:
            figure.savefig(file, format="png", dpi=110)
    write_text(run.path / "report.html", page(run))


def history(run: RunDirectory) -> dict[str, list[tuple[float, float]]]:
    """Metric name to (epoch, value) pairs, for what is logged once an epoch in training and validation."""
    past: dict[str, list[tuple[float, float]]] = {}
    if not run.metrics_csv.exists():
        return past
    with open(run.metrics_csv, newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name.startswith(("train/", "val/")) and value and row.get("epoch"):
                    past.setdefault(name, []).append((float(row["epoch"]) + 1, float(value)))
    return past


def rows(run: RunDirectory) -> list[tuple[str, str]]:
    """The result table: figures first, then what they cost."""
    metrics = json.loads(run.metrics_json.read_text())
    record = json.loads(run.run_json.read_text())
    table = [(name, number(value)) for name, value in sorted(metrics.items())]
    table += [
        ("parameters", f"{record['parameters']:,}"),
        ("fit time", f"{record['fit_seconds']:.0f} s"),
        ("samples per second", number(record["samples_per_second"])),
        ("peak memory", f"{(record['peak_memory_bytes'] or 0) / 2**20:,.0f} MiB"),
        ("device, precision, seed", f"{record['device']}, {record['precision']}, {record['seed']}"),
    ]
    return table


def number(value: Any) -> str:
    """A figure with four significant digits; lists in brackets."""
    if isinstance(value, list):
        return "[" + ", ".join(number(item) for item in value) + "]"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "none" if value is None else str(value)


def print_table(run: RunDirectory) -> None:
    """The result table on stdout, with the paths of the report and of one picture."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"cvkan run {run.path.name}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in rows(run):
        table.add_row(name, value)
    console = Console(soft_wrap=True)
    console.print(table)
    pictures = [run.plots / f"{name}.png" for name in HEADLINE_PLOTS]
    for label, path in (
        ("run directory", run.path),
        ("report", run.path / "report.html"),
        ("picture", next((path for path in pictures if path.exists()), run.plots)),
    ):
        console.print(f"{label + ':':<15}{shown(path)}", markup=False, highlight=False)


def shown(path: Path) -> Path:
    """The path as a person would type it from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def page(run: RunDirectory) -> str:
    """The run as one HTML page that needs no network: table, pictures, config."""
    import jinja2

    template = files("cvkan").joinpath("templates/report.html.j2").read_text()
    pictures = sorted(run.plots.glob("*.png"), key=lambda path: (path.stem not in HEADLINE_PLOTS, path.stem))
    return (
        jinja2.Environment(autoescape=True)
        .from_string(template)
        .render(
            name=run.path.name,
            rows=rows(run),
            record=json.loads(run.run_json.read_text()),
            config=run.config.read_text(),
            pictures=[(path.stem, base64.b64encode(path.read_bytes()).decode()) for path in pictures],
        )
    )
