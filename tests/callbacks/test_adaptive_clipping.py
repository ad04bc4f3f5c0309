"""Adaptive clipping: when the limit moves, that the trainer clips by it, and that a resumed run does the same."""

from __future__ import annotations

import csv
import signal
from pathlib import Path
from typing import ClassVar

import lightning.pytorch as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_resume import assert_same_weights, history
from toy_run import SignalAt, ToyTask, run_toy

from cvkan.callbacks.adaptive_clipping import AdaptiveClipping
from cvkan.errors import Interrupted, UserError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::UserWarning:torch")
DEFAULTS = {"window": 4, "grow_above": 0.5, "shrink_below": 0.25, "factor": 1.5, "lowest": 0.1, "highest": 50.0}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def clipping(**options: float) -> AdaptiveClipping:
    return AdaptiveClipping(**{**DEFAULTS, **options})


def limits(norms: list[float], start: float = 1.0, **options: float) -> list[float]:
    """The trainer's limit after each step of these gradient norms."""
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, gradient_clip_val=start)
    module = ToyTask()
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer, callback = torch.optim.SGD([weight]), clipping(**options)
    callback.on_train_start(trainer, module)
    found = []
    for norm in norms:
        weight.grad = torch.tensor([norm])
        callback.on_before_optimizer_step(trainer, module, optimizer)
        found.append(trainer.gradient_clip_val)
    return found


def by_hand(norms: list[float], start: float, window: int) -> list[float]:
    """The rule in plain Python."""
    limit, found = min(max(start, 0.1), 50.0), []
    for k in range(len(norms)):
        if (k + 1) % window == 0:
            seen = [norm for norm in norms[k + 1 - window : k + 1] if norm < float("inf")]
            if sum(norm > limit for norm in seen) > 0.5 * len(seen):
                limit = min(limit * 1.5, 50.0)
            elif seen and max(seen) < 0.25 * limit:
                limit = max(limit / 1.5, 0.1)
        found.append(limit)
    return found


@given(
    st.lists(st.one_of(st.integers(0, 1000).map(lambda k: 0.0937 * k), st.just(float("inf"))), max_size=60),
    st.floats(0.01, 100),
    st.integers(1, 7),
)
def test_the_limit_follows_the_rule_within_its_bounds(norms: list[float], start: float, window: int) -> None:
    found = limits(norms, start, window=window)
    assert found == pytest.approx(by_hand(norms, start, window))
    assert all(0.1 <= limit <= 50 for limit in found)


def test_it_grows_where_most_steps_are_clipped_and_shrinks_where_none_comes_near() -> None:
    assert limits([2.0] * 4)[-1] == pytest.approx(1.5)
    assert limits([2.0] * 2 + [0.9] * 2)[-1] == 1.0  # half of them is not most
    assert limits([0.2] * 4)[-1] == pytest.approx(1 / 1.5)
    assert limits([0.2] * 3 + [0.3])[-1] == 1.0  # one came nearer than a quarter
    assert limits([1e3] * 100)[-1] == 50
    assert limits([0.0] * 100)[-1] == 0.1
    assert limits([float("nan")] * 8)[-1] == 1.0  # skipped steps tell nothing


def test_the_trainer_clips_by_the_limit_of_the_moment(tmp_path: Path) -> None:
    class Large(ToyTask):
        """Every step is clipped."""

        def loss(self, batch):
            return 1e3 * super().loss(batch)

    class Keep(pl.Callback):
        """Limit and norm after every step, as the optimizer saw them."""

        steps: ClassVar[list[tuple[float, float]]] = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            norm = torch.nn.utils.get_total_norm([p.grad for p in pl_module.parameters()])
            self.steps.append((trainer.gradient_clip_val, float(norm)))

    trainer = run_toy(tmp_path, task=Large(), extra=[clipping(), Keep()], gradient_clip_val=0.02)
    found, norms = zip(*Keep.steps, strict=True)
    assert found[:3] == (0.1,) * 3  # the start is raised to the lowest limit
    assert found[-1] == pytest.approx(0.1 * 1.5**6)
    assert norms == pytest.approx(found, rel=1e-3)
    with open(tmp_path / "metrics.csv") as file:
        logged = [float(row["gradients/clip_limit"]) for row in csv.DictReader(file) if row["gradients/clip_limit"]]
    assert len(logged) == 4
    assert logged[-1] == pytest.approx(trainer.gradient_clip_val)


def test_interrupted_and_resumed_run_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    options = {"gradient_clip_val": 0.3, "max_epochs": 4}
    whole = run_toy(tmp_path / "whole", extra=[clipping()], **options)
    with pytest.raises(Interrupted) as stopped:
        run_toy(tmp_path / "halves", extra=[clipping(), SignalAt(signal.SIGTERM, 1, 2)], **options)
    resumed = run_toy(tmp_path / "halves", stopped.value.last_checkpoint, extra=[clipping()], **options)
    assert whole.gradient_clip_val != 0.3  # it has moved, or nothing was tested
    assert resumed.gradient_clip_val == whole.gradient_clip_val
    assert_same_weights(resumed, whole)
    assert history(tmp_path / "halves") == history(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must be at least 1 .*, got 0 and 0.5; set window=50"),
        ({"grow_above": 1.0}, "grow_above from 0 to below 1"),
        ({"factor": 1.0}, "factor must be above 1"),
        ({"shrink_below": 0.7}, "shrink_below between 0 and 1 / factor, got 1.5 and 0.7; set"),
        ({"lowest": 0.0}, "needed: 0 < lowest <= highest, got 0.0 and 50.0; set"),
        ({"lowest": 60.0}, "got 60.0 and 50.0"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clipping(**options)


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        ({}, "needs a limit to start from"),
        ({"gradient_clip_val": 0.0}, "needs a limit to start from"),
        ({"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"}, "is of the norm"),
    ],
)
def test_a_trainer_that_clips_otherwise_is_refused(trainer: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run_toy(tmp_path, extra=[clipping()], **trainer)
