"""One run, from a composed config to a complete run directory."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from omegaconf import DictConfig, OmegaConf

from cvkan import build, report
from cvkan.callbacks.checkpoint import RunCheckpoint
from cvkan.callbacks.divergence import Divergence
from cvkan.callbacks.graceful_stop import GracefulStop
from cvkan.callbacks.history import MetricsCSV, carry_history
from cvkan.callbacks.progress import progress_callback
from cvkan.callbacks.step_seed import StepSeed
from cvkan.callbacks.throughput import Throughput
from cvkan.checkpointing import AtomicCheckpointIO, read_checkpoint
from cvkan.errors import DivergedError, Interrupted, UserError, one_line
from cvkan.run_directory import RunDirectory, device_name
from cvkan.tasks.base import Task

log = logging.getLogger(__name__)

# What makes a run the run it is: a resumed one has the same, but for where its data lie and how fast they are read.
IDENTITY = ("seed", "model", "data", "task", "loss", "optimizer", "scheduler")
CIRCUMSTANCES = {"root", "download", "num_workers", "max_memory_gb", "compile"}


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
    check_seed(cfg.seed)
    check_epochs(cfg.trainer.max_epochs)
    resumed = check_resumable(cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data = build.build_data(cfg)
    task = build.build_task(cfg, data)
    if resumed is not None:
        check_weights(resumed["state_dict"], task, cfg.ckpt)
    # Missing or faulty data is found here, before there is a run to speak of.
    data.prepare_data()
    data.setup()
    run = RunDirectory(cfg.output_dir)
    check_unused(run, cfg.ckpt)
    config = repeatable(cfg)
    checkpoint = RunCheckpoint(run, cfg.domain.monitor, cfg.domain.mode, cfg.domain.name, config)
    stop, throughput = GracefulStop(checkpoint), Throughput()
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
            trainer.fit(task, datamodule=data, ckpt_path=cfg.ckpt, weights_only=True)
            (tested,) = trainer.test(task, datamodule=data, ckpt_path=run.best, weights_only=True, verbose=False)
            metrics = final_metrics(tested, task, checkpoint) | data.baselines()
            run.write_json("metrics.json", metrics)
            run.finish("completed", None, throughput.figures())
            report.write(run, task)
    except BaseException as error:
        failed = isinstance(error, Exception)
        speaks_for_itself = isinstance(error, (UserError, DivergedError, Interrupted))
        message = one_line(error) if speaks_for_itself else f"{type(error).__name__}: {one_line(error)}"
        run.finish("failed" if failed else "interrupted", message, throughput.figures())
        raise
    report.print_table(run)
    return metrics


def final_metrics(tested: Any, task: Task, checkpoint: RunCheckpoint) -> dict[str, Any]:
    """``metrics.json``: test figures, the task's own, and the best validation score they were chosen by."""
    figures: dict[str, Any] = {name: float(value) for name, value in tested.items()}
    if checkpoint.best_score is not None:
        figures[f"best/{checkpoint.monitor}"] = checkpoint.best_score
    return figures | task.results()


def check_seed(seed: Any) -> None:
    """Seeds are non-negative 32-bit integers, NumPy's range."""
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise UserError(
            f"seed must be an integer from 0 to {2**32 - 1}, got {seed!r}", "seed", "Set seed=0, for example."
        )


def check_epochs(max_epochs: Any) -> None:
    """A run of no epoch has no checkpoint to test, and the schedule of an endless one (null, -1) has no end."""
    if max_epochs is None or max_epochs < 1:
        raise UserError(
            f"max_epochs must be at least 1, got {max_epochs}", "trainer.max_epochs", "Set a positive number."
        )


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
            f"Resume it with domain={domain} and the other choices of its run, which its config.yaml lists.",
        )
    check_same_choices(checkpoint["cvkan"]["config"], cfg)
    return checkpoint


def check_same_choices(theirs: dict[str, Any], cfg: DictConfig) -> None:
    """Refuse to go on with a run under other choices than it began with: it would be neither run.

    Raises:
        UserError: a value of the checkpoint's config is another one here.
    """
    configs = (repeatable(cfg), theirs)
    here, there = (dict(_values({key: config.get(key) for key in IDENTITY})) for config in configs)
    other = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    if other:
        names = ", ".join(f"{key}={there.get(key)} (here {here.get(key)})" for key in other[:3])
        raise UserError(
            f"the checkpoint's run has {names}{' and more' if len(other) > 3 else ''}",
            cfg.ckpt,
            "Resume it with the choices of its run: cvkan-train --config-dir RUN --config-name config ckpt=….",
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
            "Resume it with the choices of its run, which its config.yaml lists.",
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


def quiet_lightning() -> None:
    """Silence remarks about this machine and about choices that are made on purpose."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # small data is faster without; data.num_workers sets it
        ".*isn't supported by .*ReduceLROnPlateau.*",
        ".*is smaller than the logging interval.*",
        ".*GPU available but not used.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*Early stopping conditioned on metric.*",  # RunCheckpoint refuses it
        ".*LeafSpec.*is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message=message)
