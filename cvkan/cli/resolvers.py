"""Config resolvers; registered before a config is composed."""

from __future__ import annotations

import os
from datetime import datetime
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf


def register() -> None:
    """Make ``${run_directory:ckpt,domain}``, ``${sweep_directory:resume}`` and ``${job_folder:number,resume}`` known.

    Launchers carry them to the processes of the jobs.
    """
    OmegaConf.register_new_resolver("run_directory", run_directory, replace=True)
    # Cached in the sweep's config, which the jobs' configs inherit it from.
    OmegaConf.register_new_resolver("sweep_directory", sweep_directory, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)


def run_directory(ckpt: str | None, domain: str) -> str:
    """Where a run lives: a resumed one in the directory of its checkpoint, a new one in a fresh one.

    Args:
        ckpt: ``RUN/checkpoints/NAME.ckpt`` or None.
        domain: name of the domain.
    """
    if ckpt is not None:
        path = Path(ckpt)
        if path.parent.name == "checkpoints" and (path.parent.parent / "run.json").is_file():
            return str(path.parent.parent)
    return _fresh(domain)


def sweep_directory(resume: str | None) -> str:
    """Where a sweep lives: a resumed one where it was, a new one in ``multirun/<time>``."""
    return _unused(Path("multirun")) if resume is None else str(resume)


def job_folder(number: int, resume: str | None, *, _root_: DictConfig) -> str:
    """Where a job lives in the folder of its sweep, see :func:`cvkan.sweeping.resuming.job_folder`."""
    from cvkan.sweeping import resuming

    return resuming.job_folder(number, None if resume is None else str(resume), _root_)


@cache
def _fresh(domain: str) -> str:
    return _unused(Path("outputs") / domain)


def _unused(folder: Path) -> str:
    """``<folder>/<time>``, with the process number behind it if two start in one second."""
    path = folder / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return f"{path}_{os.getpid()}" if path.exists() else str(path)
