"""Stop a run at the first loss or gradient that is not finite, before it reaches the weights."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from cvkan.errors import DivergedError

OF_ANOTHER = "the loss of another process is not finite"


class Divergence(pl.Callback):
    """Raise :class:`~cvkan.errors.DivergedError` before an optimizer step that would spoil the weights.

    One check a step: the norm of all gradients and the loss, fused, read once from the device. Processes that train
    together agree on it, and all of them end. A loss scaler
    (``precision=16-mixed``) skips steps whose gradients overflow and halves its scale, from 65536 at the start, which
    is no divergence. Gradients that are not finite at a scale of 1 or less overflow by themselves: those are, after
    at most 17 skipped steps in a row. No step that spoils the weights is taken in either case.

    Args:
        last: path of the run's ``last.ckpt``, named in the error if it exists.
        val_loss: name of the validation loss, checked after each validation.
    """

    def __init__(self, last: Path, val_loss: str = "val/loss") -> None:
        self.last, self.val_loss = last, val_loss
        self._losses: list[Tensor] = []
        self._batch: Any = None
        self._batch_idx = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._batch, self._batch_idx = batch, batch_idx

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if _scaler(trainer) is None:  # a scaled loss may overflow where the loss does not
            self._losses.append(loss.detach())

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        losses, self._losses = self._losses, []
        scaler = _scaler(trainer)
        if scaler is not None and scaler.get_scale() > 1:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        finite = bool(torch.isfinite(torch.stack([norm.float(), *(loss.float() for loss in losses)])).all())
        if trainer.strategy.reduce_boolean_decision(finite):
            return
        bad_loss = next((float(loss) for loss in losses if not math.isfinite(loss)), None)
        bad_gradient = not all(_finite(gradient) for gradient in gradients)
        if not trainer.strategy.reduce_boolean_decision(bad_loss is not None or bad_gradient, all=False):
            return  # large gradients: only the sum of their squares has overflowed
        if bad_loss is not None:
            self._raise(trainer, f"the loss is {bad_loss}, {self._origin(trainer, pl_module)}")
        if bad_gradient:
            at = "" if scaler is None else f" at a loss scale of {scaler.get_scale():g}"
            self._raise(trainer, f"a gradient is not finite{at}, first in {_first_bad_gradient(pl_module)}")
        self._raise(trainer, OF_ANOTHER)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if _scaler(trainer) is not None:
            loss = float(outputs["loss"])
            if trainer.strategy.reduce_boolean_decision(not math.isfinite(loss), all=False):
                here = not math.isfinite(loss)
                self._raise(trainer, f"the loss is {loss}, {self._origin(trainer, pl_module)}" if here else OF_ANOTHER)
        self._batch = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        loss = trainer.callback_metrics.get(self.val_loss)
        if not trainer.sanity_checking and loss is not None and not math.isfinite(loss):
            self._raise(trainer, f"{self.val_loss} is {float(loss)}")

    def _raise(self, trainer: pl.Trainer, what: str) -> None:
        where = f"step {trainer.global_step} (epoch {trainer.current_epoch}, batch {self._batch_idx})"
        good = f"the last good checkpoint is {self.last}" if self.last.exists() else "there is no checkpoint yet"
        raise DivergedError(f"training diverged at {where}: {what}; {good}. Lower optimizer.lr.")

    def _origin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> str:
        """Where the batch first turns non-finite: repeats its forward pass, layer by layer."""
        if trainer.world_size > 1:  # a layer that waits for the other processes would wait for ever
            return f"in process {trainer.global_rank}"
        if not all(_finite(value) for value in self._batch.values()):
            return "the batch itself holds values that are not finite"
        found: list[str] = []

        def watch(name: str, module: nn.Module) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                if not found and not _finite(output):
                    found.append(f"first in layer {name} ({type(module).__name__})")

            return module.register_forward_hook(hook)

        hooks = [watch(name, module) for name, module in pl_module.named_modules() if name]
        try:
            # Logging is refused here, after the layers have run; what fails now is not the error to report.
            with torch.no_grad(), contextlib.suppress(Exception):
                pl_module.training_step(self._batch, self._batch_idx)
        finally:
            for handle in hooks:
                handle.remove()
        return found[0] if found else f"gradients first in {_first_bad_gradient(pl_module)}"


def _scaler(trainer: pl.Trainer) -> torch.amp.GradScaler | None:
    plugin = trainer.precision_plugin
    return plugin.scaler if isinstance(plugin, MixedPrecision) else None


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, (tuple, list)):
        return all(_finite(item) for item in value)
    return True


def _first_bad_gradient(pl_module: pl.LightningModule) -> str:
    """Backward runs from the output to the input: the first bad gradient is the one nearest to the output."""
    named = reversed(list(pl_module.named_parameters()))
    return next((f"parameter {n}" for n, p in named if p.grad is not None and not _finite(p.grad)), "no parameter")
