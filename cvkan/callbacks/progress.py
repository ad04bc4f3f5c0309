"""Progress of a fit: a bar for a person at a terminal, one line an epoch for a log file."""

from __future__ import annotations

import logging
import sys
import time

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

log = logging.getLogger(__name__)


def progress_callback() -> ProgressBar:
    """A rich bar where stdout is a terminal, else :class:`EpochLines`."""
    return RichProgressBar() if sys.stdout.isatty() else EpochLines()


class EpochLines(ProgressBar):
    """Log one line an epoch: the metrics meant for the progress bar, the seconds it took, the time to go."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._epoch_started = self._fit_started = 0.0
        self._first_epoch = 0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._fit_started = self._epoch_started = time.perf_counter()
        self._first_epoch = trainer.current_epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch_started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._enabled:
            return
        now = time.perf_counter()
        epoch = trainer.current_epoch + 1
        parts = [f"epoch {epoch}"]
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            parts = [f"epoch {epoch}/{trainer.max_epochs}"]
        metrics = self.get_metrics(trainer, pl_module)
        parts += [f"{name} {value:.3g}" for name, value in metrics.items() if _is_epoch_figure(name, value, metrics)]
        parts.append(f"{now - self._epoch_started:.1f} s")
        if trainer.max_epochs is not None and epoch < trainer.max_epochs:
            mean = (now - self._fit_started) / (epoch - self._first_epoch)
            parts.append(f"eta {_duration(mean * (trainer.max_epochs - epoch))}")
        log.info("  ".join(parts))


def _is_epoch_figure(name: str, value: object, metrics: dict) -> bool:
    """Lightning shows a metric logged both ways three times: under its name, with _step and with _epoch."""
    twin = name.removesuffix("_step").removesuffix("_epoch")
    return isinstance(value, (int, float)) and (twin == name or twin not in metrics)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
