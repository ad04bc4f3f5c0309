"""What a person looks at after a run: the table on the terminal, ``plots/`` and ``report.html``."""

from __future__ import annotations

import base64
import csv
import json
import math
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvkan.atomic import atomic_file, write_text
from cvkan.run_directory import RunDirectory
from cvkan.tasks.base import Task

if TYPE_CHECKING:
    from rich.table import Table

# The picture named under the result table: the first of these that the run made.
HEADLINE_PLOTS = (
    *("accuracy_over_snr", "cosine_by_position", "forecast", "polarization", "polarization_layers"),
    *("confusion_matrix", "curves"),
)
HEADLINE_TABLES = ("per_snr",)  # printed below the result table, where the run has them
DPI = 110
MAX_COLUMNS = 10  # of such a table, so that it fits a terminal


def write(run: RunDirectory, task: Task) -> None:
    """Draw the curves and the task's figures into ``plots/`` and write ``report.html``.

    Args:
        run: a finished run with ``metrics.csv``, ``metrics.json`` and ``run.json``.
        task: the tested task.
    """
    # Imported late: matplotlib costs a second that the first training step need not wait for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from cvkan import plots

    figures = task.figures()
    past = history(run)
    if past:
        figures["curves"] = plots.curves(past, run.path.name)
    for name, figure in figures.items():
        figure.dpi = DPI
        with atomic_file(run.plots / f"{name}.png") as file:
            # Draws once; savefig would draw a second time, before it, for the layout alone.
            FigureCanvasAgg(figure).print_png(file)
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
    table = [(name, number(value)) for name, value in sorted(metrics.items()) if not is_table(value)]
    table += [
        ("parameters", f"{record['parameters']:,}"),
        ("fit time", f"{record['fit_seconds']:.0f} s"),
        ("samples per second", number(record["samples_per_second"])),
        ("peak memory", f"{(record['peak_memory_bytes'] or 0) / 2**20:,.0f} MiB"),
        ("device, precision, seed", f"{record['device']}, {record['precision']}, {record['seed']}"),
    ]
    return table


def tables(run: RunDirectory) -> dict[str, list[dict[str, Any]]]:
    """The metrics that are tables of their own: lists of dicts, one a row."""
    metrics = json.loads(run.metrics_json.read_text())
    return {name: value for name, value in metrics.items() if is_table(value) and isinstance(value[0], dict)}


def is_table(value: Any) -> bool:
    """A list of rows (``per_snr``) or a matrix (``confusion_snr``), not of figures."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], (dict, list))


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
    from rich.text import Text

    table = Table(title=Text(f"cvkan run {run.path.name}"), title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in rows(run):
        table.add_row(name, value)
    console = Console(soft_wrap=True)
    console.print(table)
    for name, records in tables(run).items():
        if name in HEADLINE_TABLES:
            console.print(across(name, records))
    pictures = [run.plots / f"{name}.png" for name in HEADLINE_PLOTS]
    for label, path in (
        ("run directory", run.path),
        ("report", run.path / "report.html"),
        ("picture", next((path for path in pictures if path.exists()), run.plots)),
    ):
        console.print(f"{label + ':':<15}{shown(path)}", markup=False, highlight=False)


def across(name: str, records: list[dict[str, Any]]) -> Table:
    """A table laid on its side, one column a record; of many records every second, third, … one."""
    from rich import box
    from rich.table import Table

    kept = records[:: math.ceil(len(records) / MAX_COLUMNS)]
    note = f" ({len(kept)} of {len(records)}; metrics.json has all)" if len(kept) < len(records) else ""
    table = Table(
        title=f"{name}{note}", title_justify="left", show_header=False, box=box.HORIZONTALS, padding=(0, 1, 0, 0)
    )
    table.add_column()
    for _ in kept:
        table.add_column(justify="right")
    for key in kept[0]:
        values = (record[key] for record in kept)
        table.add_row(key, *(number(round(value, 2) if isinstance(value, float) else value) for value in values))
    return table


def shown(path: Path) -> Path:
    """The path as a person would type it from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def page(run: RunDirectory) -> str:
    """The run as one HTML page that needs no network: tables, pictures, config."""
    import jinja2

    template = files("cvkan").joinpath("templates/report.html.j2").read_text()
    pictures = sorted(run.plots.glob("*.png"), key=lambda path: (path.stem not in HEADLINE_PLOTS, path.stem))
    return (
        jinja2.Environment(autoescape=True)
        .from_string(template)
        .render(
            name=run.path.name,
            rows=rows(run),
            tables=tables(run),
            number=number,
            record=json.loads(run.run_json.read_text()),
            config=run.config.read_text(),
            pictures=[(path.stem, base64.b64encode(path.read_bytes()).decode()) for path in pictures],
        )
    )
