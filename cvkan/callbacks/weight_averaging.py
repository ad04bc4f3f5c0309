"""The moving average of the weights, also where a finished run is tested."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn


class WeightAverage(EMAWeightAveraging):
    """``EMAWeightAveraging`` whose test is one of the averaged weights, as its validation is.

    A checkpoint holds the average as ``state_dict`` and what training goes on from beside it. Lightning loads the
    latter whenever the callback has seen a fit, also to test after it: the weights that nobody has validated.

    Args:
        decay: share of the average that stays at a step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
