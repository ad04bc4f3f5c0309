from __future__ import annotations

import re
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from toy_run import N_BATCHES, ToyTask, run_toy

from cvkan.callbacks.divergence import Divergence
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


def test_scaler_skips_infinite_gradients_but_not_a_bad_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trainer:
        precision_plugin = torch.nn.Identity()
        global_step, current_epoch = 5, 0

    task = ToyTask()
    callback = Divergence(Path("absent"))
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
    for parameter in task.parameters():
        parameter.grad = torch.full_like(parameter, float("inf"))
    with pytest.raises(DivergedError):
        callback.on_before_optimizer_step(Trainer(), task, optimizer)
    monkeypatch.setattr("cvkan.callbacks.divergence._has_scaler", lambda trainer: True)
    callback.on_before_optimizer_step(Trainer(), task, optimizer)
    batch = {"x": torch.zeros(8, 5), "y": torch.zeros(8, dtype=torch.long)}
    callback.on_train_batch_start(Trainer(), task, batch, 0)
    with pytest.raises(DivergedError, match="the loss is inf"):
        callback.on_train_batch_end(Trainer(), task, {"loss": torch.tensor(float("inf"))}, batch, 0)
