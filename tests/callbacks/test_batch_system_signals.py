"""Warnings of a batch system: the run is saved first, then whoever has asked for the signal hands the job in again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_run import N_BATCHES, SignalAt, run_toy

from cvkan.callbacks.graceful_stop import signals
from cvkan.checkpointing import read_checkpoint
from cvkan.errors import Interrupted


@pytest.fixture
def requeue(tmp_path: Path) -> Iterator[list[int]]:
    """Steps that ``last.ckpt`` held each time that the handler of a batch system was called."""
    saved: list[int] = []

    def handler(signum: int, frame: object) -> None:
        saved.append(read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"])
        raise SystemExit(-1)

    previous = signal.signal(signal.SIGUSR2, handler)
    yield saved
    signal.signal(signal.SIGUSR2, previous)


def test_the_run_is_saved_before_the_job_is_handed_in_again(tmp_path: Path, requeue: list[int]) -> None:
    handler = signal.getsignal(signal.SIGUSR2)
    with pytest.raises(SystemExit):
        run_toy(tmp_path / "run", extra=[SignalAt(signal.SIGUSR2, epoch=1, batch=2)])
    assert requeue == [N_BATCHES + 3]
    assert signal.getsignal(signal.SIGUSR2) is handler


def test_a_warning_that_nobody_has_asked_for_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(Interrupted) as stop:
        run_toy(tmp_path / "run", extra=[SignalAt(signal.SIGUSR1, epoch=0, batch=1)])
    assert stop.value.exit_code == 128 + signal.SIGUSR1
    assert read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"] == 2


def test_a_slurm_job_of_submitit_waits_for_its_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert signal.SIGTERM in signals()
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    assert signal.SIGTERM in signals()
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert signal.SIGTERM not in signals()
    assert signal.SIGUSR2 in signals()
