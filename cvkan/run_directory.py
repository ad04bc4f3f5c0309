"""The run directory: one folder that says what was run, on what, and how it ended.

Its files are listed in docs/architecture.md; other programs read them.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

import cvkan
from cvkan.atomic import remove_leftovers, write_text
from cvkan.errors import UserError

Status = Literal["completed", "interrupted", "failed"]

# What run.json holds from its first writing on; null until known.
RECORD_KEYS = (
    *("cvkan_version", "git_commit", "python_version", "torch_version", "lightning_version"),
    *("device", "precision", "seed", "parameters", "data_source", "data_fingerprint"),
    *("config_hash", "overrides", "processes", "slurm_job_id"),
    *("fit_seconds", "samples_per_second", "peak_memory_bytes", "status", "error"),
)


class RunDirectory:
    """The folder of one run and the only code that knows the names in it.

    Of several processes that train together only the first one writes.

    Args:
        path: the folder; it and its subfolders are made if they are missing.

    Raises:
        UserError: the folder cannot be made or written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.plots = self.path / "plots"
        try:
            for folder in (self.checkpoints, self.plots):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make the run directory {self.path}: {error.strerror}",
                "output_dir",
                "Choose a folder that you may write to.",
            ) from error

    @property
    def best(self) -> Path:
        """Checkpoint of the epoch with the best monitored metric."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """Checkpoint to resume from."""
        return self.checkpoints / "last.ckpt"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics_csv(self) -> Path:
        """History: one row a logged step or epoch."""
        return self.path / "metrics.csv"

    @property
    def metrics_json(self) -> Path:
        """Final figures."""
        return self.path / "metrics.json"

    @property
    def run_json(self) -> Path:
        """Provenance, speed, memory and status."""
        return self.path / "run.json"

    @rank_zero_only
    def write_json(self, name: str, content: Any) -> None:
        """Write ``content`` as ``<run>/<name>``, whole or not at all.

        Args:
            name: file name inside the run directory.
            content: dicts, lists, text, numbers, paths, one-element tensors; NaN and infinities become null,
                for JSON has no word for them.
        """
        write_json(self.path / name, content)

    @rank_zero_only
    def write_config(self, config: dict[str, Any]) -> None:
        """Write the resolved configuration (a plain container) as ``config.yaml``."""
        write_text(self.config, OmegaConf.to_yaml(OmegaConf.create(config)))

    @rank_zero_only
    def start(self, record: dict[str, Any]) -> None:
        """Write ``run.json`` with ``"status": "running"``: a run that is killed outright stays recognisable.

        Args:
            record: what is known before the fit (``seed``, ``device``, ``precision``, …); joins the versions.
        """
        for folder in (self.path, self.checkpoints, self.plots):
            remove_leftovers(folder)
        self.write_json("run.json", {**dict.fromkeys(RECORD_KEYS), **versions(), **record, "status": "running"})

    @rank_zero_only
    def finish(self, status: Status, error: str | None, figures: Mapping[str, Any]) -> None:
        """Complete ``run.json``.

        Args:
            status: how the run ended.
            error: one line that says what went wrong; None for a completed run.
            figures: ``fit_seconds``, ``samples_per_second``, ``peak_memory_bytes`` and any other figure.
        """
        record = json.loads(self.run_json.read_text()) if self.run_json.exists() else dict.fromkeys(RECORD_KEYS)
        self.write_json("run.json", {**record, **figures, "status": status, "error": error})


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as :meth:`RunDirectory.write_json` does, anywhere."""
    write_text(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def versions() -> dict[str, str | None]:
    """Versions of cvkan and what it stands on, and the commit when cvkan runs from its source checkout."""
    return {
        "cvkan_version": version("cvkan"),
        "git_commit": _git_commit(),
        "python_version": platform.python_version(),
        "torch_version": torch.__version__,
        "lightning_version": pl.__version__,
    }


def device_name(device: torch.device) -> str:
    """The device's own name: the GPU model, else the processor's architecture."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({platform.machine()})"


def _git_commit() -> str | None:
    root = Path(cvkan.__file__).resolve().parent.parent
    # An installed wheel may lie inside somebody's own repository (its venv), whose commit says nothing here.
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--verify", "-q", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def _plain(content: Any) -> Any:
    """The same content in types that JSON has."""
    if isinstance(content, dict):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, Path):
        return str(content)
    if hasattr(content, "tolist"):  # tensors, NumPy arrays and scalars
        return _plain(content.tolist())
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
