"""A run killed outright, in a process of its own, goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cvkan.checkpointing import read_checkpoint

SCRIPT = Path(__file__).parents[1] / "callbacks" / "toy_run.py"


def toy(*arguments: object) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, timeout=120).returncode


@pytest.mark.slow
def test_run_killed_amid_an_epoch_resumes_bit_for_bit(tmp_path: Path) -> None:
    assert toy(tmp_path / "whole") == 0
    assert toy(tmp_path / "killed", "--kill", 2, 3) == -signal.SIGKILL
    last = tmp_path / "killed/checkpoints/last.ckpt"
    assert read_checkpoint(last)["epoch"] == 2  # two epochs are complete, half of the third is lost

    assert toy(tmp_path / "resumed", "--ckpt", last) == 0

    expected, got = (torch.load(tmp_path / name / "final.pt", weights_only=True) for name in ("whole", "resumed"))
    for name, value in expected.items():
        assert torch.equal(got[name], value), name
    histories = [(tmp_path / name / "metrics.csv").read_bytes() for name in ("whole", "resumed")]
    assert histories[0] == histories[1]
    best = [read_checkpoint(tmp_path / name / "checkpoints/best.ckpt") for name in ("whole", "resumed")]
    assert best[0]["global_step"] == best[1]["global_step"]
