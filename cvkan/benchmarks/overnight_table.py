"""The result of a night: ``summary.csv``, ``.md``, ``.html`` and ``.json``, and how it compares with the reference.

``summary.json`` has the form of the reference: copied to ``reference.json`` it is the next one.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cvkan.atomic import write_text
from cvkan.benchmarks.rows import Row

REFERENCE = "the reference"
ORIGINAL = "the original"
WORSE_BY = 0.05  # of a figure, relative: less is what another machine's rounding does to a short training
SLOWER_BY = 2.0  # times as long on the same device: less is what other work on the machine does
SHORT = 5.0  # seconds: the time of a shorter fit is chance
COLUMNS = (
    *("case", "status", "metric", "value", "original", "reference", "parameters", "fit_seconds", "time ratio"),
    *("samples_per_second", "peak MiB", "verdict", "note"),
)


@dataclass(frozen=True)
class Result:
    """What became of a case.

    Attributes:
        case: its name.
        status: ``completed``, or how it ended.
        metric: the test's figure of the quantity that chose the best checkpoint.
        mode: ``max`` or ``min``, the direction of it that is better.
        value: the figure; None for a case that was not completed.
        original: what the original reported; None if it did not.
        parameters, fit_seconds, samples_per_second, peak_memory_bytes, device: of ``run.json``.
        note: what is to be said of its data, or why it failed.
    """

    case: str
    status: str
    metric: str | None
    mode: str | None
    value: float | None
    original: float | None
    parameters: int | None
    fit_seconds: float | None
    samples_per_second: float | None
    peak_memory_bytes: int | None
    device: str | None
    note: str


@dataclass(frozen=True)
class Night:
    """The results of a budget, in the order of the cases."""

    budget: str
    results: list[Result]


def read_result(case: str, original: float | None, note: str, run: Path) -> Result:
    """The result that a run directory holds.

    Args:
        case: name of the case.
        original: see :class:`Result`.
        note: what is to be said of its data.
        run: the directory; that of a refused command is not there, and its reason stands in ``RUN.log``.
    """
    record = json.loads((run / "run.json").read_text()) if (run / "run.json").exists() else {}
    kept = {name: record.get(name) for name in ("parameters", "fit_seconds", "samples_per_second", "device")}
    if record.get("status") != "completed":
        reason = record.get("error") or last_line(run.with_suffix(".log"))
        status = record.get("status", "refused")
        return Result(case, status, None, None, None, original, **kept, peak_memory_bytes=None, note=reason)
    domain = OmegaConf.load(run / "config.yaml").domain
    metric = domain.monitor.replace("val/", "test/", 1)
    value = json.loads((run / "metrics.json").read_text())[metric]
    peak = record["peak_memory_bytes"]
    return Result(case, "completed", metric, domain.mode, value, original, **kept, peak_memory_bytes=peak, note=note)


def last_line(log: Path) -> str:
    """What a command said last."""
    lines = [line for line in log.read_text().splitlines() if line.strip()] if log.exists() else []
    return lines[-1] if lines else "it said nothing"


def read_night(path: Path, budget: str) -> dict[str, Result]:
    """The results of a ``summary.json``, by case; empty if it is not there or of another budget."""
    if not path.is_file():
        return {}
    content = json.loads(path.read_text())
    return {each["case"]: Result(**each) for each in content["results"]} if content["budget"] == budget else {}


def better_by(result: Result, other: float | None) -> float | None:
    """How many times better than another figure; above 1 is better."""
    if result.value is None or not other or not result.value:
        return None
    return result.value / other if result.mode == "max" else other / result.value


def faster_by(result: Result, other: Result | None) -> float | None:
    """How many times faster than on the same device another night; None where nothing can be said."""
    if other is None or result.device != other.device or not result.fit_seconds or not other.fit_seconds:
        return None
    if max(result.fit_seconds, other.fit_seconds) < SHORT:
        return None
    return other.fit_seconds / result.fit_seconds


def verdict(result: Result, other: Result | None) -> str:
    """``same``, ``better``, ``worse``, ``slower``; empty where there is nothing to compare with."""
    if other is None:
        return ""
    ratio = better_by(result, other.value)
    if other.status == "completed" and result.status != "completed":
        return "FAILED"
    if ratio is None:
        return ""
    faster = faster_by(result, other)
    slower = "SLOWER" if faster is not None and faster < 1 / SLOWER_BY else ""
    if ratio < 1 - WORSE_BY:
        return f"WORSE {slower}".strip()
    return slower or ("same" if result.value == other.value else "better" if ratio > 1 + WORSE_BY else "alike")


def rows(result: Result, earlier: Mapping[str, Result]) -> Iterator[Row]:
    """The comparisons of a case, for the table of all suites."""
    other = earlier.get(result.case)
    for against, figure in ((ORIGINAL, result.original), (REFERENCE, None if other is None else other.value)):
        ratio = better_by(result, figure)
        if ratio is not None and result.value is not None and result.metric is not None:
            yield Row(result.case, result.metric, result.value, "", against, ratio, ratio, ratio)
    faster = faster_by(result, other)
    if faster is not None and result.fit_seconds is not None:
        yield Row(result.case, "fit", result.fit_seconds, "s", REFERENCE, faster, faster, faster)


def cells(night: Night, earlier: Mapping[str, Result]) -> list[list[str]]:
    """A line a case, in the order of :data:`COLUMNS`."""
    lines = []
    for result in night.results:
        other = earlier.get(result.case)
        faster = faster_by(result, other)
        peak = None if result.peak_memory_bytes is None else round(result.peak_memory_bytes / 2**20)
        values = (
            *(result.case, result.status, result.metric, result.value, result.original),
            *(None if other is None else other.value, result.parameters, result.fit_seconds, faster),
            *(result.samples_per_second, peak, verdict(result, other), result.note),
        )
        lines.append([_text(value) for value in values])
    return lines


def regressions(night: Night, earlier: Mapping[str, Result]) -> list[str]:
    """``case: VERDICT`` of those that are worse or slower than in the reference."""
    found = [(result.case, verdict(result, earlier.get(result.case))) for result in night.results]
    return [f"{case}: {word}" for case, word in found if word.isupper()]


def write(night: Night, earlier: Mapping[str, Result], folder: Path) -> None:
    """Write the four files of a night, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = cells(night, earlier)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *lines])
    write_text(folder / "summary.csv", text.getvalue())
    content: dict[str, Any] = {"budget": night.budget, "results": [asdict(result) for result in night.results]}
    write_text(folder / "summary.json", json.dumps(content, indent=2) + "\n")
    write_text(folder / "summary.md", as_markdown(night, earlier, lines))
    write_text(folder / "summary.html", as_html(night, earlier, lines))


def as_markdown(night: Night, earlier: Mapping[str, Result], lines: list[list[str]]) -> str:
    """The table with a line on regressions."""
    table = [list(COLUMNS), ["---"] * len(COLUMNS), *lines]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table)
    return f"# Overnight, budget {night.budget}\n\n{found(night, earlier)}\n\n{body}\n"


def found(night: Night, earlier: Mapping[str, Result]) -> str:
    """One sentence on the comparison with the reference."""
    if not earlier:
        return "There is no reference of this budget to compare with."
    worse = regressions(night, earlier)
    return f"Regressions: {', '.join(worse)}." if worse else "No regression against the reference."


def as_html(night: Night, earlier: Mapping[str, Result], lines: list[list[str]]) -> str:
    """The table as a page that needs no network."""
    import jinja2

    template = files("cvkan").joinpath("templates/sweep.html.j2").read_text()
    page = jinja2.Environment(autoescape=True).from_string(template)
    sections = [(found(night, earlier), [list(COLUMNS), *lines])]
    return page.render(name=f"overnight, {night.budget}", counts=f"{len(lines)} cases", fixed="", sections=sections)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
