"""The moving average of the weights: what was validated is what is tested, and training goes on from its own."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cvkan.callbacks.weight_averaging import WeightAverage

ROWS = DataLoader(torch.arange(8.0).unsqueeze(1), batch_size=2)  # type: ignore[arg-type]


class Walk(pl.LightningModule):
    """One weight that rises by 1 a step; a validation or test logs it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.steps: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.steps.append(float(self.weight.detach()))
        return -self.weight

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/weight", self.weight)

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("test/weight", self.weight)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def trainer(epochs: int) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    average = WeightAverage(decay=0.5)
    return pl.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=[average], enable_model_summary=False, num_sanity_val_steps=0,
        **quiet,
    )  # fmt: skip


@pytest.fixture
def walked(tmp_path: Path) -> tuple[pl.Trainer, Walk, Path]:
    """A fit of one epoch and its checkpoint, written as training ended: the callback still has its average."""
    subject, walk, path = trainer(1), Walk(), tmp_path / "end.ckpt"

    class Save(pl.Callback):
        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            trainer.save_checkpoint(path)

    subject.callbacks.insert(0, Save())  # type: ignore[attr-defined]
    subject.fit(walk, ROWS, ROWS)
    return subject, walk, path


def test_the_tested_weights_are_the_validated_ones(walked: tuple[pl.Trainer, Walk, Path]) -> None:
    subject, _, path = walked
    validated = float(subject.callback_metrics["val/weight"])
    assert 0 < validated < 4  # the average lags behind the weight
    (tested,) = subject.test(Walk(), ROWS, ckpt_path=path, weights_only=True, verbose=False)
    assert tested["test/weight"] == validated


def test_training_goes_on_from_the_weights_and_not_from_their_average(walked: tuple[pl.Trainer, Walk, Path]) -> None:
    _, _, path = walked
    again, walk = trainer(2), Walk()
    again.fit(walk, ROWS, ROWS, ckpt_path=path, weights_only=True)
    assert walk.steps == [4.0, 5.0, 6.0, 7.0]
