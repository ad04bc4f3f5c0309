"""The jobs of a sweep as rows, and the rows that differ by their seed alone as groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvkan.sweeping.records import KILLED_CODE, Status, read_json, read_plan, read_records

SEED = "seed"
END_CODES = {"killed": KILLED_CODE, "waiting": 0, "running": 0, "completed": 0, "outdated": 0}
OUTDATED = "its overrides mean another config by now, which has a job of its own"


@dataclass(frozen=True)
class Row:
    """One job.

    Args:
        job: its folder, relative to the sweep's; empty for one that has not started.
        status: see :class:`~cvkan.sweeping.records.Status`.
        overrides: what was typed for it, key to value.
        figures: the numbers of its ``metrics.json``.
        parameters, fit_seconds: of its ``run.json``; None if it was no run.
        exit_code: what it adds to the sweep's.
        error: what went wrong, in one line.
        monitor, mode: the metric that chose its best checkpoint, and the direction that is better.
    """

    job: str
    status: Status
    overrides: dict[str, str]
    figures: dict[str, float]
    parameters: int | None = None
    fit_seconds: float | None = None
    exit_code: int = 0
    error: str | None = None
    monitor: str | None = None
    mode: str | None = None

    @property
    def score(self) -> float | None:
        """What rows are compared by: the best validation score, else the figure of that name in the test."""
        if self.monitor is None:
            return None
        return self.figures.get(f"best/{self.monitor}", self.figures.get(self.monitor.replace("val/", "test/", 1)))


@dataclass(frozen=True)
class Group:
    """The jobs whose overrides are the same but for the seed."""

    overrides: dict[str, str]
    rows: list[Row]

    @property
    def completed(self) -> list[Row]:
        """Those with final figures."""
        return [row for row in self.rows if row.status == "completed"]

    @property
    def best(self) -> Row | None:
        """The completed one with the best score; of equal ones the first."""
        scored = [row for row in self.completed if row.score is not None]
        if not scored:
            return None
        return (max if scored[0].mode == "max" else min)(scored, key=lambda row: row.score or 0.0)


def read_rows(sweep: Path) -> list[Row]:
    """A row a job: those that have started in the order of their folders, then those that wait."""
    records = read_records(sweep)
    rows = []
    for record in records:
        status = record.status(sweep)
        # Figures of an earlier try say nothing of one that failed.
        figures = read_json(sweep / record.folder / "metrics.json") if status == "completed" else {}
        run = read_json(sweep / record.folder / "run.json")
        run = run if run.get("config_hash") == record.config_hash else {}
        pruned = run.get("pruned") if status == "completed" else None  # it saw fewer epochs than the others
        rows.append(
            Row(
                job=record.folder,
                status="pruned" if pruned else status,
                overrides=by_key(record.overrides),
                figures={name: value for name, value in figures.items() if is_number(value)},
                parameters=run.get("parameters"),
                fit_seconds=run.get("fit_seconds"),
                exit_code=END_CODES.get(status, record.exit_code or 0),
                error={"completed": pruned, "outdated": OUTDATED}.get(status, record.error),
                monitor=record.monitor,
                mode=record.mode,
            )
        )
    started = [list(record.overrides) for record in records if not record.outdated]
    _, planned = read_plan(sweep)
    waiting = [overrides for overrides in planned if overrides not in started]
    return rows + [Row("", "waiting", by_key(overrides), {}) for overrides in waiting]


def by_key(overrides: Iterable[str]) -> dict[str, str]:
    """``["seed=0", "~x"]`` as ``{"seed": "0", "~x": ""}``."""
    return {key: value for key, _, value in (line.partition("=") for line in overrides)}


def is_number(value: Any) -> bool:
    """A figure that a table has a column for."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def groups(rows: list[Row]) -> list[Group]:
    """The rows by everything but the seed, in the order of their first; outdated ones are in none."""
    found: dict[tuple[tuple[str, str], ...], Group] = {}
    for row in rows:
        if row.status == "outdated":
            continue
        overrides = {key: value for key, value in row.overrides.items() if key != SEED}
        found.setdefault(tuple(overrides.items()), Group(overrides, [])).rows.append(row)
    return list(found.values())


def varying(all_overrides: list[dict[str, str]]) -> list[str]:
    """The keys that are not the same everywhere, in the order they were typed."""
    keys = dict.fromkeys(key for overrides in all_overrides for key in overrides)
    return [key for key in keys if len({overrides.get(key) for overrides in all_overrides}) > 1]


def label(overrides: dict[str, str], keys: list[str]) -> str:
    """``pooling=mean seed=1``: the overrides that tell a row from the others."""
    return " ".join(f"{key}={overrides[key]}" for key in keys if key in overrides)


def short_names(keys: list[str]) -> dict[str, str]:
    """Key to the shortest ending that tells it from the others: ``optimizer.lr`` is ``lr``."""
    parts = {key: key.lstrip("+").split(".") for key in keys}

    def name(key: str) -> str:
        endings = [parts[key][-length:] for length in range(1, len(parts[key]) + 1)]
        alone = (end for end in endings if sum(other[-len(end) :] == end for other in parts.values()) == 1)
        return ".".join(next(alone, parts[key]))

    return {key: name(key) for key in keys}


def shortened(overrides: dict[str, str], names: dict[str, str]) -> dict[str, str]:
    """The overrides of these keys alone, by their short names."""
    return {name: overrides[key] for key, name in names.items() if key in overrides}
