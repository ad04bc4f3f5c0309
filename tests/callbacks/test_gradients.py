"""The gradient monitor: its norms against autograd's, what it counts, and that it changes nothing."""

from __future__ import annotations

import csv
import logging
import signal
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from test_resume import assert_same_weights, history
from torch import nn
from toy_run import N_BATCHES, SignalAt, ToyTask, run_toy

from cvkan.callbacks.gradients import GradientMonitor, gradient_norms, parts_of
from cvkan.errors import Interrupted

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::UserWarning:torch")

LIMIT = 1.0  # of the clipping: about half of the toy's steps are above


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def monitor(vanishing: float = 1e-7, exploding: float = 100.0, depth: int = 4) -> GradientMonitor:
    return GradientMonitor(vanishing, exploding, depth)


class Keep(pl.Callback):
    """Copies of all gradients at every step, by epoch."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, dict[str, torch.Tensor]]] = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        found = {name: p.grad.clone() for name, p in pl_module.named_parameters()}
        self.kept.append((trainer.current_epoch, found))


def logged(path: Path) -> list[dict[str, float]]:
    """Figures of every epoch, by the name after ``gradients/``."""
    with open(path / "metrics.csv") as file:
        rows = [
            {name.partition("/")[2]: float(value) for name, value in row.items() if value and "gradients/" in name}
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if row]


def test_every_part_is_logged_once_an_epoch_as_its_mean_norm_before_clipping(tmp_path: Path) -> None:
    keep = Keep()
    run_toy(tmp_path, extra=[monitor(), keep], gradient_clip_val=LIMIT)
    rows = logged(tmp_path)
    assert len(rows) == 4
    for epoch, row in enumerate(rows):
        steps = [found for at, found in keep.kept if at == epoch]
        norms = {
            part: [
                sum(g.square().sum() for name, g in found.items() if name.startswith(part)) ** 0.5 for found in steps
            ]
            for part in ("net.0", "net.1", "net.4")
        }
        total = [sum(g.square().sum() for g in found.values()) ** 0.5 for found in steps]
        expected = {part: float(sum(values)) / N_BATCHES for part, values in norms.items()}
        expected |= {"norm": float(sum(total)) / N_BATCHES, "largest": float(max(total))}
        expected["clipped"] = sum(float(norm) > LIMIT for norm in total) / N_BATCHES
        assert row == pytest.approx({**expected, "vanishing": 0, "exploding": 0}, rel=1e-4)
    assert 0 < sum(row["clipped"] for row in rows) < 4  # some of both


def test_norms_out_of_bounds_are_counted_and_their_parts_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Dead(ToyTask):
        """The first layer gets no gradient, the last a large one."""

        def loss(self, batch):
            h = self.net[2](self.net[1](self.net[0](batch["x"]))).detach()
            return 1e4 * nn.functional.cross_entropy(self.net[4](h), batch["y"])

    with caplog.at_level(logging.WARNING, "cvkan.callbacks.gradients"):
        run_toy(tmp_path, task=Dead(), extra=[monitor()], max_epochs=2)
    for row in logged(tmp_path):
        assert row["net.0"] == row["net.1"] == 0  # no gradient at all, not even of zeros
        assert (row["vanishing"], row["exploding"]) == (2 * N_BATCHES, N_BATCHES)
        assert row["clipped"] == 0  # the trainer clips nothing
    assert [record.getMessage() for record in caplog.records] == [
        f"gradients of net.0 were below 1e-07 at {N_BATCHES} of {N_BATCHES} steps",
        f"gradients of net.1 were below 1e-07 at {N_BATCHES} of {N_BATCHES} steps",
        f"gradients of net.4 were above 100 at {N_BATCHES} of {N_BATCHES} steps",
    ]


def test_bounds_are_configurable(tmp_path: Path) -> None:
    run_toy(tmp_path, extra=[monitor(vanishing=50.0, exploding=60.0)], max_epochs=1)
    assert logged(tmp_path)[0]["vanishing"] == 3 * N_BATCHES


def test_skipped_steps_do_not_count() -> None:
    module = ToyTask()
    watch, trainer = monitor(), pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    watch.on_train_start(trainer, module)
    for scale in (1.0, torch.inf, 3.0, torch.nan):
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, scale)
        watch.on_before_optimizer_step(trainer, module, None)
    n = sum(parameter.numel() for parameter in module.parameters())
    state = watch.state_dict()
    assert float(state["steps"]) == 2
    assert float(state["norm"]) == pytest.approx(4 * n**0.5)
    assert float(state["largest"]) == pytest.approx(3 * n**0.5)
    assert state["parts"].isfinite().all()


def test_training_is_the_same_with_and_without_it(tmp_path: Path) -> None:
    watched = run_toy(tmp_path / "watched", extra=[monitor()], gradient_clip_val=0.5)
    assert_same_weights(watched, run_toy(tmp_path / "alone", gradient_clip_val=0.5))


def test_interrupted_and_resumed_run_logs_what_the_uninterrupted_one_does(tmp_path: Path) -> None:
    run_toy(tmp_path / "whole", extra=[monitor()])
    with pytest.raises(Interrupted) as stopped:
        run_toy(tmp_path / "halves", extra=[monitor(), SignalAt(signal.SIGTERM, 1, 2)])
    run_toy(tmp_path / "halves", stopped.value.last_checkpoint, extra=[monitor()])
    assert history(tmp_path / "halves") == history(tmp_path / "whole")
    assert len(logged(tmp_path / "whole")) == 4


def test_parts_are_cut_at_the_depth_and_leave_frozen_parameters_out() -> None:
    module = nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), "head": nn.Linear(2, 1)})
    module.scale = nn.Parameter(torch.ones(()))
    module["encoder"][1].weight.requires_grad_(False)
    assert {name: len(part) for name, part in parts_of(module, 2).items()} == {
        "scale": 1,
        "encoder.0": 2,
        "encoder.1": 1,
        "head": 2,
    }
    assert list(parts_of(module, 1)) == ["scale", "encoder", "head"]


def test_norms_are_taken_in_float32_where_gradients_are_half() -> None:
    parameter = nn.Parameter(torch.zeros(4, dtype=torch.bfloat16))
    parameter.grad = torch.full_like(parameter, 2.0)
    norms = gradient_norms([[parameter], [nn.Parameter(torch.zeros(1))]], torch.device("cpu"))
    assert norms.dtype == torch.float32
    assert norms.tolist() == [4.0, 0.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vanishing": -1.0}, "vanishing must be 0 or more and below exploding, got -1.0 and 100.0; set vanishing"),
        ({"vanishing": 200.0}, "below exploding, got 200.0 and 100.0"),
        ({"depth": 0}, "depth must be at least 1, got 0; set depth=5"),
    ],
)
def test_wrong_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        monitor(**options)
