from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweeps import make_job, make_run

from cvkan.sweeping.processes import is_alive, process_name
from cvkan.sweeping.progress import TAIL_BYTES, read_progress
from cvkan.sweeping.records import read_record, read_records


@pytest.fixture
def ended_process() -> str:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(process.pid)
    assert is_alive(name)
    process.communicate(b"\n")
    return name


@pytest.mark.parametrize(
    ("code", "status"), [(0, "completed"), (1, "failed"), (2, "refused"), (3, "diverged"), (130, "interrupted")]
)
def test_exit_code_tells_the_status(tmp_path: Path, code: int, status: str) -> None:
    assert make_job(tmp_path, "0", exit_code=code).status(tmp_path) == status


def test_job_without_a_last_word_is_running_or_killed(tmp_path: Path, ended_process: str) -> None:
    assert make_job(tmp_path, "0", exit_code=None).status(tmp_path) == "running"
    killed = make_job(tmp_path, "1", exit_code=None, process=ended_process)
    assert killed.status(tmp_path) == "killed"
    make_run(tmp_path / "1", killed.config_hash, "completed")  # it was drawing pictures
    assert killed.status(tmp_path) == "completed"
    make_run(tmp_path / "1", "of an earlier job in this folder", "completed")
    assert killed.status(tmp_path) == "killed"


def test_number_of_a_process_that_is_gone_may_be_used_again(ended_process: str) -> None:
    host, _, start = ended_process.rsplit(":", 2)
    assert not is_alive(ended_process)
    assert is_alive(process_name(os.getpid()))
    assert not is_alive(f"{host}:{os.getpid()}:{start}")
    assert is_alive(f"another-machine:{os.getpid()}:{start}")  # nothing is known of it


def test_records_come_back_in_the_order_of_the_jobs(tmp_path: Path) -> None:
    made = [make_job(tmp_path, name, f"seed={name}") for name in ("10", "2", "2_0a1b", "pooling=mean,seed=1")]
    assert [record.folder for record in read_records(tmp_path)] == ["2", "2_0a1b", "10", "pooling=mean,seed=1"]
    assert [read_record(tmp_path, record.folder) for record in made] == made
    assert read_record(tmp_path, "3") is None


def test_progress_is_the_last_whole_row_with_the_metric(tmp_path: Path) -> None:
    assert read_progress(tmp_path, "val/accuracy") == (0, None)
    rows = "".join(f"{step},{step // 10},,{step}\n" for step in range(20_000))
    text = f"step,epoch,val/accuracy,train/loss\n0,0,0.25,\n{rows}9,1,0.5,\n10,2,,0.1\n11,2,0.7"
    assert len(text) > 2 * TAIL_BYTES
    (tmp_path / "metrics.csv").write_text(text)
    assert read_progress(tmp_path, "val/accuracy") == (2, 0.5)
    assert read_progress(tmp_path, "val/loss") == (0, None)
    assert read_progress(tmp_path, None) == (0, None)
