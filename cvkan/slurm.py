"""A job of SLURM that is handed in again starts its command anew, in the same folder: it goes on with its run."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cvkan.run_directory import RunDirectory


def job_id() -> str | None:
    """Number of the SLURM job that this process belongs to; a job that is handed in again keeps it."""
    return os.environ.get("SLURM_JOB_ID")


def checkpoint_of_this_job(output_dir: str) -> str | None:
    """``last.ckpt`` of the run in a folder if the same SLURM job has begun it; None outside SLURM.

    Args:
        output_dir: a run directory, or a path where nothing is yet.
    """
    if job_id() is None or not Path(output_dir).is_dir():
        return None
    run = RunDirectory(output_dir)
    if not run.last.exists():
        return None
    try:
        begun_by = json.loads(run.run_json.read_text())["slurm_job_id"]
    except (OSError, ValueError, KeyError):
        return None
    return str(run.last) if begun_by == job_id() else None
