"""How long the fit took, how fast it was, and how much memory it needed."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch


class Throughput(pl.Callback):
    """Measure a fit; read :meth:`figures` after it, also after an interrupted one.

    Args:
        earlier: ``run.json`` of the part of the run that is resumed; its time counts, and a part that trains on
            nothing, because the run had ended, keeps its other figures.
    """

    def __init__(self, earlier: Mapping[str, Any] | None = None) -> None:
        self.earlier = earlier or {}
        self.fit_seconds = 0.0
        self.training_seconds = 0.0  # fit without validation
        self.samples = 0
        self.peak_memory_bytes = 0
        self._fit_started: float | None = None
        self._validation_started: float | None = None
        self._validation_seconds = 0.0

    def figures(self) -> dict[str, float | int | None]:
        """Figures for ``run.json``.

        Returns:
            ``fit_seconds`` (with validation), ``samples_per_second`` (training samples over training time;
            None if no sample was trained on; of all processes together), ``peak_memory_bytes`` (of this process: on
            its GPU if the fit used one, else in main memory).
        """
        fit_seconds = self.fit_seconds + (self.earlier.get("fit_seconds") or 0.0)
        if not self.samples and self.earlier.get("samples_per_second"):
            kept = ("samples_per_second", "peak_memory_bytes")
            return {"fit_seconds": round(fit_seconds, 3), **{name: self.earlier.get(name) for name in kept}}
        speed = self.samples / self.training_seconds if self.samples and self.training_seconds else None
        return {
            "fit_seconds": round(fit_seconds, 3),
            "samples_per_second": None if speed is None else round(speed, 2),
            "peak_memory_bytes": self.peak_memory_bytes,
        }

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        self.samples, self._validation_seconds, self._validation_started = 0, 0.0, None
        self._fit_started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.samples += len(next(iter(batch.values()))) * trainer.world_size

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation_started = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._validation_started is not None:
            self._validation_seconds += time.perf_counter() - self._validation_started
            self._validation_started = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop(pl_module)

    def _stop(self, pl_module: pl.LightningModule) -> None:
        if self._fit_started is None:
            return
        self.on_validation_end(pl_module.trainer, pl_module)  # a validation that was broken off
        self.fit_seconds = time.perf_counter() - self._fit_started
        self.training_seconds = self.fit_seconds - self._validation_seconds
        self._fit_started = None
        self.peak_memory_bytes = _peak_memory_bytes(pl_module.device)


def _peak_memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes on Linux
