"""The modulation task: its figures against scikit-learn, the limit it is held against, and the weights it trains."""

from __future__ import annotations

import io
from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, mean_absolute_error
from torch import Tensor, nn

from cvkan.domains.datamodule import DataModule, TensorSplit
from cvkan.losses import Fixed, Kendall, MultiTaskLoss
from cvkan.radio.bayes import BayesAccuracy
from cvkan.radio.bound import Bound
from cvkan.radio.likelihood import Setting
from cvkan.schedulers import constant
from cvkan.spec import Spec
from cvkan.tasks.modulation import ModulationTask

CLASSES, SNR_DB = ("16QAM", "8PSK", "BPSK"), (-10.0, 0.0, 10.0, 20.0)
N_CLASSES, N_LEVELS, N_SAMPLES = len(CLASSES), len(SNR_DB), 16
SPEC = Spec((N_SAMPLES,), "modulation_snr", N_CLASSES + N_LEVELS, CLASSES, is_complex=True, snr_db=SNR_DB)


def limit_by_hand() -> Bound:
    """A limit that is below twice the chance of the modulation, 1/3, at the lowest SNR."""
    columns = ((0.4, 0.8, 0.9, 1.0), (0.5, 0.9, 1.0, 1.0), (0.1, 0.7, 0.9, 1.0), (3.0, 2.0, 1.0, 0.0))
    tensors = (torch.tensor(column, dtype=torch.float64) for column in columns)
    blind = BayesAccuracy(CLASSES, SNR_DB, Setting(2, 8, "es_n0"), False, 100, *tensors)
    return Bound(known=blind, blind=blind, source="by hand")


LIMIT = limit_by_hand()


class Frames(DataModule):
    """Frames whose first samples hint at their labels; no test frame is at the highest SNR."""

    spec = SPEC

    def __init__(self) -> None:
        super().__init__(batch_size=32, num_workers=0, seed=0, limit_train=None)

    def load_splits(self) -> dict[str, TensorSplit]:
        draw = torch.Generator().manual_seed(0)
        splits = {}
        for name, n, n_levels in (("train", 96, N_LEVELS), ("val", 64, N_LEVELS), ("test", 80, N_LEVELS - 1)):
            modulation = torch.randint(N_CLASSES, (n,), generator=draw)
            level = torch.randint(n_levels, (n,), generator=draw)
            x = torch.randn(n, N_SAMPLES, dtype=torch.complex64, generator=draw)
            x[:, 0] += modulation
            x[:, 1] += level
            splits[name] = TensorSplit(x=x, y=torch.stack([modulation, level], dim=1), id=torch.arange(n))
        return splits


class BoundedFrames(Frames):
    snr_definition = "es_n0"

    def bound(self) -> Bound:
        return LIMIT


class Planes(nn.Module):
    """Logits linear in the two planes of a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2 * N_SAMPLES, SPEC.n_outputs)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.head(torch.view_as_real(x).flatten(1))  # (B, M + S)


def kendall() -> Kendall:
    losses = {"modulation": nn.CrossEntropyLoss(), "snr": nn.CrossEntropyLoss()}
    return Kendall(losses, min_weight=0.05, limit=2.0)


def make_task(loss: nn.Module | None = None, lr: float = 0.05, spec: Spec = SPEC) -> ModulationTask:
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=lr, weight_decay=0.1)
    return ModulationTask(spec, Planes(), loss or kendall(), adam, constant, None)


def make_trainer(**options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(accelerator="cpu", enable_model_summary=False, num_sanity_val_steps=0, **quiet, **options)


@pytest.fixture(scope="module")
def tested() -> tuple[ModulationTask, dict[str, float], BoundedFrames]:
    """A task after two epochs and its test, with the logged figures and the data."""
    task, data = make_task(), BoundedFrames()
    trainer = make_trainer(max_epochs=2)
    trainer.fit(task, data)
    (logged,) = trainer.test(task, data, verbose=False)
    return task, logged, data


def answers(task: ModulationTask, data: DataModule, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n, 2) and predictions (n, 2) of a split, without the task's counts."""
    tensors = data.splits[split].tensors
    with torch.no_grad():
        logits = task.model.eval()(tensors["x"]).numpy()
    found = np.stack([logits[:, :N_CLASSES].argmax(axis=1), logits[:, N_CLASSES:].argmax(axis=1)], axis=1)
    return tensors["y"].numpy(), found


def expected_figures(stage: str, true: np.ndarray, found: np.ndarray) -> dict[str, float]:
    levels = np.array(SNR_DB)
    return {
        f"{stage}/modulation_accuracy": accuracy_score(true[:, 0], found[:, 0]),
        f"{stage}/snr_accuracy": accuracy_score(true[:, 1], found[:, 1]),
        f"{stage}/combined_accuracy": (true == found).all(axis=1).mean(),
        f"{stage}/f1_macro": f1_score(true[:, 0], found[:, 0], average="macro"),
        f"{stage}/snr_mae_db": mean_absolute_error(levels[true[:, 1]], levels[found[:, 1]]),
    }


def test_logged_figures_are_those_of_scikit_learn(tested: Any) -> None:
    task, logged, data = tested
    true, found = answers(task, data, "test")
    assert {key: logged[key] for key in logged if key != "test/loss"} == pytest.approx(
        expected_figures("test", true, found), rel=1e-5
    )
    assert 0.4 < logged["test/modulation_accuracy"] < 1  # some of both kinds, or nothing was compared
    true, found = answers(task, data, "val")
    validated = task.scores(task.val_counts).figures("val")  # of the last epoch alone
    assert {name: float(value) for name, value in validated.items()} == pytest.approx(
        expected_figures("val", true, found), rel=1e-5
    )


def test_results_list_every_snr_and_class_and_the_confusions(tested: Any) -> None:
    task, _, data = tested
    true, found = answers(task, data, "test")
    results = task.results()
    assert [row["snr_db"] for row in results["per_snr"]] == list(SNR_DB)
    assert [row["count"] for row in results["per_snr"]] == np.bincount(true[:, 1], minlength=N_LEVELS).tolist()
    for level, row in enumerate(results["per_snr"][:-1]):
        right = (true == found)[true[:, 1] == level]
        assert row["modulation_accuracy"] == pytest.approx(right[:, 0].mean())
        assert row["snr_accuracy"] == pytest.approx(right[:, 1].mean())
        assert row["combined_accuracy"] == pytest.approx(right.all(axis=1).mean())
        assert row["modulation_bound"] == pytest.approx(LIMIT.blind.modulation[level].item())
    assert np.isnan(results["per_snr"][-1]["modulation_accuracy"])  # not tested
    f1 = f1_score(true[:, 0], found[:, 0], average=None)
    assert [row["class"] for row in results["per_class"]] == list(CLASSES)
    assert [row["f1"] for row in results["per_class"]] == pytest.approx(f1.tolist())
    np.testing.assert_array_equal(results["confusion_modulation"], confusion_matrix(true[:, 0], found[:, 0]))
    levels = confusion_matrix(true[:, 1], found[:, 1], labels=range(N_LEVELS))
    np.testing.assert_array_equal(results["confusion_snr"], levels)


def test_eta_is_the_share_of_the_possible_skill_over_the_tested_snrs(tested: Any) -> None:
    task, _, data = tested
    true, found = answers(task, data, "test")
    for key, limit, right, n_classes in (
        ("test/eta", LIMIT.blind.modulation, (true == found)[:, 0], N_CLASSES),
        ("test/eta_combined", LIMIT.blind.combined, (true == found).all(axis=1), N_CLASSES * N_LEVELS),
    ):
        skills = [
            (right[true[:, 1] == level].mean() - 1 / n_classes) / (limit[level].item() - 1 / n_classes)
            for level in range(N_LEVELS - 1)
            if limit[level] > 2 / n_classes
        ]
        assert len(skills) in (1, 2)  # some SNR is too noisy to count
        assert task.results()[key] == pytest.approx(np.mean(skills), rel=1e-5)


def test_data_without_a_known_limit_has_no_eta() -> None:
    task, trainer = make_task(), make_trainer(max_epochs=1)
    trainer.test(task, Frames(), verbose=False)
    results = task.results()
    assert results["test/eta"] is None
    assert results["test/eta_combined"] is None
    assert not any(key.endswith("_bound") for key in results["per_snr"][0])
    assert len(task.figures()["accuracy_over_snr"].axes[0].lines) == 3


def test_a_limit_at_chance_leaves_nothing_to_win() -> None:
    task = make_task()
    task.test_counts.update(torch.randn(6, SPEC.n_outputs), torch.zeros(6, 2, dtype=torch.long))  # at the lowest SNR
    task.bound = LIMIT
    assert task.results()["test/eta"] is None


def test_figures_are_drawn(tested: Any) -> None:
    task, *_ = tested
    figures = task.figures()
    assert figures.keys() == {"accuracy_over_snr", "confusion_modulation", "confusion_snr", "f1_per_class"}
    for figure in figures.values():
        figure.savefig(io.BytesIO(), format="png")
    drawn = figures["accuracy_over_snr"].axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, [row["modulation_accuracy"] for row in task.results()["per_snr"]])
    assert task.titles()[0].endswith(" dB")


def test_the_weights_of_the_loss_are_trained_without_decay_and_logged() -> None:
    task, trainer = make_task(), make_trainer(max_epochs=2)
    trainer.fit(task, Frames())
    logged = trainer.callback_metrics
    assert float(logged["train/weight_modulation"] + logged["train/weight_snr"]) == pytest.approx(1)
    assert float(logged["train/weight_modulation"]) != pytest.approx(0.5, abs=1e-4)
    groups = trainer.optimizers[0].param_groups
    (own,) = (group for group in groups if any(p is task.loss.log_variance for p in group["params"]))
    assert own["weight_decay"] == 0
    assert max(group["weight_decay"] for group in groups) == 0.1
    trained = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(trained) == sorted(id(parameter) for parameter in task.parameters())


def test_validation_starts_to_count_anew_each_epoch() -> None:
    task, trainer = make_task(lr=0.0), make_trainer(max_epochs=3)
    trainer.fit(task, Frames())
    assert int(task.scores(task.val_counts).count.sum()) == 64


def test_each_head_learns_from_its_own_columns() -> None:
    losses = {"snr": nn.CrossEntropyLoss(), "modulation": nn.CrossEntropyLoss()}  # the order is of no account
    task = make_task(Fixed(losses, {"modulation": 1.0, "snr": 0.0}))
    batch = {"x": torch.randn(8, N_SAMPLES, dtype=torch.complex64), "y": torch.randint(3, (8, 2))}
    loss, logits = task.loss_and_logits(batch)
    loss.backward()
    expected = nn.functional.cross_entropy(logits[:, :N_CLASSES], batch["y"][:, 0])
    torch.testing.assert_close(loss, expected)
    moved = task.model.head.bias.grad != 0
    assert moved.tolist() == [True] * N_CLASSES + [False] * N_LEVELS


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.CrossEntropyLoss(), "CrossEntropyLoss compares one pair of tensors; set loss=kendall"),
        (Fixed({"snr": nn.MSELoss()}, {"snr": 1.0}), r"Fixed compares \['snr'\]; set loss=kendall"),
        (
            Fixed({"modulation": nn.BCEWithLogitsLoss(), "snr": nn.CrossEntropyLoss()}, {"modulation": 1, "snr": 1}),
            "cannot compare logits .*; choose a loss",
        ),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(loss: MultiTaskLoss, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_task(loss)


def test_data_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="needs targets of kind 'modulation_snr', the data has 'classes'"):
        make_task(spec=Spec((N_SAMPLES,), "classes", 3, CLASSES))
