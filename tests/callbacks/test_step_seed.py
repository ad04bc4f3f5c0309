from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import torch

from cvkan.callbacks.step_seed import StepSeed


def draws(seed: int, epoch: int, batch: int, rank: int = 0) -> tuple[float, float, float]:
    trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    StepSeed(seed).on_train_batch_start(trainer, None, None, batch)
    return torch.rand(()).item(), float(np.random.rand()), random.random()  # noqa: NPY002


def test_draws_depend_on_seed_epoch_batch_and_rank_and_on_nothing_before() -> None:
    first = draws(0, 1, 2)
    torch.rand(100)
    random.random()
    assert draws(0, 1, 2) == first
    others = [
        draws(1, 1, 2),
        draws(0, 2, 2),
        draws(0, 1, 3),
        draws(0, 1, 2, rank=1),
        draws(0, 12, 2),
        draws(0, 1, 22),
    ]
    for generator in range(3):
        assert len({first[generator], *(other[generator] for other in others)}) == 7
