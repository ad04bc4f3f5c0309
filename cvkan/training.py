"""One run, from a composed config to a complete run directory."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.plugins import MixedPrecision
from omegaconf import DictConfig

from cvkan import build, report
from cvkan.callbacks.checkpoint import RunCheckpoint
from cvkan.callbacks.divergence import Divergence
from cvkan.callbacks.graceful_stop import GracefulStop
from cvkan.callbacks.history import MetricsCSV, carry_history
from cvkan.callbacks.progress import progress_callback
from cvkan.callbacks.step_seed import StepSeed
from cvkan.callbacks.throughput import Throughput
from cvkan.checkpointing import AtomicCheckpointIO
from cvkan.data_facts import check_data
from cvkan.errors import DivergedError, Interrupted, UserError, one_line
from cvkan.resuming import check_resumable, check_unused, check_weights, earlier_record, repeatable
from cvkan.run_directory import RunDirectory, device_name
from cvkan.tasks.base import Task

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def train(cfg: DictConfig) -> dict[str, Any]:
    """Fit, test the best checkpoint, and leave a complete run directory in ``cfg.output_dir``.

    Args:
        cfg: the composed config of ``conf/train.yaml``.

    Returns:
        The figures of ``metrics.json``.

    Raises:
        UserError: the config or the data is at fault; nothing but an aborted run directory is left.
        DivergedError: a loss or gradient was not finite.
        Interrupted: a signal stopped the run; ``last.ckpt`` is written.
    """
    quiet_lightning()
    check_values(cfg)
    resumed = check_resumable(cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    # Missing or faulty data is found here, before there is a run to speak of.
    data = build.build_data(cfg)
    data.prepare_data()
    data.setup()
    task = build.build_task(cfg, data)
    if resumed is not None:
        check_weights(resumed["state_dict"], task, cfg.ckpt)
        check_data(resumed, data, task, cfg.ckpt)
    run = RunDirectory(cfg.output_dir)
    check_unused(run, cfg.ckpt)
    config = repeatable(cfg)
    checkpoint = RunCheckpoint(run, cfg.domain.monitor, cfg.domain.mode, cfg.domain.name, config)
    stop, throughput = GracefulStop(checkpoint), Throughput(earlier_record(cfg.ckpt))
    trainer = build.build_trainer(
        cfg,
        callbacks=[
            StepSeed(cfg.seed),
            stop,
            Divergence(run.last),
            throughput,
            progress_callback(),
            checkpoint,
            *build.build_callbacks(cfg),
        ],
        logger=[MetricsCSV(run.metrics_csv), *build.build_loggers(cfg)],
        plugins=[AtomicCheckpointIO()],
        default_root_dir=str(run.path),
        enable_checkpointing=False,
    )
    keep_precision(trainer, str(cfg.trainer.precision))
    if resumed is not None:
        carry_history(Path(cfg.ckpt), run)
    run.write_config(config)
    run.start(
        {
            "device": device_name(trainer.strategy.root_device),
            "precision": str(cfg.trainer.precision),
            "seed": cfg.seed,
            "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
            "data_source": cfg.data["_target_"],
            "data_fingerprint": data.fingerprint(),
        }
    )
    try:
        with stop.listening():
            if cfg.ckpt is None:
                task.before_fit(data)
            fit(trainer, task, data, cfg.ckpt)
            # Without a best one, the monitored metric was never a number.
            tested_ckpt = run.best if run.best.exists() else run.last
            (tested,) = trainer.test(task, datamodule=data, ckpt_path=tested_ckpt, weights_only=True, verbose=False)
            metrics = final_metrics(tested, task, checkpoint)
            run.write_json("metrics.json", metrics)
            metrics |= data.baselines()
            run.write_json("metrics.json", metrics)
            run.finish("completed", None, throughput.figures())
    except BaseException as error:
        run.finish(*outcome(error), throughput.figures())
        raise
    # The run is complete, whatever becomes of its pictures.
    report.write(run, task)
    report.print_table(run)
    return metrics


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


def final_metrics(tested: Any, task: Task, checkpoint: RunCheckpoint) -> dict[str, Any]:
    """``metrics.json``: test figures, the task's own, and the best validation score they were chosen by."""
    figures: dict[str, Any] = {name: float(value) for name, value in tested.items()}
    if checkpoint.best_score is not None:
        figures[f"best/{checkpoint.monitor}"] = checkpoint.best_score
    return figures | task.results()


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


def keep_precision(trainer: pl.Trainer, precision: str) -> None:
    """Train in the precision that was asked for: on a CPU, Lightning takes bf16-mixed in the place of 16-mixed.

    torch has had what float16 needs there, autocast and a loss scaler, since 2.3.
    """
    if trainer.precision != precision:
        device = trainer.strategy.root_device.type
        trainer.strategy.precision_plugin = MixedPrecision(precision, device)  # type: ignore[arg-type]


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
        ".*AMP with fp16 is not supported on CPU.*",  # keep_precision
        ".*does not support code generation for complex operators.*",  # the core has none, only its entrance
        ".*lr_scheduler.step.. before .optimizer.step.*",  # a loss scaler skips the first steps until its scale fits
    ):
        warnings.filterwarnings("ignore", message=message)
