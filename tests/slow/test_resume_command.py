"""``cvkan-train`` killed outright in mid-run goes on to the very same weights, in every domain."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import COMMAND

from cvkan.checkpointing import read_checkpoint

DOMAINS = {
    "image": ("data.limit_train=256", "trainer.max_epochs=3"),
    "audio": ("data.n_train=256", "data.n_val=64", "data.n_test=64", "trainer.max_epochs=3"),
    "poetry": (
        "model=recurrent",
        "model.d_hidden=24",
        "model.cell=gru",
        "data.limit_train=192",
        "trainer.max_epochs=3",
    ),
    "synthetic": ("data.n_train=512", "data.n_val=64", "data.n_test=64", "trainer.max_epochs=3"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("domain", "output_dir"), [("image", None), ("audio", None), ("poetry", None), ("synthetic", "elsewhere")]
)
def test_killed_run_resumes_bit_for_bit(
    train_here: Callable, tmp_path: Path, domain: str, output_dir: str | None
) -> None:
    arguments = (f"domain={domain}", *DOMAINS[domain], "data.batch_size=32")
    last = tmp_path / "killed/checkpoints/last.ckpt"
    process = subprocess.Popen([str(COMMAND), *arguments, "output_dir=killed"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # some batches into the second epoch
    process.kill()
    assert process.wait() == -9
    at = read_checkpoint(last)
    assert 0 < at["epoch"] + 1 < 3
    assert '"running"' in (tmp_path / "killed/run.json").read_text()

    elsewhere = () if output_dir is None else (f"output_dir={output_dir}",)
    resumed = train_here(*arguments, f"ckpt={last}", *elsewhere)
    assert resumed.code == 0, resumed.err
    whole = train_here(*arguments, "output_dir=whole")
    assert whole.code == 0, whole.err

    ran_in = tmp_path / (output_dir or "killed")
    expected, got = (read_checkpoint(run / "checkpoints/last.ckpt") for run in (tmp_path / "whole", ran_in))
    assert got["global_step"] == expected["global_step"] > at["global_step"]
    assert got["state_dict"].keys() == expected["state_dict"].keys()
    for name, value in expected["state_dict"].items():
        assert torch.equal(got["state_dict"][name], value), name
    for name in ("metrics.csv", "metrics.json"):
        assert (ran_in / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
