from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler

from cvkan.schedulers import constant, cosine, one_cycle

PEAK = 2e-3


def rates(schedule: Callable[..., LRScheduler], total_steps: int, **options: float) -> list[float]:
    """Learning rate of each step of a run."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]}, {"params": [torch.nn.Parameter(torch.zeros(1))]}]
    optimizer = torch.optim.SGD(groups, lr=PEAK)
    scheduler = schedule(optimizer, total_steps=total_steps, **options)
    used = []
    for _ in range(total_steps):
        used.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[1]["lr"] == used[-1]
        optimizer.step()
        scheduler.step() if len(used) < total_steps else None
    return used


def test_one_cycle_starts_at_a_25th_peaks_after_warmup_and_ends_at_the_final_fraction() -> None:
    used = rates(one_cycle, 101, warmup_fraction=0.2, final_fraction=1e-3)
    assert used[0] == pytest.approx(PEAK / 25)
    assert max(used) == pytest.approx(PEAK, rel=1e-3)
    assert used.index(max(used)) in (19, 20)
    assert used[-1] == pytest.approx(PEAK * 1e-3)


def test_one_cycle_leaves_the_momentum_alone() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK, momentum=0.9)
    one_cycle(optimizer, total_steps=10, warmup_fraction=0.2, final_fraction=1e-3)
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_cosine_warms_up_linearly_and_falls_by_half_a_cosine() -> None:
    used = rates(cosine, 100, warmup_fraction=0.1, final_fraction=0.01)
    assert used[:10] == pytest.approx([PEAK * (step + 1) / 11 for step in range(10)])
    assert used[10] == pytest.approx(PEAK)
    assert used[55] == pytest.approx(PEAK * (0.01 + 0.99 * 0.5))
    assert used[-1] == pytest.approx(PEAK * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * 89 / 90))))


def test_cosine_beyond_the_last_step_stays_at_the_final_rate() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = cosine(optimizer, total_steps=10, warmup_fraction=0.0, final_fraction=0.01)
    for _ in range(15):
        optimizer.step()
        scheduler.step()
    assert scheduler.get_last_lr() == [pytest.approx(PEAK * 0.01)]


def test_constant_is_constant() -> None:
    assert rates(constant, 7) == [PEAK] * 7


@pytest.mark.parametrize("schedule", [one_cycle, cosine])
def test_a_run_of_one_step_has_a_positive_finite_rate(schedule: Callable[..., LRScheduler]) -> None:
    (rate,) = rates(schedule, 1, warmup_fraction=0.2, final_fraction=1e-3)
    assert 0 < rate <= PEAK
