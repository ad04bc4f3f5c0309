"""One job of a sweep, in whatever process the launcher runs it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cvkan.sweeping.identity import config_hash
from cvkan.sweeping.processes import POOL, obeying, process_name
from cvkan.sweeping.progress import read_progress
from cvkan.sweeping.records import Record, read_record, stop_file, typed_overrides
from cvkan.sweeping.sweep import signalled

Outcome = tuple[int, str | None]  # exit code, and what went wrong in one line
NOT_STARTED = 143


def run(cfg: DictConfig, attempt: Callable[[DictConfig], Outcome], launcher: int) -> Outcome:
    """Run a job and keep its record; of a sweep that is resumed, only what is left of it.

    What the job prints goes to its ``train.log``; the launching process shows how all of them stand.

    Args:
        cfg: the job's config; ``sweep.resume`` is set to null, ``ckpt`` to what the job goes on from.
        attempt: does the work and reports errors, as in a run of its own.
        launcher: id of the process that launches the sweep.

    Returns:
        How the job ended, now or earlier.
    """
    hydra = HydraConfig.get()
    sweep, folder = Path(hydra.sweep.dir).absolute(), Path(hydra.runtime.output_dir)
    in_pool = hydra.launcher["_target_"] == POOL
    if in_pool and (os.getppid() != launcher or stop_file(sweep).exists()):
        return NOT_STARTED, None  # what had been handed to this process before the sweep was stopped
    record = describe(cfg, sweep, folder)
    if cfg.sweep.resume is not None:
        cfg.sweep.resume = None  # the run is the same as one that was never interrupted
        ended = go_on(cfg, record, sweep)
        if ended is not None:
            return ended
    try:
        record.write(sweep)
        with printing_to(folder / "train.log"), obeying(launcher, stop_file(sweep)) if in_pool else nullcontext():
            outcome = attempt(cfg)
    except KeyboardInterrupt:  # just before or after the attempt, which reports its own
        outcome = 130, "interrupted"
    if (signum := signalled()) is not None and 0 < outcome[0] < 128:
        outcome = 128 + signum, "interrupted"  # whatever it was that failed for want of what was interrupted
    record.end(*outcome).write(sweep)
    return outcome


def go_on(cfg: DictConfig, record: Record, sweep: Path) -> Outcome | None:
    """How the same job ended earlier; None if it did not: then ``cfg.ckpt`` is its last checkpoint, if it has one."""
    earlier = read_record(sweep, record.folder)
    if earlier is None or record.config_hash is None or earlier.config_hash != record.config_hash:
        return None
    if earlier.is_finished(sweep):
        earlier = replace(earlier, overrides=record.overrides)  # the same config may be typed in another way
        if earlier.status(sweep) == "completed" and earlier.exit_code != 0:
            earlier = earlier.end(0, None)
        earlier.write(sweep)
        return earlier.exit_code or 0, earlier.error
    last = sweep / record.folder / "checkpoints/last.ckpt"
    if last.exists():
        cfg.ckpt = str(last)
    return None


def describe(cfg: DictConfig, sweep: Path, folder: Path) -> Record:
    """The record of a job that is about to start."""
    # What is wrong with a config the job itself will say.
    try:
        identity = config_hash(cfg)
    except OmegaConfBaseException:
        identity = None
    monitor = OmegaConf.select(cfg, "domain.monitor")
    return Record(
        folder=os.path.relpath(folder, sweep),
        overrides=tuple(typed_overrides(HydraConfig.get().overrides.task)),
        config_hash=identity,
        monitor=monitor,
        mode=OmegaConf.select(cfg, "domain.mode"),
        max_epochs=OmegaConf.select(cfg, "trainer.max_epochs"),
        first_epoch=read_progress(folder, monitor).epochs,
        process=process_name(os.getpid()),
        started=time.time(),
    )


@contextmanager
def printing_to(path: Path) -> Iterator[None]:
    """Everything that this process prints goes to a file; logging no longer goes to the console."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if type(each) is logging.StreamHandler]:
        root.removeHandler(handler)  # Hydra sets logging up anew for every job
    with open(path, "a", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        yield
