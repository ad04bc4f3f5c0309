"""Config resolvers; registered before a config is composed."""

from __future__ import annotations

import os
from datetime import datetime
from functools import cache
from pathlib import Path

from omegaconf import OmegaConf


def register() -> None:
    """Make ``${run_directory:ckpt,domain}`` known."""
    OmegaConf.register_new_resolver("run_directory", run_directory, replace=True)


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


@cache
def _fresh(domain: str) -> str:
    """``outputs/<domain>/<time>``, with the process number behind it if two runs start in one second."""
    path = Path("outputs") / domain / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return f"{path}_{os.getpid()}" if path.exists() else str(path)
