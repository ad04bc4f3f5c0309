"""The trainers of a run: Lightning's, with what every run of cvkan has besides its own choices."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.plugins.environments import ClusterEnvironment
from omegaconf import DictConfig

from cvkan import build
from cvkan.callbacks.checkpoint import RunCheckpoint
from cvkan.callbacks.divergence import Divergence
from cvkan.callbacks.graceful_stop import GracefulStop
from cvkan.callbacks.history import MetricsCSV
from cvkan.callbacks.progress import progress_callback
from cvkan.callbacks.step_seed import StepSeed
from cvkan.callbacks.throughput import Throughput
from cvkan.checkpointing import AtomicCheckpointIO
from cvkan.distributed import LocalProcesses
from cvkan.resuming import earlier_record
from cvkan.run_directory import RunDirectory


class Trainers:
    """What fits and what tests the network of one run; the same unless several processes fit it.

    Args:
        cfg: the composed config.
        run: its directory.
        config: the resolved config, for the checkpoints.
        leading: whether this is the first process of the run, the only one that logs.
    """

    def __init__(self, cfg: DictConfig, run: RunDirectory, config: dict[str, Any], leading: bool) -> None:
        self.cfg, self.run = cfg, run
        self.checkpoint = RunCheckpoint(run, cfg.domain.monitor, cfg.domain.mode, cfg.domain.name, config)
        self.stop, self.throughput = GracefulStop(self.checkpoint), Throughput(earlier_record(cfg.ckpt))
        self.callbacks = [
            StepSeed(cfg.seed),
            self.stop,
            Divergence(run.last),
            self.throughput,
            progress_callback(),
            self.checkpoint,
            *build.build_callbacks(cfg),
        ]
        # Callbacks that log ask for a logger in every process; this one writes in the first alone.
        self.loggers = [MetricsCSV(run.metrics_csv), *(build.build_loggers(cfg) if leading else [])]

    def fitting(self, environment: ClusterEnvironment) -> pl.Trainer:
        """The trainer ``cfg.trainer``.

        Args:
            environment: of this process, see :func:`cvkan.distributed.environment`.
        """
        return self._trainer(environment)

    def testing(self, fitted: pl.Trainer) -> pl.Trainer:
        """The trainer that has fitted; if others helped it, one that goes on in this process alone."""
        if fitted.world_size == 1:
            return fitted
        device = fitted.strategy.root_device
        devices = 1 if device.type == "cpu" else [device.index]
        alone = self._trainer(LocalProcesses(), strategy="auto", devices=devices, num_nodes=1)
        alone.fit_loop.load_state_dict(fitted.fit_loop.state_dict())  # the step that its figures are logged at
        return alone

    def test(self, trainer: pl.Trainer, task: Any, data: pl.LightningDataModule) -> dict[str, Any]:
        """``metrics.json``: test figures, the task's own, and the best validation score they were chosen by."""
        # Without a best one, the monitored metric was never a number.
        ckpt = self.run.best if self.run.best.exists() else self.run.last
        (tested,) = trainer.test(task, datamodule=data, ckpt_path=ckpt, weights_only=True, verbose=False)
        figures: dict[str, Any] = {name: float(value) for name, value in tested.items()}
        if self.checkpoint.best_score is not None:
            figures[f"best/{self.checkpoint.monitor}"] = self.checkpoint.best_score
        return figures | task.results()

    def _trainer(self, environment: ClusterEnvironment, **instead: Any) -> pl.Trainer:
        trainer = build.build_trainer(
            self.cfg,
            callbacks=self.callbacks,
            logger=self.loggers,
            plugins=[AtomicCheckpointIO(), environment],
            default_root_dir=str(self.run.path),
            enable_checkpointing=False,
            use_distributed_sampler=False,  # the data modules share out their batches themselves
            **instead,
        )
        keep_precision(trainer, str(self.cfg.trainer.precision))
        return trainer


def keep_precision(trainer: pl.Trainer, precision: str) -> None:
    """Train in the precision that was asked for: on a CPU, Lightning takes bf16-mixed in the place of 16-mixed.

    torch has had what float16 needs there, autocast and a loss scaler, since 2.3.
    """
    if trainer.precision != precision:
        device = trainer.strategy.root_device.type
        trainer.strategy.precision_plugin = MixedPrecision(precision, device)  # type: ignore[arg-type]
