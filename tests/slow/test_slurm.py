"""A SLURM job that is warned, ends and is handed in again, played by its environment variables and a real signal."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from conftest import COMMAND, run_command

from cvkan.checkpointing import read_checkpoint

TRAINING = (
    *("domain=synthetic", "data.n_train=512", "data.n_val=64", "data.n_test=64", "data.batch_size=32"),
    *("trainer.max_epochs=3", "output_dir=run"),
)
JOB = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train"}


@pytest.mark.slow
def test_job_handed_in_again_goes_on_by_itself(tmp_path: Path) -> None:
    last = tmp_path / "run/checkpoints/last.ckpt"
    process = subprocess.Popen(
        [str(COMMAND), *TRAINING], cwd=tmp_path, env={**os.environ, **JOB}, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGUSR1, err
    at = read_checkpoint(last)["global_step"]
    assert 16 <= at < 48

    other = run_command(*TRAINING, cwd=tmp_path, **{**JOB, "SLURM_JOB_ID": "4712"})
    assert other.code == 2
    assert "holds a run" in other.err

    again = run_command(*TRAINING, cwd=tmp_path, **JOB, SLURM_RESTART_COUNT="1")
    assert again.code == 0, again.err
    assert "epoch 1/3" not in again.out
    whole = run_command(*TRAINING, "output_dir=whole", cwd=tmp_path)
    assert whole.code == 0, whole.err
    figures = [(tmp_path / run / "metrics.json").read_bytes() for run in ("run", "whole")]
    assert figures[0] == figures[1]
    got, expected = (read_checkpoint(tmp_path / run / "checkpoints/last.ckpt") for run in ("run", "whole"))
    assert got["global_step"] == expected["global_step"] > at
    for name, value in expected["state_dict"].items():
        assert torch.equal(got["state_dict"][name], value), name
