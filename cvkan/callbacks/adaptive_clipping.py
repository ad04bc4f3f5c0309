"""A limit on the norm of the gradients that follows them."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor

from cvkan.errors import UserError


class AdaptiveClipping(pl.Callback):
    """Move ``trainer.gradient_clip_val``, by which the trainer goes on to clip, to where it clips now and then.

    After every ``window`` steps: where more than ``grow_above`` of them were clipped, the limit is multiplied by
    ``factor``; where no norm came near it, all of them below ``shrink_below`` of the limit, it is divided by
    ``factor``; else it stays. It starts at what the trainer is set to and is kept within ``lowest`` and ``highest``.
    The limit at the end of each epoch is logged as ``gradients/clip_limit``.

    One number is read from the device a window. Limit and window are in the checkpoint: a resumed run clips as the
    uninterrupted one. Steps with gradients that are not finite do not count.

    Args:
        window: steps between two decisions.
        grow_above: share of clipped steps, from 0 to below 1.
        shrink_below: largest norm of the window over the limit, above 0 and below ``1 / factor``, so that no limit
            that was lowered is raised at once.
        factor: above 1.
        lowest: least limit, positive.
        highest: largest limit.

    Raises:
        ValueError: an argument is out of range.
        UserError: the trainer clips nothing, or single values instead of the norm.

    Source: own choice.
    """

    def __init__(
        self, window: int, grow_above: float, shrink_below: float, factor: float, lowest: float, highest: float
    ) -> None:
        if window < 1 or not 0 <= grow_above < 1:
            raise ValueError(
                f"window must be at least 1 and grow_above from 0 to below 1, got {window} and {grow_above}; "
                "set window=50 and grow_above=0.5, for example"
            )
        if not factor > 1 or not 0 < shrink_below < 1 / factor:
            raise ValueError(
                f"factor must be above 1 and shrink_below between 0 and 1 / factor, got {factor} and {shrink_below}; "
                "set factor=1.5 and shrink_below=0.25, for example"
            )
        if not 0 < lowest <= highest:
            raise ValueError(f"needed: 0 < lowest <= highest, got {lowest} and {highest}; set lowest=0.1, highest=50")
        self.window, self.grow_above, self.shrink_below, self.factor = window, grow_above, shrink_below, factor
        self.lowest, self.highest = lowest, highest
        self.limit: float | None = None
        self._steps = 0  # of the running window, skipped ones among them
        self._seen = torch.zeros(3)  # steps that count, those that were clipped, and the largest norm

    def state_dict(self) -> dict[str, Any]:
        return {"limit": self.limit, "steps": self._steps, "seen": self._seen.cpu()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.limit, self._steps, self._seen = state_dict["limit"], state_dict["steps"], state_dict["seen"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if not trainer.gradient_clip_val:
            raise UserError(
                "adaptive clipping needs a limit to start from",
                "trainer.gradient_clip_val",
                "Set trainer.gradient_clip_val=1.0, or choose other callbacks.",
            )
        if trainer.gradient_clip_algorithm == GradClipAlgorithmType.VALUE:
            raise UserError(
                "adaptive clipping is of the norm",
                "trainer.gradient_clip_algorithm",
                "Set it to norm, or leave it out.",
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._set_limit(trainer, float(trainer.gradient_clip_val or 0) if self.limit is None else self.limit)
        self._seen = self._seen.to(pl_module.device)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self._count(torch.nn.utils.get_total_norm(gradients).float())
        self._steps += 1
        if self._steps == self.window:
            self._set_limit(trainer, self._next_limit())
            self._steps, self._seen = 0, torch.zeros_like(self._seen)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self.limit is not None
        pl_module.log("gradients/clip_limit", self.limit)

    def _count(self, norm: Tensor) -> None:
        assert self.limit is not None
        counts = norm.isfinite()
        n, clipped, largest = self._seen
        largest = torch.where(counts, largest.maximum(norm), largest)
        self._seen = torch.stack([n + counts, clipped + (counts & (norm > self.limit)), largest])

    def _next_limit(self) -> float:
        """What the steps of a whole window ask for."""
        assert self.limit is not None
        n, clipped, largest = self._seen.tolist()
        if clipped > self.grow_above * n:
            return self.limit * self.factor
        if n and largest < self.shrink_below * self.limit:
            return self.limit / self.factor
        return self.limit

    def _set_limit(self, trainer: pl.Trainer, limit: float) -> None:
        self.limit = trainer.gradient_clip_val = min(max(limit, self.lowest), self.highest)
