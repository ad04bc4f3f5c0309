"""Learning-rate schedules, built as ``schedule(optimizer, total_steps)``.

They are stepped once a batch; one with a ``monitor`` is stepped with that metric once a validation.
"""

from __future__ import annotations

import math
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingWarmRestarts,
    CyclicLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
)


def one_cycle(optimizer: Optimizer, total_steps: int, warmup_fraction: float, final_fraction: float) -> LRScheduler:
    """Cosine up to the optimizer's rate, cosine down to nearly nothing.

    Args:
        optimizer: its learning rate is the peak.
        total_steps: optimizer steps of the whole run.
        warmup_fraction: share of the steps that go up.
        final_fraction: last rate over peak rate.

    Raises:
        ValueError: a fraction out of range.

    Source: Smith and Topin, "Super-Convergence", 2018, without the momentum cycle.
    """
    check_fractions(warmup_fraction, final_fraction)
    if final_fraction == 0:
        raise ValueError("one_cycle needs a final_fraction above 0; scheduler=cosine ends at 0")
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=max(total_steps, 2),  # OneCycleLR divides by total_steps - 1,
        pct_start=max(warmup_fraction, 1.5 / max(total_steps, 2)),  # and by the steps that go up, less one
        cycle_momentum=False,
        div_factor=25.0,
        final_div_factor=1 / (25.0 * final_fraction),
    )


def cosine(optimizer: Optimizer, total_steps: int, warmup_fraction: float, final_fraction: float) -> LRScheduler:
    """Linear warm-up, then half a cosine down to ``final_fraction`` of the rate. Arguments as :func:`one_cycle`."""
    check_fractions(warmup_fraction, final_fraction)
    warmup = round(warmup_fraction * total_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def check_fractions(warmup_fraction: float, final_fraction: float) -> None:
    """Refuse shares that no run has."""
    if not 0 <= warmup_fraction < 1 or not 0 <= final_fraction <= 1:
        raise ValueError(
            "needed: 0 <= warmup_fraction < 1 and 0 <= final_fraction <= 1, "
            f"got warmup_fraction={warmup_fraction} and final_fraction={final_fraction}"
        )


def constant(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    """The optimizer's own rate throughout."""
    return LambdaLR(optimizer, lambda step: 1.0)


def warm_restarts(
    optimizer: Optimizer, total_steps: int, n_cycles: int, cycle_mult: int, final_fraction: float
) -> LRScheduler:
    """Half a cosine down to ``final_fraction`` of the rate, then again from the top.

    The first cycle lasts ``total_steps / (1 + m + ... + m^(n - 1))`` steps, rounded up, with ``n`` cycles that grow by
    ``m``: the run ends at the bottom of the last one, never just after a restart.

    Args:
        optimizer: its learning rate is the top of every cycle, the same for all groups.
        total_steps: optimizer steps of the whole run.
        n_cycles: cycles in the run, at least 1.
        cycle_mult: length of a cycle over that of the one before, at least 1.
        final_fraction: lowest rate over highest rate.

    Raises:
        ValueError: a number of cycles or a growth below 1.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, equation 5.
    """
    for name, value in {"n_cycles": n_cycles, "cycle_mult": cycle_mult}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}; set {name}=1 for the shortest choice")
    first = math.ceil(total_steps / sum(cycle_mult**k for k in range(n_cycles)))
    lowest = final_fraction * min(group["lr"] for group in optimizer.param_groups)
    return CosineAnnealingWarmRestarts(optimizer, T_0=max(first, 1), T_mult=cycle_mult, eta_min=lowest)


def cyclic(optimizer: Optimizer, total_steps: int, n_cycles: int, base_lr: float, max_lr: float) -> LRScheduler:
    """Straight up from ``base_lr`` to ``max_lr`` and down again, each cycle half as high as the one before.

    The cycles are equal in length and fill the run, half a cycle rounded up to whole steps.

    Args:
        optimizer: its own rate is replaced, its momentum stays.
        total_steps: optimizer steps of the whole run.
        n_cycles: cycles in the run, at least 1.
        base_lr: lowest rate.
        max_lr: highest rate of the first cycle.

    Raises:
        ValueError: an argument is out of range.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", 2017 (triangular2).
    """
    if n_cycles < 1:
        raise ValueError(f"n_cycles must be at least 1, got {n_cycles}; set n_cycles=1 for the shortest choice")
    if not 0 < base_lr < max_lr:
        raise ValueError(f"needed: 0 < base_lr < max_lr, got base_lr={base_lr} and max_lr={max_lr}; lower base_lr")
    half = math.ceil(total_steps / (2 * n_cycles))
    return CyclicLR(optimizer, base_lr, max_lr, step_size_up=half, mode="triangular2", cycle_momentum=False)


class Plateau(ReduceLROnPlateau):
    """The optimizer's rate, multiplied by ``factor`` whenever the metric has stopped improving.

    Args:
        optimizer: its learning rate is the first.
        total_steps: without effect; the schedule follows the metric.
        monitor: the metric, e.g. ``"val/accuracy"``.
        mode: ``"max"`` or ``"min"``, the direction that is better.
        factor: new rate over old rate, between 0 and 1.
        patience: validations without improvement that are borne; the next one lowers the rate.
        threshold: smallest difference that counts as an improvement. It is absolute, for a relative one is wrong for
            metrics below zero.
        final_fraction: lowest rate over first rate.

    Raises:
        ValueError: an argument is out of range.

    Source: torch's ``ReduceLROnPlateau``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        monitor: str,
        mode: Literal["min", "max"],
        factor: float,
        patience: int,
        threshold: float,
        final_fraction: float,
    ) -> None:
        if not 0 < factor < 1:
            raise ValueError(f"factor must lie between 0 and 1, got {factor}; set factor=0.5, for example")
        if patience < 0:
            raise ValueError(f"patience must not be negative, got {patience}; set patience=0 to wait for nothing")
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be min or max, got {mode!r}; set the direction that is better")
        self.monitor = monitor
        super().__init__(
            optimizer,
            mode=mode,
            factor=factor,
            patience=patience,
            threshold=threshold,
            threshold_mode="abs",
            min_lr=[final_fraction * group["lr"] for group in optimizer.param_groups],
        )
