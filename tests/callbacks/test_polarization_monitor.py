"""The monitor of polarization logs once a validation and leaves training as it is."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import pytest
import torch
from test_resume import assert_same_weights, history
from torch import Tensor, nn
from toy_run import SignalAt, ToyTask, run_toy

from cvkan.analysis.polarization import FIGURES, polarization
from cvkan.callbacks.polarization import PolarizationMonitor
from cvkan.core.backbone import LayerTrace
from cvkan.errors import Interrupted

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::UserWarning:torch")


class ComplexNet(nn.Module):
    """Five tokens of two channels, one gain a token and layer, dropout and batch norm."""

    grid = (5,)

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.ModuleList(nn.Linear(5, 5) for _ in range(2))
        self.norm, self.dropout, self.head = nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 2)
        self.samples_traced: list[int] = []

    def layers(self, x: Tensor) -> list[LayerTrace]:
        z = torch.stack([x, self.norm(x)], dim=-1)  # (B, 5, 2)
        found = []
        for gate in self.gates:
            gain = 2 * torch.sigmoid(gate(z[..., 0]))[..., None].expand_as(z)
            z = self.dropout(gain * z)
            found.append(LayerTrace((z, 1 + z), gain))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x)[-1].z[0].sum(dim=-1))

    def trace(self, x: Tensor, mask: Tensor | None = None) -> list[LayerTrace]:
        self.samples_traced.append(len(x))
        return self.layers(x)


class ComplexTask(ToyTask):
    """The toy task around a network that can be traced."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.model = self.net = ComplexNet()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def logged(path: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv that hold a figure of polarization, without the empty columns."""
    with open(path / "metrics.csv") as file:
        rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
    return [row for row in rows if any(name.startswith("polarization/") for name in row)]


def test_every_layer_is_logged_once_an_epoch_on_the_first_samples(tmp_path: Path) -> None:
    task = ComplexTask()
    trainer = run_toy(tmp_path, task=task, extra=[PolarizationMonitor(n_samples=6)])
    rows = logged(tmp_path)
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    names = {f"polarization/layer{layer}/{name}" for layer in (1, 2) for name in FIGURES}
    assert all(names | {"val/loss"} <= row.keys() for row in rows)
    assert task.net.samples_traced == [6] * 4
    x = trainer.datamodule.splits["val"].tensors["x"][:6]
    summary = polarization(task, x).summary()
    assert {name: float(rows[-1][name]) for name in names} == pytest.approx(
        {f"polarization/layer{row['layer']}/{name}": row[name] for row in summary for name in FIGURES}, abs=1e-6
    )


def test_training_is_the_same_with_and_without_it(tmp_path: Path) -> None:
    watched = run_toy(tmp_path / "watched", task=ComplexTask(), extra=[PolarizationMonitor(64)])
    alone = run_toy(tmp_path / "alone", task=ComplexTask())
    assert_same_weights(watched, alone)
    assert watched.callback_metrics["val/loss"] == alone.callback_metrics["val/loss"]


def test_interrupted_and_resumed_run_logs_what_the_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = run_toy(tmp_path / "whole", task=ComplexTask(), extra=[PolarizationMonitor(8)])
    extra = [PolarizationMonitor(8), SignalAt(signal.SIGTERM, 1, 2)]
    with pytest.raises(Interrupted) as stopped:
        run_toy(tmp_path / "halves", task=ComplexTask(), extra=extra)
    resumed = run_toy(
        tmp_path / "halves", stopped.value.last_checkpoint, task=ComplexTask(), extra=[PolarizationMonitor(8)]
    )
    assert_same_weights(resumed, whole)
    assert history(tmp_path / "halves") == history(tmp_path / "whole")
    assert len(logged(tmp_path / "halves")) == 4


def test_models_without_complex_tokens_are_passed_over(tmp_path: Path) -> None:
    run_toy(tmp_path, extra=[PolarizationMonitor(8)], max_epochs=1)
    assert logged(tmp_path) == []
    assert (tmp_path / "metrics.csv").exists()


def test_sanity_check_logs_nothing(tmp_path: Path) -> None:
    task = ComplexTask()
    run_toy(tmp_path, task=task, extra=[PolarizationMonitor(8)], max_epochs=1, num_sanity_val_steps=1)
    assert len(task.net.samples_traced) == len(logged(tmp_path)) == 1


def test_number_of_samples_must_be_positive() -> None:
    with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
        PolarizationMonitor(0)
