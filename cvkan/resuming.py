"""Going on with a run: the same run or none. Everything is checked before anything is made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cvkan import build
from cvkan.checkpointing import read_checkpoint
from cvkan.errors import UserError
from cvkan.run_directory import RunDirectory
from cvkan.tasks.base import Task

# What makes a run the run it is: a resumed one has the same, but for where its data lie and how fast they are read.
IDENTITY = ("seed", "model", "data", "task", "loss", "regularizer", "optimizer", "scheduler")
CIRCUMSTANCES = {"root", "download", "num_workers", "max_memory_gb", "compile"}


def check_resumable(cfg: DictConfig) -> dict[str, Any] | None:
    """The checkpoint ``cfg.ckpt``, refused before anything is made if it is of another domain; None for a new run."""
    if cfg.ckpt is None:
        return None
    checkpoint = read_checkpoint(cfg.ckpt)
    own = OmegaConf.to_container(cfg.model, resolve=True)
    build.check_targets(checkpoint["cvkan"]["config"].get("model"), str(cfg.ckpt), own)
    domain = checkpoint["cvkan"]["domain"]
    if domain != cfg.domain.name:
        raise UserError(
            f"the checkpoint is of domain={domain}, this run is of domain={cfg.domain.name}",
            cfg.ckpt,
            "Type ckpt=… alone to resume it with its own choices.",
        )
    check_same_choices(checkpoint["cvkan"]["config"], cfg)
    return checkpoint


def check_same_choices(theirs: dict[str, Any], cfg: DictConfig) -> None:
    """Refuse to go on with a run under other choices than it began with: it would be neither run.

    Raises:
        UserError: a value of the checkpoint's config is another one here.
    """
    configs = (repeatable(cfg), theirs)
    here, there = (dict(_values({key: config.get(key, {}) for key in IDENTITY})) for config in configs)
    other = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    if other:
        names = ", ".join(f"{key}={there.get(key)} (here {here.get(key)})" for key in other[:3])
        raise UserError(
            f"the checkpoint's run has {names}{' and more' if len(other) > 3 else ''}",
            cfg.ckpt,
            "Type ckpt=… alone to resume it with its own choices.",
        )
    if cfg.trainer.max_epochs > theirs["trainer"]["max_epochs"]:
        raise UserError(
            f"the checkpoint's run ends after {theirs['trainer']['max_epochs']} epochs, and so does its learning rate",
            "trainer.max_epochs",
            "Train anew for more.",
        )


def _values(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every leaf of a plain config, without the circumstances."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _values(value, f"{prefix}{key}.")
        elif key not in CIRCUMSTANCES:
            yield f"{prefix}{key}", value


def check_unused(run: RunDirectory, ckpt: str | None) -> None:
    """Refuse to write over the run that a directory holds already, unless it is the one that is resumed.

    Raises:
        UserError: there is a checkpoint of another run.
    """
    if run.last.exists() and (ckpt is None or Path(ckpt).resolve().parent != run.checkpoints.resolve()):
        raise UserError(
            f"{run.path} holds a run", "output_dir", f"Go on with it by ckpt={run.last}, or choose another folder."
        )
    if ckpt is None:  # what a run left that never came to a checkpoint
        run.metrics_csv.unlink(missing_ok=True)


def earlier_record(ckpt: str | None) -> dict[str, Any]:
    """``run.json`` of the run that a checkpoint belongs to; empty for a new run or a checkpoint on its own."""
    if ckpt is None:
        return {}
    try:
        return json.loads((Path(ckpt).resolve().parent.parent / "run.json").read_text())
    except (OSError, ValueError):
        return {}


def check_weights(state: dict[str, Any], task: Task, where: str) -> None:
    """Refuse a checkpoint of another model in one line, before Lightning lists every tensor.

    Raises:
        UserError: a weight is missing, superfluous or of another shape.
    """
    own = {name: tuple(tensor.shape) for name, tensor in task.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
    if wrong:
        name = wrong[0]
        raise UserError(
            f"the checkpoint is of another model: {name} is {theirs.get(name, 'missing')} in it and "
            f"{own.get(name, 'missing')} here, and {len(wrong) - 1} more tensors differ",
            where,
            "Type ckpt=… alone to resume it with its own choices.",
        )


def repeatable(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config, such that ``cvkan-train --config-dir RUN --config-name config`` repeats the run.

    All values are fixed but for the run directory, which stays an interpolation: a repetition writes to a
    directory of its own, and so do the loggers that write below it.
    """
    here = str(cfg.output_dir)

    def reopen(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reopen(item) for key, item in value.items()}
        if isinstance(value, list):
            return [reopen(item) for item in value]
        return "${output_dir}" if value == here else value

    resolved = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(resolved, dict)
    config: dict[str, Any] = reopen(resolved)
    config["ckpt"] = None
    config["output_dir"] = "${run_directory:${ckpt},${domain.name}}"
    # Hydra's own section is no part of cfg; without it a repetition would not know where runs live.
    config["hydra"] = OmegaConf.to_container(OmegaConf.load(str(files("cvkan.conf") / "train.yaml")).hydra)
    return config
