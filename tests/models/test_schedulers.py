from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from cvkan.domains.datamodule import DataModule, TensorSplit
from cvkan.schedulers import Plateau, constant, cosine, cyclic, one_cycle, warm_restarts
from cvkan.spec import Batch, Spec
from cvkan.tasks.base import Task

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


def test_warm_restarts_fill_the_run_with_growing_cycles() -> None:
    used = rates(warm_restarts, 70, n_cycles=3, cycle_mult=2, final_fraction=0.01)
    cycles = [(start, length) for start, length in ((0, 10), (10, 20), (30, 40))]
    for start, length in cycles:
        factors = [0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * k / length)) for k in range(length)]
        assert used[start : start + length] == pytest.approx([PEAK * factor for factor in factors])


@pytest.mark.parametrize("total_steps", [1, 2, 5, 69, 71, 76, 1000])
@pytest.mark.parametrize(("n_cycles", "cycle_mult"), [(1, 1), (1, 3), (4, 1), (3, 2)])
def test_warm_restarts_never_start_a_further_cycle(total_steps: int, n_cycles: int, cycle_mult: int) -> None:
    used = rates(warm_restarts, total_steps, n_cycles=n_cycles, cycle_mult=cycle_mult, final_fraction=0.01)
    restarts = sum(later > earlier for earlier, later in pairwise(used))
    assert restarts <= n_cycles - 1
    assert restarts == n_cycles - 1 or total_steps < 10 * n_cycles
    assert all(0 < rate <= PEAK for rate in used)


@pytest.mark.parametrize("options", [{"n_cycles": 0, "cycle_mult": 2}, {"n_cycles": 2, "cycle_mult": 0}])
def test_warm_restarts_refuse_less_than_one(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0; set"):
        rates(warm_restarts, 10, final_fraction=0.01, **options)


def test_cyclic_fills_the_run_with_triangles_each_half_as_high() -> None:
    used = rates(cyclic, 100, n_cycles=5, base_lr=1e-6, max_lr=7e-4)
    up_and_down = [*range(11), *range(9, 0, -1)]  # tenths of the height, 20 steps a cycle
    expected = [1e-6 + 6.99e-4 * 0.5**cycle * tenth / 10 for cycle in range(5) for tenth in up_and_down]
    assert used == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("total_steps", [1, 2, 7, 53])
@pytest.mark.parametrize("n_cycles", [1, 5])
def test_cyclic_goes_through_runs_of_any_length_and_leaves_the_momentum_alone(total_steps: int, n_cycles: int) -> None:
    used = rates(cyclic, total_steps, n_cycles=n_cycles, base_lr=1e-6, max_lr=7e-4)
    assert all(1e-6 <= rate <= 7e-4 for rate in used)
    assert total_steps == 1 or max(used) == pytest.approx(7e-4, rel=0.05)
    adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], betas=(0.95, 0.99))
    schedule = cyclic(adam, total_steps, n_cycles=n_cycles, base_lr=1e-6, max_lr=7e-4)
    adam.step()
    schedule.step()
    assert adam.param_groups[0]["betas"] == (0.95, 0.99)


def test_the_state_of_cyclic_is_plain_data_and_goes_on_where_it_was(tmp_path: Path) -> None:
    def fresh() -> tuple[torch.optim.Optimizer, LRScheduler]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
        return optimizer, cyclic(optimizer, 40, n_cycles=2, base_lr=1e-6, max_lr=7e-4)

    optimizer, schedule = fresh()
    for _ in range(13):
        optimizer.step()
        schedule.step()
    torch.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed_optimizer, resumed = fresh()
    resumed_optimizer.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["schedule"])
    for _ in range(20):
        for one, stepped in ((optimizer, schedule), (resumed_optimizer, resumed)):
            one.step()
            stepped.step()
        assert schedule.get_last_lr() == resumed.get_last_lr()


@pytest.mark.parametrize(
    ("option", "message"),
    [({"n_cycles": 0}, "n_cycles must be at least 1, got 0; set"), ({"base_lr": 1e-2}, "got base_lr=0.01 and max_lr=")],
)
def test_cyclic_refuses_options_out_of_range(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rates(cyclic, 10, **{"n_cycles": 5, "base_lr": 1e-6, "max_lr": 7e-4, **option})


plateau = partial(Plateau, monitor="val/score", mode="max", factor=0.5, patience=1, threshold=1e-4, final_fraction=0.2)


@pytest.mark.parametrize(("mode", "sign"), [("max", 1.0), ("min", -1.0)])
def test_plateau_lowers_the_rate_when_the_metric_no_longer_improves(mode: str, sign: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = plateau(optimizer, total_steps=1, mode=mode)
    used = []
    # Negative values too: an improvement is a difference, not a ratio.
    for score in (-2.0, -1.0, -1.0, -1.0 + 1e-5, -0.5, -0.5, -0.5, -0.5, -0.5, -0.5, -0.5):
        schedule.step(sign * score)
        used.append(optimizer.param_groups[0]["lr"] / PEAK)
    assert used == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2])


@pytest.mark.parametrize("option", [{"factor": 1.5}, {"factor": 0.0}, {"patience": -1}, {"mode": "up"}])
def test_plateau_refuses_options_out_of_range(option: dict[str, Any]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    (name,) = option
    with pytest.raises(ValueError, match=f"{name} must .* got .*; set"):
        plateau(optimizer, total_steps=1, **option)


class Flat(DataModule):
    """Eight samples for training and validation: two batches an epoch."""

    def __init__(self) -> None:
        super().__init__(batch_size=4, num_workers=0, seed=0, limit_train=None)

    def load_splits(self) -> dict[str, TensorSplit]:
        x, y = torch.zeros(8, 3), torch.zeros(8, dtype=torch.long)
        return {name: TensorSplit(x=x, y=y) for name in ("train", "val", "test")}


class Scripted(Task):
    """Logs scores told beforehand, one a validation, and writes down the rate of every training step."""

    target = "classes"
    scores = (0.1, 0.2, 0.2, 0.2, 0.3, 0.3)

    def make_metrics(self) -> None:
        self.n_validations = 0
        self.used: list[float] = []

    def loss_and_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = self.model(batch["x"])
        return self.loss(logits, batch["y"]), logits

    def update_metrics(self, stage: str, batch: Batch, logits: Tensor) -> None:
        self.log("val/score", self.scores[self.n_validations], on_epoch=True, batch_size=len(batch["x"]))

    def on_validation_epoch_end(self) -> None:
        self.n_validations += 1

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.used.append(self.optimizers().param_groups[0]["lr"] / PEAK)


def scripted_rates(schedule: Callable[..., LRScheduler], max_epochs: int, **options: Any) -> list[float]:
    """Share of the peak rate in each step of a run of two steps an epoch."""
    sgd = partial(torch.optim.SGD, lr=PEAK)
    task = Scripted(Spec((3,), "classes", 2), nn.Linear(3, 2), nn.CrossEntropyLoss(), sgd, schedule, None)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    pl.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        **quiet,
        **options,
    ).fit(task, Flat())
    return task.used


def test_a_task_steps_plateau_with_its_metric_once_an_epoch() -> None:
    # 0.2 is borne once, then lowers the rate; 0.3 improves.
    used = scripted_rates(plateau, max_epochs=6)
    assert used == pytest.approx([1] * 8 + [0.5] * 4)


def test_epochs_without_validation_do_not_count_as_a_plateau() -> None:
    used = scripted_rates(plateau, max_epochs=12, check_val_every_n_epoch=2)
    assert used == pytest.approx([1] * 16 + [0.5] * 8)


def test_a_task_steps_other_schedules_once_a_batch() -> None:
    used = scripted_rates(partial(cosine, warmup_fraction=0.0, final_fraction=0.0), max_epochs=2)
    assert used == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)])


def test_a_plateau_on_an_unknown_metric_stops_the_run_and_names_those_there_are() -> None:
    with pytest.raises(MisconfigurationException, match=r"val/nonsense.*not available.*val/score"):
        scripted_rates(partial(plateau, monitor="val/nonsense"), max_epochs=2)


@pytest.mark.parametrize("schedule", [one_cycle, cosine])
def test_a_run_of_one_step_has_a_positive_finite_rate(schedule: Callable[..., LRScheduler]) -> None:
    (rate,) = rates(schedule, 1, warmup_fraction=0.2, final_fraction=1e-3)
    assert 0 < rate <= PEAK


@pytest.mark.parametrize("total_steps", range(1, 12))
def test_one_cycle_goes_through_the_shortest_runs(total_steps: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = one_cycle(optimizer, total_steps, warmup_fraction=0.2, final_fraction=1e-3)
    rates = []
    for _ in range(total_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(rates) < total_steps else None
    assert all(0 < rate <= 1 for rate in rates)
    assert total_steps < 4 or max(rates) > 0.5


@pytest.mark.parametrize("schedule", [one_cycle, cosine])
@pytest.mark.parametrize(("warmup", "final"), [(2.0, 0.1), (-0.1, 0.1), (0.1, 1.5), (0.1, -1.0)])
def test_shares_that_no_run_has_are_refused(schedule: object, warmup: float, final: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match=f"warmup_fraction={warmup} and final_fraction={final}"):
        schedule(optimizer, 100, warmup_fraction=warmup, final_fraction=final)
