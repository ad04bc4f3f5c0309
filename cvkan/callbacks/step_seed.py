"""Randomness of a training step as a pure function of the seed and the step."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch


class StepSeed(pl.Callback):
    """Seed the global generators before each training batch from (seed, epoch, batch, rank).

    Dropout and augmentation of a step then do not depend on what was drawn before it, so a resumed run
    repeats the uninterrupted one bit for bit without any generator state in its checkpoint. Together with the
    order of the samples (:class:`~cvkan.domains.loader.EpochSampler`) this covers every draw of training.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Counted in batches, not in optimizer steps: accumulated batches must not repeat each other's draws.
        key = f"{self.seed}/{trainer.current_epoch}/{batch_idx}/{trainer.global_rank}"
        digest = hashlib.sha256(key.encode()).digest()
        torch.manual_seed(int.from_bytes(digest[:7]))  # the CPU's and every GPU's generator
        np.random.seed(int.from_bytes(digest[8:12]))  # noqa: NPY002 - libraries draw from the global one
        random.seed(digest)
