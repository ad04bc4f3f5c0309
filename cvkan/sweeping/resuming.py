"""Going on with a sweep: ``cvkan-train -m sweep.resume=DIR``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cvkan.errors import UserError
from cvkan.sweeping.identity import config_hash
from cvkan.sweeping.processes import is_alive, is_here
from cvkan.sweeping.records import read_plan, read_record, read_records, typed_overrides

KEY = "sweep.resume="
FOLDER = "hydra.sweep.dir="
PATIENCE_SECONDS = 30  # for jobs of a killed launcher, which save and end by themselves


def with_sweep(arguments: list[str]) -> list[str]:
    """The arguments for Hydra of those typed: ``sweep.resume=DIR`` alone means the very same sweep.

    Launcher and other ``hydra`` choices may be typed anew; with any other override, the sweep is the one typed.

    Raises:
        UserError: DIR is no sweep, still runs, or stands beside another folder; or a new sweep has the folder of one.
    """
    named = [argument for argument in arguments if argument.startswith(KEY)]
    if not named or named[-1] == f"{KEY}null":
        refuse_used(arguments)
        return arguments
    sweep = Path(named[-1].removeprefix(KEY).strip("'\""))
    if not (sweep / "multirun.yaml").is_file():
        raise UserError(f"{sweep} is no folder of a sweep", "sweep.resume", "Name the folder of its multirun.yaml.")
    if any(argument.startswith(FOLDER) for argument in arguments):
        raise UserError("a sweep goes on in its own folder", "hydra.sweep.dir", "Remove it, or remove sweep.resume.")
    refuse_running(sweep)
    flags = [] if {"-m", "--multirun"} & set(arguments) else ["-m"]
    others = [argument for argument in arguments if "=" in argument and argument not in named]
    if any(not is_hydras(argument) for argument in others):
        return [*flags, *arguments]
    before = OmegaConf.load(sweep / "multirun.yaml").hydra
    hydras = [] if others else [line for line in before.overrides.hydra if not line.startswith(FOLDER)]
    return [*flags, *config_flags(before, arguments), *arguments, *typed_overrides(before.overrides.task), *hydras]


def refuse_used(arguments: list[str]) -> None:
    """Refuse to begin a sweep in the folder of another one: its records would be written over.

    Raises:
        UserError: the folder that is typed holds a sweep.
    """
    for argument in arguments:
        folder = Path(argument.removeprefix(FOLDER).strip("'\""))
        if argument.startswith(FOLDER) and read_records(folder):
            fix = f"Go on with it by sweep.resume={folder}, or choose another folder."
            raise UserError(f"{folder} holds a sweep", "hydra.sweep.dir", fix)


def is_hydras(argument: str) -> bool:
    """An override of Hydra itself, such as ``hydra/launcher=joblib``, or a flag."""
    return argument.startswith(("hydra/", "hydra.", "+hydra", "-"))


def config_flags(before: Any, arguments: list[str]) -> list[str]:
    """``--config-dir`` and ``--config-name`` of the earlier command."""
    folders = [source.path for source in before.runtime.config_sources if source.provider == "command-line"]
    flags = ["--config-dir", folders[0]] if folders else []
    if before.job.config_name != "train":
        flags += ["--config-name", before.job.config_name]
    return [] if {"--config-dir", "-cd", "--config-name", "-cn"} & set(arguments) else flags


def refuse_running(sweep: Path) -> None:
    """Wait for jobs that are about to end, their launcher being gone.

    Raises:
        UserError: the sweep's launcher or one of its jobs runs on this machine.
    """
    launcher, _ = read_plan(sweep)
    if launcher is not None and is_here(launcher) and is_alive(launcher):
        raise UserError(f"{sweep} is still running ({_pid(launcher)})", "sweep.resume", "Wait for it, or end it.")
    deadline = time.monotonic() + PATIENCE_SECONDS
    said = False
    while running := _running_here(sweep):
        folder, process = running[0]
        what = f"job {folder} of {sweep} is still running ({_pid(process)})"
        if time.monotonic() > deadline:
            raise UserError(what, "sweep.resume", "Wait for it, or end it.")
        if not said:
            print(f"{what}: waiting for it to end", file=sys.stderr)
        said = True
        time.sleep(0.5)


def job_folder(number: int, resume: str | None, root: DictConfig) -> str:
    """Where a job of a sweep lives: by its number, in a sweep that is resumed where the same job lived before.

    The numbers of a longer grid are others. A job whose number belongs to another config there gets a folder of its
    own, ``NUMBER_HASH``. All this depends on nothing but the job and what the earlier sweep left, so that jobs that
    start together need not know of each other.

    Args:
        number: of the job in the sweep.
        resume: the folder of the earlier sweep; None for a new one.
        root: the job's whole config.
    """
    own = str(number)
    if resume is None:
        return own
    try:
        identity = config_hash(root)
    except OmegaConfBaseException:  # the job itself will say what is wrong
        return own
    sweep = Path(resume)
    at_own = read_record(sweep, own)
    if at_own is not None and at_own.config_hash == identity:
        return own
    for record in read_records(sweep):
        if record.config_hash == identity:
            return record.folder
    return own if at_own is None or at_own.config_hash is None else f"{own}_{identity[:8]}"


def _running_here(sweep: Path) -> list[tuple[str, str]]:
    return [
        (record.folder, record.process)
        for record in read_records(sweep)
        if record.exit_code is None and is_here(record.process) and is_alive(record.process)
    ]


def _pid(process: str) -> str:
    return f"process {process.rsplit(':', 2)[1]}"
