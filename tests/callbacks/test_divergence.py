from __future__ import annotations

import re
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from toy_run import N_BATCHES, ToyTask, run_toy

from cvkan.errors import DivergedError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::UserWarning:torch")


class Diverging(ToyTask):
    """Something goes wrong in batch 2 of epoch 1."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.kept: dict[str, torch.Tensor] = {}

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        if (self.current_epoch, batch_idx) != (1, 2):
            return loss
        self.kept = {name: value.clone() for name, value in self.named_parameters()}
        if self.kind == "nan":
            return loss * float("nan")
        if self.kind == "gradient":  # sqrt has an infinite slope at 0
            return loss + (self.net[4].bias * 0).sqrt().sum()
        if self.kind == "large":
            return loss + 1e25 * self.net[4].bias.sum()
        return loss

    def loss(self, batch):
        if self.kind == "layer" and self.training and self.current_epoch == 1:
            self.net[1].weight.data[0] = float("inf")
        return super().loss(batch)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("nan", r"step 8 \(epoch 1, batch 2\): the loss is nan, gradients first in parameter net\.4\.bias"),
        (
            "gradient",
            r"step 8 \(epoch 1, batch 2\): a gradient is not finite, first in parameter net\.4\.bias",
        ),
        ("layer", r"step 6 \(epoch 1, batch 0\): the loss is nan, first in layer net\.1 \(BatchNorm1d\)"),
    ],
)
def test_error_names_step_layer_and_checkpoint(kind: str, what: str, tmp_path: Path) -> None:
    task = Diverging(kind)
    with pytest.raises(DivergedError, match=what) as error:
        run_toy(tmp_path, task=task)
    assert f"the last good checkpoint is {tmp_path / 'checkpoints/last.ckpt'}" in str(error.value)
    assert "Lower optimizer.lr" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    for name, value in task.kept.items():  # the step was not taken
        assert torch.equal(dict(task.named_parameters())[name], value)


def test_batch_with_a_nan_is_named(tmp_path: Path) -> None:
    class Dirt(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            batch["x"][0, 0] = float("nan")

    with pytest.raises(DivergedError, match=r"step 0 .*the batch itself holds.*there is no checkpoint yet"):
        run_toy(tmp_path, extra=[Dirt()])


def test_large_finite_gradients_are_no_divergence(tmp_path: Path) -> None:
    trainer = run_toy(tmp_path, task=Diverging("large"))  # their squares overflow float32
    assert trainer.global_step == 4 * N_BATCHES


def test_validation_loss_counts(tmp_path: Path) -> None:
    class BadValidation(ToyTask):
        def validation_step(self, batch, batch_idx):
            self.log("val/loss", float("inf") if self.current_epoch == 1 else 0.5)

    with pytest.raises(DivergedError, match=re.escape("val/loss is inf; the last good checkpoint")):
        run_toy(tmp_path, task=BadValidation())


class Overflowing(ToyTask):
    """Gradients overflow in the steps of ``bad``; what the scaler does with them is noted."""

    def __init__(self, bad: range, loss: float = 0.0) -> None:
        super().__init__()
        self.bad, self.added = bad, loss
        self.scales: list[float] = []

    def training_step(self, batch, batch_idx):
        self.scales.append(self.trainer.precision_plugin.scaler.get_scale())
        loss = super().training_step(batch, batch_idx)
        if self.trainer.global_step not in self.bad:
            return loss
        self.before = {name: value.clone() for name, value in self.named_parameters()}
        return loss + self.added + (self.net[4].bias * 0).sqrt().sum()  # an infinite slope at 0


def float16() -> MixedPrecision:
    return MixedPrecision("16-mixed", "cpu")


def half_run(path: Path, task: pl.LightningModule) -> pl.Trainer:
    """As the command does it, see ``keep_precision``."""

    class Float16(pl.Callback):
        def setup(self, trainer, pl_module, stage):
            trainer.strategy.precision_plugin = float16()

    return run_toy(path, task=task, extra=[Float16()])


def test_scaler_skips_overflowing_steps_and_the_run_goes_on(tmp_path: Path) -> None:
    task = Overflowing(range(3, 8))
    trainer = half_run(tmp_path, task)
    assert trainer.global_step == 4 * N_BATCHES
    assert task.scales == [2.0**16] * 4 + [2.0**15, 2.0**14, 2.0**13, 2.0**12] + [2.0**11] * (4 * N_BATCHES - 8)
    assert all(parameter.isfinite().all() for parameter in task.parameters())


def test_gradients_that_overflow_at_any_scale_end_the_run_after_17_steps(tmp_path: Path) -> None:
    task = Overflowing(range(2, 1000))
    with pytest.raises(DivergedError, match=r"step 18 .*a gradient is not finite at a loss scale of 1, first in"):
        half_run(tmp_path, task)
    for name, value in task.before.items():
        assert torch.equal(dict(task.named_parameters())[name], value), name


def test_bad_loss_ends_a_scaled_run_at_once(tmp_path: Path) -> None:
    task = Overflowing(range(5, 6), loss=float("inf"))
    with pytest.raises(DivergedError, match=r"batch 5\): the loss is inf"):
        half_run(tmp_path, task)
    for name, value in task.before.items():  # the scaler has skipped the step
        assert torch.equal(dict(task.named_parameters())[name], value), name
