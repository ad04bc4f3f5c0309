"""What a sweep that goes on finds in its folder: jobs that are left alone, and jobs of an earlier config."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cvkan.sweeping.identity import config_hash
from cvkan.sweeping.records import Record, read_records


class Job(NamedTuple):
    """A job that is planned: what is typed for it, and the hash of the config this means today; None if it has none."""

    overrides: list[str]
    identity: str | None


def identified(config: DictConfig, planned: Sequence[list[str]]) -> list[Job]:
    """The planned jobs with the hashes of their configs.

    Args:
        config: of the sweep as a whole, with Hydra's section.
        planned: overrides of the jobs.
    """
    loader = GlobalHydra.instance().config_loader()

    def identity(overrides: list[str]) -> str | None:
        try:
            return config_hash(loader.load_sweep_config(config, overrides))
        except (HydraException, OmegaConfBaseException):  # the job itself will say what is wrong
            return None

    return [Job(overrides, identity(overrides)) for overrides in planned]


def take_stock(sweep: Path, jobs: Sequence[Job]) -> list[str]:
    """Mark the earlier jobs whose overrides mean another config by now.

    Args:
        sweep: folder of the sweep.
        jobs: those that are planned.

    Returns:
        What a person should know before they start, a line each.
    """
    outdated, lines = mark_outdated(sweep, jobs), []
    if outdated:
        lines.append(
            f"outdated: {named(outdated)}, for the same overrides mean another config by now (defaults have changed); "
            "they are no part of the means"
        )
    wanted = {job.identity for job in jobs}
    finished = [record for record in read_records(sweep) if record.config_hash in wanted and record.is_finished(sweep)]
    if finished:
        nothing_left = wanted == {record.config_hash for record in finished}
        lines.append(("nothing is left to run: " if nothing_left else "left alone: ") + left_alone(sweep, finished))
    return lines


def left_alone(sweep: Path, finished: Sequence[Record]) -> str:
    """What is not run again, why, and how it would be.

    Args:
        sweep: folder of the sweep.
        finished: jobs that have completed or diverged.
    """
    diverged = [record.folder for record in finished if record.status(sweep) == "diverged"]
    parts = [f"{len(finished) - len(diverged)} completed"] if len(diverged) < len(finished) else []
    if diverged:
        folders = " ".join(shlex.quote(str(sweep / folder)) for folder in diverged)
        parts.append(
            f"{len(diverged)} diverged and would again ({named(diverged)}; to run them all the same: rm -r {folders}, "
            "then this command once more)"
        )
    return ", ".join(parts)


def mark_outdated(sweep: Path, jobs: Sequence[Job]) -> list[str]:
    """Mark earlier jobs, and unmark those whose config is back; returns the folders of those that are marked anew."""
    known = {frozenset(job.overrides) for job in jobs if job.identity is not None}
    wanted = {(frozenset(job.overrides), job.identity) for job in jobs}
    marked: list[str] = []
    for record in read_records(sweep):
        overrides = frozenset(record.overrides)
        if overrides not in known or record.config_hash is None:
            continue
        outdated = (overrides, record.config_hash) not in wanted
        if outdated != record.outdated:
            replace(record, outdated=outdated).write(sweep)
            marked += [record.folder] if outdated else []
    return marked


def named(folders: Sequence[str]) -> str:
    """``job 3``, ``jobs 3, 4``."""
    return f"job{'s' if len(folders) > 1 else ''} {', '.join(folders)}"
