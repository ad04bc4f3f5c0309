"""Learning-rate schedules over the whole run, stepped once a batch; built as ``schedule(optimizer, total_steps)``."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR


def one_cycle(optimizer: Optimizer, total_steps: int, warmup_fraction: float, final_fraction: float) -> LRScheduler:
    """Cosine up to the optimizer's rate, cosine down to nearly nothing.

    Args:
        optimizer: its learning rate is the peak.
        total_steps: optimizer steps of the whole run.
        warmup_fraction: share of the steps that go up.
        final_fraction: last rate over peak rate.

    Source: Smith and Topin, "Super-Convergence", 2018, without the momentum cycle.
    """
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=max(total_steps, 2),  # OneCycleLR divides by total_steps - 1
        pct_start=warmup_fraction,
        cycle_momentum=False,
        div_factor=25.0,
        final_div_factor=1 / (25.0 * final_fraction),
    )


def cosine(optimizer: Optimizer, total_steps: int, warmup_fraction: float, final_fraction: float) -> LRScheduler:
    """Linear warm-up, then half a cosine down to ``final_fraction`` of the rate. Arguments as :func:`one_cycle`."""
    warmup = round(warmup_fraction * total_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The optimizer's own rate throughout."""
    return LambdaLR(optimizer, lambda step: 1.0)
