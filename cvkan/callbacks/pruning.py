"""Report a trial's metric to its study as it goes, and stop a trial that has no hope."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl

from cvkan.hpo import results, studies
from cvkan.run_directory import RunDirectory

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)


class Pruning(pl.Callback):
    """After each validation, hand the monitored metric to the Optuna study that the job is a trial of, and ask it.

    A hopeless trial ends as by early stopping: its best checkpoint is tested, its run directory is complete, and
    ``run.json`` says under ``pruned`` why it ended. The study is found by the folder and the number of the job, so the
    config of a trial is that of a plain run: outside a study there is nothing to report to, and nothing happens.

    Args:
        monitor: name of a logged metric.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.reason: str | None = None
        self._trial: optuna.Trial | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"reason": self.reason}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.reason = state_dict["reason"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self._trial = trial_of_this_job()
        if self.reason is not None:  # the run had been stopped; resuming it only tests it
            self._record(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        hopeless = self._report(trainer) if self._trial is not None else False
        # Of several processes one is the trial, and all stop.
        if trainer.strategy.reduce_boolean_decision(hopeless, all=False):
            trainer.should_stop = True
            self._record(trainer)

    def _report(self, trainer: pl.Trainer) -> bool:
        """Whether the study gives the trial up."""
        assert self._trial is not None
        value = float(trainer.callback_metrics.get(self.monitor, math.nan))
        epoch = trainer.current_epoch + 1
        if math.isnan(value):
            return False
        # A resumed run comes by epochs that it has told of.
        if epoch not in self._trial.study.get_trials(deepcopy=False)[self._trial.number].intermediate_values:
            self._trial.report(value, epoch)
        if not self._trial.should_prune():
            return False
        self.reason = f"after epoch {epoch} of {trainer.max_epochs}: {self.monitor} {value:.4g} is behind other trials"
        return True

    def _record(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            log.info("pruned %s", self.reason)
            run = RunDirectory(str(trainer.default_root_dir))
            run.write_json(run.run_json.name, {**json.loads(run.run_json.read_text()), results.PRUNED: self.reason})


def trial_of_this_job() -> optuna.Trial | None:
    """The trial of an Optuna study that this job of a multirun is; None if it is none."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    if not HydraConfig.initialized():
        return None
    job = HydraConfig.get()
    folder = Path(job.sweep.dir)
    if OmegaConf.is_missing(job.job, "num") or "pruner" not in job.sweeper or not (folder / studies.FILE).is_file():
        return None
    pruner: Any = OmegaConf.to_container(job.sweeper.pruner, resolve=True)
    return studies.trial_of_job(folder, job.job.num, pruner)
