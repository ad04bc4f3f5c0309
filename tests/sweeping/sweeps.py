"""Folders of sweeps as jobs leave them, made by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cvkan.sweeping.processes import process_name
from cvkan.sweeping.records import Record, jobs_folder


def make_job(sweep: Path, folder: str, *overrides: str, exit_code: int | None = 0, **fields: Any) -> Record:
    """A job's record; a completed one has a run with ``figures`` as well."""
    jobs_folder(sweep).mkdir(parents=True, exist_ok=True)
    figures = fields.pop("figures", {})
    facts = {"config_hash": f"hash of {overrides}", "monitor": "val/accuracy", "mode": "max", "max_epochs": 4}
    facts |= {"first_epoch": 0, "process": process_name(os.getpid()), "started": 100.0, "error": None}
    facts |= {"ended": None if exit_code is None else 130.0}
    record = Record(folder=folder, overrides=overrides, exit_code=exit_code, **{**facts, **fields})
    record.write(sweep)
    if exit_code == 0:
        make_run(sweep / folder, record.config_hash, "completed")
        (sweep / folder / "metrics.json").write_text(json.dumps(figures))
    return record


def make_run(run: Path, config_hash: str | None, status: str) -> None:
    """What other code reads of a ``run.json``."""
    run.mkdir(parents=True, exist_ok=True)
    content = {"status": status, "config_hash": config_hash, "parameters": 7319, "fit_seconds": 30.0}
    (run / "run.json").write_text(json.dumps(content))
