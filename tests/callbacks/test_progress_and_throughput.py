from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import RichProgressBar
from toy_run import N_BATCHES, ToyTask, run_toy

from cvkan.callbacks.progress import EpochLines, _duration, progress_callback
from cvkan.callbacks.throughput import Throughput

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::UserWarning:torch")


def test_bar_for_a_terminal_and_lines_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal, expected in ((True, RichProgressBar), (False, EpochLines)):
        monkeypatch.setattr("sys.stdout.isatty", lambda is_terminal=is_terminal: is_terminal)
        assert type(progress_callback()) is expected


def test_one_line_an_epoch_with_metrics_and_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cvkan.callbacks.progress"):
        run_toy(tmp_path, extra=[EpochLines()], max_epochs=2)
    lines = [record.message for record in caplog.records if record.name == "cvkan.callbacks.progress"]
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2  ")
    for part in ("train/loss 0.", "val/loss 0.", " s", "eta "):
        assert part in lines[0]
    assert "eta" not in lines[1]


@pytest.mark.parametrize(("seconds", "text"), [(4.4, "4 s"), (120, "2 min"), (9000, "2.5 h")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert _duration(seconds) == text


def test_throughput_counts_training_samples_and_leaves_validation_out(tmp_path: Path) -> None:
    class SlowValidation(ToyTask):
        def validation_step(self, batch, batch_idx):
            time.sleep(0.1)
            super().validation_step(batch, batch_idx)

    measured = Throughput()
    run_toy(tmp_path, task=SlowValidation(), extra=[measured], max_epochs=1)
    figures = measured.figures()
    assert measured.samples == N_BATCHES * 8
    assert measured.fit_seconds - measured.training_seconds >= 0.2  # two validation batches
    assert figures["samples_per_second"] == pytest.approx(measured.samples / measured.training_seconds, abs=0.01)
    assert 50e6 < figures["peak_memory_bytes"] < 8e9
    assert json.dumps(figures)
    assert Throughput().figures()["samples_per_second"] is None


def test_a_resumed_run_counts_the_time_of_its_first_part_and_an_ended_one_keeps_its_speed() -> None:
    earlier = {"fit_seconds": 7.5, "samples_per_second": 100.0, "peak_memory_bytes": 5}
    assert Throughput(earlier).figures() == earlier
    resumed = Throughput(earlier)
    resumed.fit_seconds, resumed.training_seconds, resumed.samples, resumed.peak_memory_bytes = 2.0, 1.0, 50, 9
    assert resumed.figures() == {"fit_seconds": 9.5, "samples_per_second": 50.0, "peak_memory_bytes": 9}
