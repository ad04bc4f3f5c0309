"""What a sweep leaves behind: ``summary.csv``, a row a job; ``summary.md`` and ``summary.html``, means over seeds."""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter
from importlib.resources import files
from pathlib import Path

from cvkan.atomic import write_text
from cvkan.sweeping.rows import Group, Row, groups, label, short_names, varying
from cvkan.sweeping.spread import summary

Table = list[list[str]]  # the first row holds the names of the columns
MAX_FIGURES = 2  # of the table on the terminal


def write(sweep: Path, rows: list[Row]) -> None:
    """Write the three files of a sweep, each whole or not at all."""
    write_text(sweep / "summary.csv", as_csv(rows))
    write_text(sweep / "summary.md", as_markdown(sweep.name, rows))
    write_text(sweep / "summary.html", as_html(sweep.name, rows))


def as_csv(rows: list[Row]) -> str:
    """A row a job: status, overrides, cost, figures, error."""
    keys = list(dict.fromkeys(key for row in rows for key in row.overrides))
    names = sorted({name for row in rows for name in row.figures})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["job", "status", *keys, "parameters", "fit_seconds", *names, "error"])
    for row in rows:
        overrides = [row.overrides.get(key, "") for key in keys]
        figures = [row.figures.get(name, "") for name in names]
        writer.writerow([row.job, row.status, *overrides, row.parameters, row.fit_seconds, *figures, row.error])
    return text.getvalue()


def group_table(rows: list[Row]) -> Table:
    """A row a group: mean ± sample standard deviation over its completed jobs, and the best of them."""
    found = groups(rows)
    keys = varying([group.overrides for group in found])
    figures = [summary([row.figures for row in group.completed]) for group in found]
    names = _by_importance({name for each in figures for name in each}, found)
    table = [["runs", *keys, "best job", *names, "parameters", "seconds"]]
    for group, each in zip(found, figures, strict=True):
        count = f"{len(group.completed)} of {len(group.rows)}"
        best = "" if group.best is None else group.best.job
        cells = [count, *(group.overrides.get(key, "") for key in keys), best, *(each.get(name, "") for name in names)]
        sizes = {f"{row.parameters:,}" for row in group.completed if row.parameters is not None}
        times = [row.fit_seconds for row in group.completed if row.fit_seconds is not None]
        table.append([*cells, ", ".join(sorted(sizes)), f"{statistics.mean(times):.1f}" if times else ""])
    return table


def best_table(rows: list[Row]) -> Table:
    """A row a metric that jobs were chosen by: the job with the best score of all."""
    table = [["chosen by", "best job", "overrides", "score"]]
    keys = varying([row.overrides for row in rows])
    for monitor in dict.fromkeys(row.monitor for row in rows if row.monitor):
        # Scores compare within a domain and its data; sweeps over several have a best in each.
        same = [row for row in rows if row.monitor == monitor]
        for domain in dict.fromkeys(row.overrides.get("domain", "") for row in same):
            best = Group({}, [row for row in same if row.overrides.get("domain", "") == domain]).best
            if best is not None and best.score is not None:
                table.append([monitor, best.job, label(best.overrides, keys), f"{best.score:.4g}"])
    return table


def trouble_table(rows: list[Row]) -> Table:
    """A row a job that is no part of the means: how it stands and why."""
    keys = varying([row.overrides for row in rows])
    troubled = [row for row in rows if row.status != "completed"]
    return [
        ["job", "status", "overrides", "reason"],
        *([row.job, row.status, label(row.overrides, keys), row.error or ""] for row in troubled),
    ]


def counts(rows: list[Row]) -> str:
    """``12 jobs: 10 completed, 2 waiting``."""
    found = Counter(row.status for row in rows)
    return f"{len(rows)} jobs: " + ", ".join(f"{count} {status}" for status, count in found.most_common())


def fixed(rows: list[Row]) -> str:
    """The overrides that all jobs share."""
    keys = varying([row.overrides for row in rows])
    return label(rows[0].overrides, [key for key in rows[0].overrides if key not in keys])


def sections(rows: list[Row]) -> list[tuple[str, Table]]:
    """Title and table of all that has rows."""
    tables = [
        ("Mean ± standard deviation over seeds", group_table(rows)),
        ("Best, by the validation score", best_table(rows)),
        ("No part of the means", trouble_table(rows)),
    ]
    return [(title, table) for title, table in tables if len(table) > 1]


def as_markdown(name: str, rows: list[Row]) -> str:
    """The summary as Markdown."""
    lines = [f"# Sweep {name}", "", counts(rows) + "."]
    if fixed(rows):
        lines += ["", f"All: `{fixed(rows)}`"]
    for title, table in sections(rows):
        lines += ["", f"## {title}", "", _markdown_row(table[0]), "|" + " --- |" * len(table[0])]
        lines += [_markdown_row(cells) for cells in table[1:]]
    return "\n".join(lines) + "\n"


def as_html(name: str, rows: list[Row]) -> str:
    """The summary as a page that needs no network."""
    import jinja2

    template = files("cvkan").joinpath("templates/sweep.html.j2").read_text()
    page = jinja2.Environment(autoescape=True).from_string(template)
    return page.render(name=f"sweep {name}", counts=counts(rows), fixed=fixed(rows), sections=sections(rows))


def print_summary(sweep: Path, rows: list[Row]) -> None:
    """The groups on the terminal with their first figures, and where the rest is."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    header, *body = terminal_table(rows)
    same = {cells[0] for cells in body} if len(body) > 1 else set()
    shown = slice(1 if len(same) == 1 else 0, None)  # a column that says the same in every row goes to the title
    title = f"sweep {sweep.name}" + (f", {same.pop()} runs each" if len(same) == 1 else "")
    table = RichTable(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in header[shown]:
        table.add_column(name, no_wrap=name == "runs" or "/" in name, overflow="fold")
    for cells in body:
        table.add_row(*map(Text, cells[shown]))  # brackets of a list are no markup
    console.print(table)
    console.print(
        f"{counts(rows)}; summary: {sweep}/summary.md, .html, .csv", markup=False, highlight=False, soft_wrap=True
    )


def terminal_table(rows: list[Row]) -> Table:
    """:func:`group_table` with short names, and without what costs most of its width."""
    header, *body = group_table(rows)
    best = header.index("best job")
    names = short_names(header[1:best])
    n_figures = min(MAX_FIGURES, len(header) - best - 3)  # parameters and seconds come last
    figures = [name.removeprefix("best/") for name in header[best + 1 : best + 1 + n_figures]]
    short = ["runs", *names.values(), "best job", *figures]
    return [short, *(cells[: len(short)] for cells in body)]


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _by_importance(names: set[str], found: list[Group]) -> list[str]:
    """The scores that chose, their twins in the test, the test, the rest."""
    monitors = {row.monitor for group in found for row in group.rows if row.monitor}
    first = {f"best/{monitor}" for monitor in monitors}
    second = {monitor.replace("val/", "test/", 1) for monitor in monitors}
    return sorted(names, key=lambda name: (name not in second, name not in first, not name.startswith("test/"), name))
