"""The files of a sweep: ``.jobs/NAME.json`` says of each job what it was, how it ended and why.

A job refused before it became a run has no folder, and a killed one wrote no last word; their records are here all the
same. Every job writes its own file alone, so jobs of many processes and machines need no lock.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from cvkan.atomic import write_text
from cvkan.sweeping.processes import is_alive

Status = Literal[
    "waiting",
    "running",
    "completed",
    "pruned",
    "diverged",
    "refused",
    "failed",
    "interrupted",
    "killed",
    "outdated",  # its overrides mean another config by now
]
# What the exit codes of docs/architecture.md say of a job.
STATUS_OF_CODE: dict[int, Status] = {0: "completed", 1: "failed", 2: "refused", 3: "diverged"}
KILLED_CODE = 1  # a job that vanished counts as a fault
FINISHED = ("completed", "pruned", "diverged")  # it would end the same way again


@dataclass(frozen=True)
class Record:
    """One job of a sweep.

    Args:
        folder: its run directory, relative to the sweep's.
        overrides: as typed for this job, ``key=value``.
        config_hash: see :func:`~cvkan.sweeping.identity.config_hash`; None if the config cannot be resolved.
        monitor, mode: the metric that chose its best checkpoint, and the direction that is better.
        max_epochs: how many it may train.
        first_epoch: how many it had trained when it started, or started again.
        process: see :func:`~cvkan.sweeping.processes.process_name`.
        started, ended: seconds since 1970; ``ended`` is None until it has.
        exit_code, error: how it ended, and what went wrong in one line.
        outdated: whether the sweep has gone on since with another config for the same overrides.
    """

    folder: str
    overrides: tuple[str, ...]
    config_hash: str | None
    monitor: str | None
    mode: str | None
    max_epochs: int | None
    first_epoch: int
    process: str
    started: float
    ended: float | None = None
    exit_code: int | None = None
    error: str | None = None
    outdated: bool = False

    def end(self, exit_code: int, error: str | None) -> Record:
        """The same job, ended now."""
        return replace(self, ended=time.time(), exit_code=exit_code, error=error)

    def write(self, sweep: Path) -> None:
        """Write ``.jobs/NAME.json``, named after the folder."""
        write_json(_path(sweep, self.folder), asdict(self))

    def status(self, sweep: Path) -> Status:
        """How the job stands, by its record, by its run and by its process."""
        if self.outdated:
            return "outdated"
        if self.exit_code is not None and self.exit_code != 0 and self._run_is_complete(sweep):
            return "completed"  # by itself, with ckpt=…/last.ckpt, after the sweep
        if self.exit_code is not None:
            return STATUS_OF_CODE.get(self.exit_code, "interrupted")
        if self._run_is_complete(sweep):
            return "completed"  # killed while it drew its pictures
        return "running" if is_alive(self.process) else "killed"

    def is_finished(self, sweep: Path) -> bool:
        """Whether the job is left alone by a sweep that goes on; one whose folder was removed is not."""
        return self.status(sweep) in FINISHED and (sweep / self.folder / "run.json").exists()

    def _run_is_complete(self, sweep: Path) -> bool:
        run = read_json(sweep / self.folder / "run.json")
        return run.get("status") == "completed" and run.get("config_hash") == self.config_hash


def read_record(sweep: Path, folder: str) -> Record | None:
    """The record of the job in a folder; None if there is none."""
    return _read(_path(sweep, folder))


def read_records(sweep: Path) -> list[Record]:
    """All records, in the order of the jobs."""
    records = [record for path in jobs_folder(sweep).glob("*.json") if (record := _read(path)) is not None]
    return sorted(records, key=lambda record: natural(record.folder))


def jobs_folder(sweep: Path) -> Path:
    """Where the records are."""
    return sweep / ".jobs"


def stop_file(sweep: Path) -> Path:
    """It exists while the jobs of a pool are asked to stop."""
    return jobs_folder(sweep) / "stop"


def typed_overrides(overrides: Iterable[str]) -> list[str]:
    """What tells a job from another: all but ``sweep.resume``."""
    return [line for line in overrides if not line.lstrip("+").startswith("sweep.resume=")]


def write_plan(sweep: Path, process: str | None, planned: list[list[str]]) -> None:
    """Keep which process launches a sweep, None when it has ended, and the overrides of the jobs that are planned."""
    write_json(_plan(sweep), {"process": process, "planned": planned})


def read_plan(sweep: Path) -> tuple[str | None, list[list[str]]]:
    """The launching process and the overrides of the planned jobs."""
    content = read_json(_plan(sweep))
    return content.get("process"), content.get("planned", [])


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """What a file holds; empty if it is not there."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def natural(text: str) -> list[tuple[bool, int, str]]:
    """Sorts ``2`` before ``10``, and numbers before words."""
    return [
        (False, int(part), "") if part.isdigit() else (True, 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", text)
    ]


def _read(path: Path) -> Record | None:
    content = read_json(path)
    return Record(**{**content, "overrides": tuple(content["overrides"])}) if content else None


def _path(sweep: Path, folder: str) -> Path:
    return jobs_folder(sweep) / f"{quote(folder, safe=' =,+@')}.json"


def _plan(sweep: Path) -> Path:
    return jobs_folder(sweep) / "plan"
