"""One run, from a composed config to a complete run directory."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from cvkan import build, companions, distributed, report, slurm
from cvkan.callbacks.history import carry_history
from cvkan.data_facts import check_data
from cvkan.distributed import LocalProcesses
from cvkan.domains.datamodule import DataModule
from cvkan.errors import DivergedError, Interrupted, UserError, one_line
from cvkan.resuming import check_resumable, check_unused, check_weights, repeatable
from cvkan.run_directory import RunDirectory, device_name
from cvkan.sweeping.identity import config_hash
from cvkan.tasks.base import Task
from cvkan.trainers import Trainers

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def train(cfg: DictConfig, overrides: Sequence[str] = (), companion: LocalProcesses | None = None) -> dict[str, Any]:
    """Fit, test the best checkpoint, and leave a complete run directory in ``cfg.output_dir``.

    With ``trainer=ddp`` several processes call this for one run. All of them fit; then the first one goes on alone, for
    a test that is shared out has other last batches.

    Args:
        cfg: the composed config of ``conf/train.yaml``.
        overrides: what was typed to compose it; for the record.
        companion: of a process that another one has started to help it.

    Returns:
        The figures of ``metrics.json``; nothing in other processes than the first.

    Raises:
        UserError: the config or the data is at fault; nothing but an aborted run directory is left.
        DivergedError: a loss or gradient was not finite.
        Interrupted: a signal stopped the run; ``last.ckpt`` is written.
    """
    quiet_lightning()
    check_values(cfg)
    environment = distributed.environment(companion)
    leading = environment.global_rank() == 0
    if cfg.ckpt is None:
        cfg.ckpt = slurm.checkpoint_of_this_job(cfg.output_dir)
    resumed = check_resumable(cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data, task = data_and_task(cfg, resumed)
    run = RunDirectory(cfg.output_dir)
    if leading:
        check_unused(run, cfg.ckpt)
    config = repeatable(cfg)
    trainers = Trainers(cfg, run, config, leading)
    trainer, figures = trainers.fitting(environment), trainers.throughput.figures
    distributed.check(trainer, environment, task, data, overrides)
    if cfg.ckpt is None:
        task.before_fit(data)  # it may read a file, such as one of word vectors, that is at fault
    if leading and resumed is not None:
        carry_history(Path(cfg.ckpt), run)
    run.write_config(config)
    run.start(record(cfg, trainer, task, data, overrides))
    try:
        with trainers.stop.listening():
            with companions.started(trainer, environment, cfg, lambda error: run.finish("failed", error, figures())):
                fit(trainer, task, data, cfg.ckpt)
            if not leading:
                return {}
            if trainer.world_size > 1:  # where weights were shared out, none of the processes has them all
                task = build.build_task(cfg, data)
            metrics = trainers.test(trainers.testing(trainer), task, data)
            run.write_json("metrics.json", metrics)
            metrics |= data.baselines()
            run.write_json("metrics.json", metrics)
            run.finish("completed", None, figures())
    except BaseException as error:
        run.finish(*outcome(error), figures())
        raise
    # The run is complete, whatever becomes of its pictures.
    report.write(run, task)
    report.print_table(run)
    return metrics


def data_and_task(cfg: DictConfig, resumed: dict[str, Any] | None) -> tuple[DataModule, Task]:
    """The data, loaded, and the task; missing or faulty data is found here, before there is a run to speak of.

    Args:
        cfg: the composed config.
        resumed: the checkpoint that the run goes on from.

    Raises:
        UserError: they are at fault, or not those of the checkpoint.
    """
    data = build.build_data(cfg)
    data.prepare_data()
    data.setup()
    task = build.build_task(cfg, data)
    if resumed is not None:
        check_weights(resumed["state_dict"], task, cfg.ckpt)
        check_data(resumed, data, task, cfg.ckpt)
    return data, task


def outcome(error: BaseException) -> tuple[Literal["failed", "interrupted"], str]:
    """Status and message of a run that an error ended."""
    speaks_for_itself = isinstance(error, (UserError, DivergedError, Interrupted))
    message = one_line(error) if speaks_for_itself else f"{type(error).__name__}: {one_line(error)}"
    return "failed" if isinstance(error, Exception) else "interrupted", message


def fit(trainer: pl.Trainer, task: Task, data: Any, ckpt: str | None) -> None:
    """``trainer.fit``, with Lightning's complaints about the user's choices as such.

    Raises:
        UserError: a choice that only shows itself in training, such as a metric that a scheduler waits for in vain.
    """
    try:
        trainer.fit(task, datamodule=data, ckpt_path=ckpt, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(one_line(error), "trainer.fit", "Change the choice that the message names.") from error


def record(
    cfg: DictConfig, trainer: pl.Trainer, task: Task, data: DataModule, overrides: Sequence[str]
) -> dict[str, Any]:
    """What ``run.json`` says of a run from its start on."""
    return {
        "device": device_name(trainer.strategy.root_device),
        "precision": str(cfg.trainer.precision),
        "seed": cfg.seed,
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "data_source": cfg.data["_target_"],
        "data_fingerprint": data.fingerprint(),
        "config_hash": config_hash(cfg),
        "overrides": list(overrides),
        "processes": trainer.world_size,
        "slurm_job_id": slurm.job_id(),
    }


def check_values(cfg: DictConfig) -> None:
    """Refuse values that only the run as a whole can judge.

    Raises:
        UserError: ``seed``, ``trainer.max_epochs`` or ``trainer.precision`` is out of range.
    """
    # NumPy's range.
    if not isinstance(cfg.seed, int) or not 0 <= cfg.seed < 2**32:
        raise UserError(
            f"seed must be an integer from 0 to {2**32 - 1}, got {cfg.seed!r}", "seed", "Set seed=0, for example."
        )
    # A run of no epoch has no checkpoint to test, and the schedule of an endless one (null, -1) has no end.
    epochs = cfg.trainer.max_epochs
    if epochs is None or epochs < 1:
        raise UserError(f"max_epochs must be at least 1, got {epochs}", "trainer.max_epochs", "Set a positive number.")
    # The core keeps its polar part in float32 by itself; weights in another precision throughout are not supported.
    if str(cfg.trainer.precision) not in PRECISIONS:
        raise UserError(
            f"precision {cfg.trainer.precision} is not supported",
            "trainer.precision",
            f"Choose one of: {', '.join(PRECISIONS)}.",
        )


def quiet_lightning() -> None:
    """Silence remarks about this machine and about choices that are made on purpose."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # a compiler's CUDA on a machine without GPU
    for message in (
        ".*does not have many workers.*",  # small data is faster without; data.num_workers sets it
        ".*is smaller than the logging interval.*",
        ".*GPU available but not used.*",
        ".*Early stopping conditioned on metric.*",  # RunCheckpoint refuses it
        ".*LeafSpec.*is deprecated.*",
        ".*torch._prims_common.check. is deprecated.*",  # torch about itself, in its compiler
        ".*AMP with fp16 is not supported on CPU.*",  # cvkan.trainers
        ".*does not support code generation for complex operators.*",  # the core has none, only its entrance
        ".*Grad strides do not match bucket view strides.*",  # of one layer among many, with trainer=ddp
        ".*lr_scheduler.step.. before .optimizer.step.*",  # a loss scaler skips the first steps until its scale fits
    ):
        warnings.filterwarnings("ignore", message=message)
