"""One training in two processes of this machine (gloo): the same training as in one, and no process left behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import COMMAND

from cvkan.checkpointing import read_checkpoint

# No dropout and no augmentation: the processes draw each their own. No batch norm: its statistics are their own too.
TRAINING = (
    *("domain=image", "data.augment=null", "data.batch_size=32", "data.limit_train=250"),
    *("embedding=patch", "embedding.patch_size=2", "model.dropout=0.0", "trainer.max_epochs=3"),
)
RUNS = ("one", "two")
ROUNDING = 0.01  # of accuracies: a sample between two classes falls to either
TWO = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")


def rows(run: str) -> list[dict[str, float]]:
    """``metrics.csv`` as numbers."""
    with open(Path(run) / "metrics.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def weights(run: str | Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(Path(run) / "checkpoints/last.ckpt")["state_dict"]


def companion_of(process: subprocess.Popen) -> int:
    """The process that another one has started for the training."""
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
    (pid,) = listed.split()
    return int(pid)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def started(folder: Path, *arguments: str) -> tuple[subprocess.Popen, int]:
    """The command with two processes, some batches into its second epoch, and the second process."""
    process = subprocess.Popen(
        [str(COMMAND), *TRAINING, *TWO, *arguments, "output_dir=run"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (folder / "run/checkpoints/last.ckpt").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)
    return process, companion_of(process)


@pytest.mark.slow
def test_two_processes_train_as_one_does(train_here: Callable, tmp_path: Path) -> None:
    ended = train_here(*TRAINING, *TWO, "output_dir=two")
    assert ended.code == 0, ended.err
    assert not torch.distributed.is_initialized()
    assert ended.err == ""
    ended = train_here(*TRAINING, "output_dir=one")
    assert ended.code == 0, ended.err
    assert json.loads(Path("two/run.json").read_text())["processes"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    files = [sorted(str(p.relative_to(run)) for p in Path(run).rglob("*") if p.is_file()) for run in RUNS]
    assert files[0] == files[1]

    alike = [
        {name: value for name, value in row.items() if not name.startswith("polarization/")}  # of the first's own batch
        for row in rows("two")
    ]
    assert any("train/loss" in row for row in alike)
    assert any("test/loss" in row for row in alike)
    for got, expected in zip(alike, rows("one"), strict=True):
        assert got == pytest.approx({name: expected[name] for name in got}, rel=1e-4, abs=ROUNDING)
    one, two = weights("one"), weights("two")
    losses = [[value for row in rows(run) for name, value in row.items() if name.endswith("/loss")] for run in RUNS]
    assert losses[0] == pytest.approx(losses[1], rel=2e-4)
    off, size = (
        torch.cat([value.flatten() for value in values]).norm()
        for values in ([two[name] - value for name, value in one.items()], one.values())
    )
    assert off < 1e-3 * size  # an optimizer that divides by small gradients enlarges their rounding
    figures = [json.loads((Path(run) / "metrics.json").read_text()) for run in RUNS]
    assert figures[1] == pytest.approx(figures[0], rel=1e-4, abs=ROUNDING)
    for name in ("test/loss", "best/val/accuracy"):
        assert name in figures[1]


@pytest.mark.slow
def test_ctrl_c_ends_both_and_the_run_goes_on_bit_for_bit(train_here: Callable, tmp_path: Path) -> None:
    process, companion = started(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not is_running(companion)
    assert "go on with: cvkan-train ckpt=" in err
    assert "Traceback" not in err
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "interrupted"
    at = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"]
    assert 7 < at < 21

    resumed = train_here("ckpt=run/checkpoints/last.ckpt")
    assert resumed.code == 0, resumed.err
    whole = train_here(*TRAINING, *TWO, "output_dir=whole")
    assert whole.code == 0, whole.err
    assert Path("run/metrics.json").read_bytes() == Path("whole/metrics.json").read_bytes()
    validated = [[row for row in rows(run) if "val/loss" in row] for run in ("run", "whole")]
    assert validated[0] == validated[1]
    got, expected = weights("run"), weights("whole")
    for name, value in expected.items():
        assert torch.equal(got[name], value), name


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["first", "second"])
def test_no_process_outlives_the_other(tmp_path: Path, victim: str) -> None:
    process, companion = started(tmp_path, "trainer.max_epochs=50")
    os.kill(process.pid if victim == "first" else companion, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    deadline = time.monotonic() + 10
    while is_running(companion) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(companion)
    record = json.loads((tmp_path / "run/run.json").read_text())
    if victim == "first":
        assert (process.returncode, record["status"]) == (-9, "running")
    else:
        assert (process.returncode, record["status"]) == (1, "failed")
        assert "process 1 was ended by signal 9" in record["error"]
        assert "process 1 was ended by signal 9" in err


@pytest.mark.slow
def test_divergence_ends_both(train_here: Callable) -> None:
    ended = train_here(*TRAINING, *TWO, "output_dir=run", "optimizer.lr=1e30", "trainer.gradient_clip_val=null")
    assert ended.code == 3, ended.err
    assert ended.err.startswith("error: training diverged at step ")
    assert ended.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "fix"),
    [
        ("data.batch_size=33", "Set a multiple of 2."),
        ("trainer.strategy=ddp_spawn", "Set trainer=ddp."),
        ("trainer.num_nodes=2", "Start the command with srun or torchrun."),
        ("embedding=conv_stem", "Set trainer.sync_batchnorm=false."),
        ("data.limit_train=1", "Use fewer processes or more data."),
    ],
)
def test_what_cannot_be_shared_out_is_refused_in_one_line(train_here: Callable, choice: str, fix: str) -> None:
    kept = [
        item for item in TRAINING if not item.startswith("embedding") and item.split("=")[0] != choice.split("=")[0]
    ]
    patches = () if choice.startswith("embedding") else ("embedding=patch", "embedding.patch_size=2")
    ended = train_here(*kept, *patches, *TWO, choice, "output_dir=run")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("error: ")
    assert ended.err.rstrip().endswith(fix)
    assert not Path("run").exists()
