"""A run that was interrupted and resumed is the run that was not interrupted, bit for bit."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor
from toy_run import N_BATCHES, SignalAt, ToyTask, run_toy

from cvkan.callbacks.weight_averaging import WeightAverage
from cvkan.checkpointing import read_checkpoint
from cvkan.errors import Interrupted
from cvkan.run_directory import RunDirectory

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::UserWarning:torch")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def interrupt(path: Path, signal_at: SignalAt, **options) -> Interrupted:
    extra = options.pop("extra", list)()
    task = options.pop("task", ToyTask)()
    with pytest.raises(Interrupted) as stopped:
        run_toy(path, extra=[*extra, signal_at], task=task, **options)
    return stopped.value


def final(path: Path, ckpt: Path | None = None, **options):
    extra = options.pop("extra", list)()
    task = options.pop("task", ToyTask)()
    return run_toy(path, ckpt, extra=extra, task=task, **options)


def assert_same_weights(trainer, reference) -> None:
    expected = reference.lightning_module.state_dict()
    for name, value in trainer.lightning_module.state_dict().items():
        assert torch.equal(value, expected[name]), name


def history(path: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv, without the epoch's mean: a half-resumed epoch sees only the rest of its steps."""
    with open(path / "metrics.csv") as file:
        return [{k: v for k, v in row.items() if k != "train/loss"} for row in csv.DictReader(file)]


CASES = {
    "mid-epoch": (SignalAt(signal.SIGTERM, 1, 2), {}),
    "first batch": (SignalAt(signal.SIGTERM, 0, 0), {}),
    "last batch of an epoch": (SignalAt(signal.SIGTERM, 1, N_BATCHES - 1), {}),
    "validation": (SignalAt(signal.SIGINT, 2), {}),
    "last validation": (SignalAt(signal.SIGTERM, 3), {}),
    "accumulated gradients": (SignalAt(signal.SIGTERM, 1, 2), {"accumulate_grad_batches": 2}),
    "loader processes": (SignalAt(signal.SIGTERM, 2, 2), {"num_workers": 2}),
    "averaged weights": (SignalAt(signal.SIGTERM, 1, 2), {"extra": lambda: [WeightAverage(decay=0.9)]}),
    "averaged weights, epoch end": (
        SignalAt(signal.SIGTERM, 1),
        {"extra": lambda: [WeightAverage(decay=0.9)]},
    ),
    "plateau scheduler": (SignalAt(signal.SIGTERM, 1), {"task": lambda: ToyTask("plateau")}),
    "max_steps, epoch end": (SignalAt(signal.SIGTERM, 1), {"max_steps": 3 * N_BATCHES + 2, "max_epochs": -1}),
    "max_steps, mid-epoch": (
        SignalAt(signal.SIGTERM, 1, 3),
        {"max_steps": 3 * N_BATCHES + 2, "max_epochs": -1},
    ),
    "validation amid the epoch": (SignalAt(signal.SIGTERM, 1, 2), {"val_check_interval": 0.5}),
    "limited batches": (SignalAt(signal.SIGTERM, 1), {"limit_train_batches": 4}),
    "early stopping": (
        SignalAt(signal.SIGTERM, 1),
        {"extra": lambda: [EarlyStopping("val/loss", min_delta=9.0)]},
    ),
    "learning rate monitor": (SignalAt(signal.SIGTERM, 1, 3), {"extra": lambda: [LearningRateMonitor()]}),
}


@pytest.mark.parametrize("case", CASES)
def test_interrupted_and_resumed_run_equals_the_uninterrupted_one(case: str, tmp_path: Path) -> None:
    signal_at, options = CASES[case]
    reference = final(tmp_path / "whole", **options)
    stopped = interrupt(tmp_path / "halves", signal_at, **options)
    assert stopped.exit_code == 128 + signal_at.signum
    assert stopped.last_checkpoint == RunDirectory(tmp_path / "halves").last

    resumed = final(tmp_path / "halves", stopped.last_checkpoint, **options)

    assert_same_weights(resumed, reference)
    assert resumed.global_step == reference.global_step
    assert resumed.current_epoch == reference.current_epoch
    assert history(tmp_path / "halves") == history(tmp_path / "whole")
    best = [read_checkpoint(RunDirectory(tmp_path / name).best) for name in ("whole", "halves")]
    assert best[0]["global_step"] == best[1]["global_step"]
    assert all(torch.equal(value, best[1]["state_dict"][name]) for name, value in best[0]["state_dict"].items())


def test_signal_stops_after_the_running_batch_and_the_rest_of_the_epoch_follows(tmp_path: Path) -> None:
    whole, first, second = ToyTask(), ToyTask(), ToyTask()
    run_toy(tmp_path / "whole", task=whole)
    with pytest.raises(Interrupted) as stopped:
        run_toy(tmp_path / "halves", task=first, extra=[SignalAt(signal.SIGTERM, 1, 2)])
    assert first.seen == whole.seen[: N_BATCHES + 3]
    run_toy(tmp_path / "new", stopped.value.last_checkpoint, task=second)
    assert second.seen == whole.seen[N_BATCHES + 3 :]


def test_resuming_in_a_new_directory_carries_history_and_best(tmp_path: Path) -> None:
    final(tmp_path / "whole")
    stopped = interrupt(tmp_path / "old", SignalAt(signal.SIGTERM, 2, 3))
    (tmp_path / "old").rename(tmp_path / "moved")
    old = RunDirectory(tmp_path / "moved")

    final(tmp_path / "new", old.last)

    assert history(tmp_path / "new") == history(tmp_path / "whole")
    scores = [
        read_checkpoint(RunDirectory(tmp_path / name).last)["callbacks"]["RunCheckpoint"]["best_score"]
        for name in ("whole", "new")
    ]
    assert scores[0] == scores[1]
    assert stopped.exit_code == 143


def test_rows_logged_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    final(tmp_path / "whole")
    final(tmp_path / "half", max_epochs=2, task=lambda: ToyTask("plateau"))
    with open(tmp_path / "half" / "metrics.csv", "a") as file:
        file.write("99,7,1.0\n12,2")  # a row of the future and one that a killed process left unfinished
    final(tmp_path / "half", tmp_path / "half/checkpoints/last.ckpt", task=lambda: ToyTask("plateau"))
    steps = [int(row["step"]) for row in history(tmp_path / "half")]
    assert steps == [int(row["step"]) for row in history(tmp_path / "whole")]


def test_resuming_a_run_that_stopped_early_adds_no_epoch(tmp_path: Path) -> None:
    def stopping():
        return [EarlyStopping("val/loss", min_delta=9.0, patience=1)]

    reference = final(tmp_path / "run", extra=stopping)
    resumed = final(tmp_path / "run", tmp_path / "run/checkpoints/last.ckpt", extra=stopping)
    assert resumed.global_step == reference.global_step == 2 * N_BATCHES
    assert_same_weights(resumed, reference)


def test_finished_run_goes_on_with_more_epochs(tmp_path: Path) -> None:
    def task():
        return ToyTask("plateau")  # its schedule does not depend on the number of epochs

    reference = final(tmp_path / "whole", task=task)
    final(tmp_path / "half", task=task, max_epochs=2)
    resumed = final(tmp_path / "half", tmp_path / "half/checkpoints/last.ckpt", task=task)
    assert_same_weights(resumed, reference)


def test_resuming_does_not_warn_about_the_loader(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    stopped = interrupt(tmp_path / "run", SignalAt(signal.SIGTERM, 1, 2))
    final(tmp_path / "run", stopped.last_checkpoint)
    assert not [w for w in recwarn if "not resumable" in str(w.message)]
