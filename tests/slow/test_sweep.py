"""Sweeps through the real command: what fails, what is killed, what goes on."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import COMMAND, Result

from cvkan.errors import UserError

pytestmark = pytest.mark.slow
Train = Callable[..., Result]
TINY = ("domain=synthetic", "data.n_train=64", "data.n_val=16", "data.n_test=16", "trainer.max_epochs=2")
LONGER = ("domain=synthetic", "data.n_train=512", "data.n_val=16", "data.n_test=16", "trainer.max_epochs=5")
POOL = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def table(sweep: Path) -> list[dict[str, str]]:
    with open(sweep / "summary.csv", newline="") as file:
        return list(csv.DictReader(file))


def only_sweep(folder: Path) -> Path:
    (sweep,) = (folder / "multirun").iterdir()
    return sweep


def ended_jobs(folder: Path) -> int:
    records = [json.loads(path.read_text()) for path in folder.glob("multirun/*/.jobs/*.json")]
    return sum(record["exit_code"] is not None for record in records)


def wait_until(reached: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 240
    while not reached():
        assert time.monotonic() < deadline
        assert process.poll() is None, "the sweep has ended"
        time.sleep(0.02)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(COMMAND), *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def runs(sweep: Path) -> dict[str, int]:
    """Folder to the time at which its run.json was written last."""
    return {path.parent.name: path.stat().st_mtime_ns for path in sweep.glob("*/run.json")}


def test_impossible_learning_rate_is_reported_and_the_rest_completes(train_here: Train, tmp_path: Path) -> None:
    ended = train_here("-m", *TINY, "scheduler=constant", "optimizer.lr=1e-3,1e30", "seed=0,1,-1")

    assert ended.code == 3
    sweep = only_sweep(tmp_path)
    assert sorted(path.name for path in sweep.glob("summary.*")) == ["summary.csv", "summary.html", "summary.md"]
    rows = table(sweep)
    good, bad = rows[:3], rows[3:]
    assert [row["status"] for row in good] == ["completed", "completed", "refused"]
    assert [row["status"] for row in bad] == ["diverged", "diverged", "refused"]
    assert all(row["error"].startswith("training diverged at step") for row in bad[:2])
    assert [line.split(" ", 3)[:3] for line in ended.err.splitlines() if line.startswith("error: ")] == [
        ["error:", "job", number] for number in "2345"
    ]
    assert ended.out.count("completed  val/") == 2
    assert "epoch 1/2" not in ended.out  # goes to the jobs' own logs
    assert "epoch 1/2" in (sweep / "0/train.log").read_text()
    record = json.loads((sweep / "0/run.json").read_text())
    assert record["overrides"] == [*TINY, "scheduler=constant", "optimizer.lr=0.001", "seed=0"]

    # A diverged job would diverge again; the refused ones may have been mended since.
    before = runs(sweep)
    again = train_here(f"sweep.resume={sweep}")
    assert again.code == 3
    assert runs(sweep) == before
    assert table(sweep) == rows
    assert again.err.count("error: ") == 2
    assert again.out.startswith("left alone: 2 completed, 2 diverged and would again (jobs 3, 4; ")


def test_longer_grid_goes_on_with_what_is_there(train_here: Train, tmp_path: Path) -> None:
    assert train_here("-m", *TINY, "seed=0,1").code == 0
    sweep = only_sweep(tmp_path)
    before = runs(sweep)
    # pre_rms is the default: two of the four jobs are there, one of them under another number.
    ended = train_here("-m", f"sweep.resume={sweep}", *TINY, "seed=0,1", "norm=none,pre_rms")

    assert ended.code == 0, ended.err
    after = runs(sweep)
    assert {name: after[name] for name in before} == before
    assert len(after) == 4
    rows = table(sweep)
    assert {(row["seed"], row["norm"]) for row in rows} == {(s, n) for s in "01" for n in ("none", "pre_rms")}
    for row in rows:
        config = (sweep / row["job"] / "config.yaml").read_text()
        assert config.startswith(f"seed: {row['seed']}\n")
        assert ("resume: null" in config, str(sweep) in config) == (True, False)


def test_killed_sweep_of_twelve_goes_on(train_here: Train, tmp_path: Path) -> None:
    process = start(tmp_path, "-m", *TINY, *POOL, "seed=0,1,2", "optimizer.lr=1e-3,2e-3", "norm=none,pre_rms")
    wait_until(lambda: ended_jobs(tmp_path) >= 6, process)
    process.kill()
    process.communicate()
    sweep = only_sweep(tmp_path)
    before = {
        name: written
        for name, written in runs(sweep).items()
        if json.loads((sweep / name / "run.json").read_text())["status"] == "completed"
    }
    assert 6 <= len(before) < 12

    ended = train_here("-m", f"sweep.resume={sweep.relative_to(tmp_path)}")
    assert ended.code == 0, ended.err
    rows = table(sweep)
    assert len(rows) == 12
    assert {row["status"] for row in rows} == {"completed"}
    assert len({(row["seed"], row["optimizer.lr"], row["norm"]) for row in rows}) == 12
    after = runs(sweep)
    assert len(after) == 12
    assert {name: after[name] for name in before} == before
    # One that was killed amid its training went on.
    for name in after:
        assert re.findall(r"epoch (\d)/2", (sweep / name / "train.log").read_text()) == ["1", "2"], name


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_lets_the_jobs_of_a_pool_save_and_they_go_on(
    train_here: Train, tmp_path: Path, signum: signal.Signals
) -> None:
    process = start(tmp_path, "-m", *LONGER, *POOL, "seed=0,1,2,3")
    wait_until(lambda: len(list(tmp_path.glob("multirun/*/*/checkpoints/last.ckpt"))) == 2, process)
    process.send_signal(signum)
    out, err = process.communicate(timeout=120)

    assert process.returncode == 128 + signum, err
    sweep = only_sweep(tmp_path)
    assert "2 interrupted" in out
    assert "2 waiting" in out
    command = err.splitlines()[-1].rpartition(": ")[2]
    assert command == f"cvkan-train -m sweep.resume={sweep.relative_to(tmp_path)}"
    assert sorted(path.name for path in sweep.iterdir() if path.name.isdigit()) == ["0", "1"]

    assert train_here(*command.split()[1:], "hydra/launcher=basic").code == 0
    assert [row["status"] for row in table(sweep)] == ["completed"] * 4
    assert train_here(*LONGER, "seed=1", "output_dir=whole").code == 0
    assert (sweep / "1/metrics.json").read_bytes() == (tmp_path / "whole/metrics.json").read_bytes()


def test_signal_between_jobs_of_this_process_ends_with_a_summary(tmp_path: Path) -> None:
    process = start(tmp_path, "-m", *LONGER, "seed=0,1")
    wait_until(lambda: list(tmp_path.glob("multirun/*/.jobs/0.json")), process)  # it still loads torch
    os.kill(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=120)

    assert process.returncode == 143
    assert "1 interrupted, 1 waiting" in out
    assert [row["status"] for row in table(only_sweep(tmp_path))] == ["interrupted", "waiting"]


@pytest.mark.parametrize(("fails", "statuses"), [(True, ["interrupted", "waiting"]), (False, ["completed", "waiting"])])
def test_signal_that_a_job_has_lost_still_ends_the_sweep(
    train_here: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool, statuses: list[str]
) -> None:
    def deaf(*arguments: object, **options: object) -> None:
        with suppress(KeyboardInterrupt):  # as code in C does
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        if fails:
            raise UserError("half a config", "config", "See --help.")

    monkeypatch.setattr("cvkan.cli.overrides.check", deaf)
    ended = train_here("-m", *TINY, "seed=0,1")
    assert ended.code == 143
    assert [row["status"] for row in table(only_sweep(tmp_path))] == statuses


def test_sweep_that_is_refused_leaves_nothing(train_here: Train, tmp_path: Path) -> None:
    ended = train_here("-m", "sweep.resume=nowhere")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    ended = train_here("-m", *TINY, "norm=none,wrong")
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert not list(tmp_path.iterdir())
    ended = train_here("-m", *TINY, "seed=0,1,2", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("error: a training in 2 processes")
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_jobs_of_a_changed_config_are_outdated(train_here: Train, tmp_path: Path) -> None:
    mine = tmp_path / "conf/experiment/mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\nmodel: {dropout: 0.0}\n")
    assert train_here("-m", "--config-dir", "conf", *TINY, "experiment=mine").code == 0
    mine.write_text("# @package _global_\nmodel: {dropout: 0.5}\n")
    sweep = only_sweep(tmp_path)
    ended = train_here(f"sweep.resume={sweep}")
    assert ended.code == 0
    assert ended.out.startswith("outdated: job 0, ")
    assert "| 1 of 1 |" in (sweep / "summary.md").read_text()
    assert [row["status"] for row in table(sweep)] == ["outdated", "completed"]
