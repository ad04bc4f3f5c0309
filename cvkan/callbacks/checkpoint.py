"""Checkpoints from which a run continues exactly: best.ckpt and last.ckpt."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loops.loop import _Loop

from cvkan.data_facts import data_facts
from cvkan.domains.datamodule import DataModule
from cvkan.errors import UserError
from cvkan.run_directory import RunDirectory


class RunCheckpoint(pl.Callback):
    """Write ``last.ckpt`` after every epoch and ``best.ckpt`` whenever the monitored metric is the best so far.

    Of equally good epochs the last counts: small validation sets tie often, and the later weights have had the smaller
    learning rate.

    Lightning's ``ModelCheckpoint`` writes before the plateau scheduler has stepped and keys its state by
    absolute paths. This one writes when the epoch is over in every respect (as the next one starts, or
    training ends), and knows only a score, so a run directory can be moved. Every checkpoint of the trainer
    gets the key ``"cvkan"`` (version, domain, config, facts about the data) and progress counters in the form that
    resumes exactly.

    Stands before a weight averaging callback in the list of callbacks, which replaces the weights at the end.

    Args:
        run: where to write.
        monitor: name of a logged metric, e.g. ``"val/accuracy"``; its value at the end of the epoch counts.
        mode: ``"max"`` or ``"min"``, the direction that is better.
        domain: name of the domain, kept in the checkpoint.
        config: the resolved configuration as plain containers, kept in the checkpoint.
    """

    def __init__(
        self,
        run: RunDirectory,
        monitor: str,
        mode: Literal["min", "max"],
        domain: str,
        config: dict[str, Any],
    ) -> None:
        if mode not in ("min", "max"):
            raise UserError(f"mode must be min or max, got {mode!r}", "callbacks", "Set the metric's direction.")
        self.run, self.monitor, self.mode = run, monitor, mode
        self.header = {"version": version("cvkan"), "domain": domain, "config": config}
        self.best_score: float | None = None
        self._epoch_done = False
        self._validated = False
        self._stopped = False

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "stopped": self._stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # A score whose file is gone would keep a new best.ckpt from being written.
        self.best_score = state_dict["best_score"] if self.run.best.exists() else None
        self._stopped = state_dict["stopped"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        before = callbacks[: callbacks.index(self)]
        if any(isinstance(callback, WeightAveraging) for callback in before):
            raise ValueError("RunCheckpoint must stand before the weight averaging callback")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loop = trainer.fit_loop
        epochs = loop.epoch_progress.current.state_dict()
        if loop.restarting and epochs["started"] == epochs["processed"]:
            # With max_steps set, Lightning takes every checkpoint for one of a half-trained epoch and would
            # count a completed epoch twice. The base class's setter does not ask for max_steps.
            _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]
        # Lightning restores the loader where it makes it, but a scheduler that asks for the number of steps
        # (estimated_stepping_batches) has it made before the checkpoint's loop state is there.
        loop._load_combined_loader_states()
        if self._stopped:  # the run had ended by early stopping; resuming it must not add an epoch
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = self._validated or not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_done = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save_epoch(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save_epoch(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, DataModule)
        checkpoint["cvkan"] = {**self.header, "data": data_facts(data, pl_module)}
        settle_progress(checkpoint["loops"]["fit_loop"])

    def save_last(self, trainer: pl.Trainer) -> None:
        """Write ``last.ckpt`` now: between two epochs, or in the hook ``on_train_batch_start``."""
        trainer.save_checkpoint(self.run.last, weights_only=False)

    def _save_epoch(self, trainer: pl.Trainer) -> None:
        """Write what the epoch that has just ended calls for; nothing if none has ended since."""
        if not self._epoch_done:
            return
        self._epoch_done = False
        self._stopped = trainer.should_stop
        score = trainer.strategy.broadcast(self._score(trainer))  # processes that disagreed would wait for each other
        better = score is not None and (
            self.best_score is None or (score >= self.best_score if self.mode == "max" else score <= self.best_score)
        )
        # The best first: if the process dies in between, the repeated epoch writes the same best.ckpt again.
        if better:
            self.best_score = score
            trainer.save_checkpoint(self.run.best, weights_only=False)
        self.save_last(trainer)

    def _score(self, trainer: pl.Trainer) -> float | None:
        """The monitored value; None before the first validation or if it is not a number."""
        if self.monitor not in trainer.callback_metrics:
            if trainer.enable_validation and not self._validated:
                return None
            names = ", ".join(sorted(trainer.callback_metrics)) or "none"
            raise UserError(f"no metric {self.monitor!r} is logged", "monitor", f"Choose one of: {names}.")
        score = float(trainer.callback_metrics[self.monitor])
        return None if math.isnan(score) else score


def settle_progress(fit_loop: dict[str, Any]) -> None:
    """Rewrite the loop state of a checkpoint so that it describes only what is complete.

    Checkpoints are written in hooks that announce an epoch or a batch, when the loop has counted it as ready.

    Args:
        fit_loop: ``checkpoint["loops"]["fit_loop"]``, changed in place.
    """
    epochs, batches = fit_loop["epoch_progress"], fit_loop["epoch_loop.batch_progress"]
    if epochs["current"]["started"] == epochs["current"]["processed"]:  # between two epochs
        for progress in (epochs["total"], epochs["current"]):
            progress["ready"] = progress["completed"] = progress["processed"]
        fit_loop["state_dict"].pop("combined_loader", None)
    elif batches["current"]["ready"] == batches["current"]["started"] + 1:  # fetched, not yet trained on
        for progress in (batches["total"], batches["current"]):
            progress["ready"] = progress["completed"]
        batches["is_last_batch"] = False
        fit_loop["state_dict"]["combined_loader"] = [{"batches_seen": batches["current"]["completed"]}]
