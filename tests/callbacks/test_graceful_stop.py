from __future__ import annotations

import os
import signal
from pathlib import Path

import lightning.pytorch as pl
import pytest
from toy_run import N_BATCHES, SignalAt, ToyTask, run_toy

from cvkan.atomic import atomic_file
from cvkan.callbacks.checkpoint import RunCheckpoint
from cvkan.callbacks.graceful_stop import GracefulStop
from cvkan.checkpointing import read_checkpoint
from cvkan.errors import Interrupted
from cvkan.run_directory import RunDirectory

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::UserWarning:torch")


class SignalIn(pl.Callback):
    """Send SIGTERM in one hook."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))


@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_writes_last_and_carries_the_exit_code(signum: int, exit_code: int, tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted) as stopped:
        run_toy(tmp_path, extra=[SignalAt(signum, 0, 1)])
    assert stopped.value.exit_code == exit_code
    checkpoint = read_checkpoint(stopped.value.last_checkpoint)
    assert checkpoint["global_step"] == 2
    assert checkpoint["cvkan"]["domain"] == "toy"
    assert checkpoint["cvkan"]["config"] == {"seed": 3, "list": [1, 2.5, None, "a"]}
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_second_signal_stops_at_once_and_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    task = ToyTask()
    with pytest.raises(Interrupted) as stopped:
        run_toy(tmp_path, task=task, extra=[SignalAt(signal.SIGINT, 1, 2, times=2)])
    assert stopped.value.exit_code == 130
    assert read_checkpoint(tmp_path / "checkpoints/last.ckpt")["global_step"] == N_BATCHES
    assert len(task.seen) == N_BATCHES + 3


def test_signal_during_validation_lets_it_finish(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run_toy(tmp_path, extra=[SignalAt(signal.SIGTERM, 1)])
    checkpoint = read_checkpoint(tmp_path / "checkpoints/last.ckpt")
    assert checkpoint["global_step"] == checkpoint["epoch"] * N_BATCHES == 2 * N_BATCHES
    assert (tmp_path / "metrics.csv").read_text().count("val/loss") == 1


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_train_start", "on_sanity_check_start"])
def test_signal_before_the_first_batch_stops_at_once(hook: str, tmp_path: Path) -> None:
    task = ToyTask()
    with pytest.raises(Interrupted) as stopped:
        run_toy(tmp_path, task=task, extra=[SignalIn(hook)], num_sanity_val_steps=1)
    assert (stopped.value.exit_code, stopped.value.last_checkpoint, task.seen) == (143, None, [])


def test_signal_during_the_test_stops_with_the_finished_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as stopped:
        run_toy(tmp_path, extra=[SignalIn("on_test_batch_start")], test=True, max_epochs=1)
    assert read_checkpoint(stopped.value.last_checkpoint)["global_step"] == N_BATCHES


def test_signal_in_an_idle_block_interrupts(tmp_path: Path) -> None:
    stop = GracefulStop(RunCheckpoint(RunDirectory(tmp_path), "val/loss", "min", "toy", {}))
    with pytest.raises(Interrupted), stop.listening():
        os.kill(os.getpid(), signal.SIGTERM)


def test_error_caused_by_the_signal_counts_as_the_interruption(tmp_path: Path) -> None:
    class Broken(ToyTask):
        def training_step(self, batch, batch_idx):
            if batch_idx == 3:
                os.kill(os.getpid(), signal.SIGTERM)
                raise RuntimeError("DataLoader worker exited unexpectedly")
            return super().training_step(batch, batch_idx)

    with pytest.raises(Interrupted):
        run_toy(tmp_path, task=Broken())


def test_interrupt_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_file(path) as file:
            file.write(b"ne")
            raise Interrupted(signal.SIGINT)

    with pytest.raises(Interrupted):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_weight_averaging_must_come_after_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = RunCheckpoint(RunDirectory(tmp_path), "val/loss", "min", "toy", {})
    averaging = pl.callbacks.EMAWeightAveraging()
    trainer = pl.Trainer(callbacks=[averaging, checkpoint], accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="before the weight averaging"):
        checkpoint.setup(trainer, ToyTask(), "fit")
