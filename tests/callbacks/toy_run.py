"""A tiny training job with everything that a resumed run could get wrong.

Dropout, BatchNorm, augmentation, a scheduler with a state, shuffled data. It is a script too, so that it
can be killed: ``python toy_run.py RUN [--ckpt CKPT]``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ProgressBar
from torch import nn

from cvkan.callbacks.checkpoint import RunCheckpoint
from cvkan.callbacks.divergence import Divergence
from cvkan.callbacks.graceful_stop import GracefulStop
from cvkan.callbacks.history import MetricsCSV, carry_history
from cvkan.callbacks.step_seed import StepSeed
from cvkan.callbacks.throughput import Throughput
from cvkan.checkpointing import AtomicCheckpointIO
from cvkan.domains.datamodule import DataModule, TensorSplit
from cvkan.run_directory import RunDirectory
from cvkan.spec import Spec

N_BATCHES = 6  # a training epoch


class ToyData(DataModule):
    def __init__(self, num_workers: int = 0) -> None:
        super().__init__(batch_size=8, num_workers=num_workers, seed=3, limit_train=None)
        self.spec = Spec((5,), "classes", 2, class_names=("below", "above"))

    def load_splits(self):
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(80, 5, generator=draw)
        y = (x.sum(1) > 0).long()
        parts = {
            "train": slice(0, 50),
            "val": slice(50, 66),
            "test": slice(66, 80),
        }  # 50: the last 2 are dropped
        return {name: TensorSplit(x=x[part], y=y[part]) for name, part in parts.items()}


class ToyTask(pl.LightningModule):
    def __init__(self, scheduler: str = "onecycle") -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))
        self.scheduler = scheduler
        self.seen: list[tuple[int, int, float]] = []  # (epoch, batch, first value) of each training step

    def loss(self, batch):
        return nn.functional.cross_entropy(self.net(batch["x"]), batch["y"])

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, float(batch["x"][0, 0])))
        batch = {**batch, "x": batch["x"] + 0.1 * torch.randn_like(batch["x"])}
        loss = self.loss(batch)
        self.log("train/step_loss", loss, on_step=True, on_epoch=False)
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch), prog_bar=True)

    def test_step(self, batch, batch_idx):
        self.log("test/loss", self.loss(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.02)
        if self.scheduler == "none":
            return optimizer
        if self.scheduler == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, threshold=0.2)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val/loss"}}
        steps = int(self.trainer.estimated_stepping_batches)
        onecycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": onecycle, "interval": "step"}}


class SignalAt(pl.Callback):
    """Send a signal to this process: after a batch, or while validating at the end of an epoch."""

    def __init__(self, signum: int, epoch: int, batch: int | None = None, times: int = 1) -> None:
        self.signum, self.epoch, self.batch, self.times = signum, epoch, batch, times

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (self.epoch, self.batch):
            for _ in range(self.times):
                os.kill(os.getpid(), self.signum)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (self.batch, self.epoch, 0) == (None, trainer.current_epoch, batch_idx):
            os.kill(os.getpid(), self.signum)


def run_toy(
    path: Path,
    ckpt: Path | None = None,
    extra: list[pl.Callback] | None = None,
    task: pl.LightningModule | None = None,
    num_workers: int = 0,
    listen: bool = True,
    test: bool = False,
    **trainer_options,
) -> pl.Trainer:
    """Train the toy in a run directory as the command does, and return the trainer."""
    task = task or ToyTask()
    data = ToyData(num_workers)
    run = RunDirectory(path)
    if ckpt is not None:
        carry_history(ckpt, run)
    checkpoint = RunCheckpoint(run, "val/loss", "min", domain="toy", config={"seed": 3, "list": [1, 2.5, None, "a"]})
    stop = GracefulStop(checkpoint)
    callbacks = [StepSeed(3), checkpoint, stop, Divergence(run.last), Throughput(), *(extra or [])]
    options = {"max_epochs": 4, "num_sanity_val_steps": 0, **trainer_options}
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=MetricsCSV(run.metrics_csv),
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=path,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False,
        **options,
    )
    with stop.listening() if listen else nullcontext():
        trainer.fit(task, data, ckpt_path=ckpt)
        if test:
            trainer.test(task, data, verbose=False)
    return trainer


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--ckpt", type=Path)
    parser.add_argument("--kill", type=int, nargs=2, metavar=("EPOCH", "BATCH"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    killer = [SignalAt(signal.SIGKILL, *arguments.kill)] if arguments.kill else []
    trained = run_toy(arguments.run, arguments.ckpt, extra=killer)
    torch.save(trained.lightning_module.state_dict(), arguments.run / "final.pt")
    sys.exit(0)
