"""What a run directory says about its trial, in all the ways a run can end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cvkan.hpo import studies
from cvkan.hpo.results import ERROR, FOLDER, Result, read, tell
from cvkan.sweeping.processes import process_name
from cvkan.sweeping.records import Record

MONITOR = "val/accuracy"


def job(sweep: Path, exit_code: int, error: str | None) -> None:
    """The sweep's record of job 0."""
    facts: dict[str, Any] = {"folder": "0", "overrides": [], "config_hash": None, "monitor": MONITOR, "mode": "max"}
    record = Record(**facts, max_epochs=1, first_epoch=0, process=process_name(1), started=0.0)
    (sweep / ".jobs").mkdir()
    record.end(exit_code, error).write(sweep)


def written(folder: Path, run: dict[str, Any], metrics: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.mark.parametrize(
    ("run", "metrics", "expected"),
    [
        ({"status": "completed"}, {"best/val/accuracy": 0.75, "test/accuracy": 0.5}, ("COMPLETE", 0.75, None)),
        (
            {"status": "completed", "pruned": "after epoch 1"},
            {"best/val/accuracy": 0.5},
            ("PRUNED", None, "after epoch 1"),
        ),
        ({"status": "completed"}, {"best/val/accuracy": None}, ("FAIL", None, "val/accuracy was never a number")),
        ({"status": "interrupted"}, {}, (None, None, None)),
        ({"status": "running"}, {}, (None, None, None)),
    ],
)
def test_by_its_status(tmp_path: Path, run: dict[str, Any], metrics: dict[str, Any], expected: tuple) -> None:
    folder = written(tmp_path / "0", run, metrics)
    assert read(tmp_path, folder, MONITOR) == Result(folder, *expected)


@pytest.mark.parametrize(("exit_code", "state"), [(3, "PRUNED"), (1, "FAIL"), (2, "FAIL")])
def test_a_diverged_trial_is_one_without_hope_and_others_have_failed(
    tmp_path: Path, exit_code: int, state: str
) -> None:
    folder = written(tmp_path / "0", {"status": "failed", "error": "it says why"}, {})
    job(tmp_path, exit_code, "it says why")
    assert read(tmp_path, folder, MONITOR) == Result(folder, state, None, "it says why")


def test_a_refused_job_has_no_run(tmp_path: Path) -> None:
    job(tmp_path, 2, "no such size")
    assert read(tmp_path, tmp_path / "0", MONITOR).error == "no such size"


def test_results_arrive_in_the_study(tmp_path: Path) -> None:
    study = studies.create(tmp_path, "max", {"name": "RandomSampler"}, {"name": "NopPruner"})
    results = [
        Result(tmp_path / "0", "COMPLETE", 0.5),
        Result(tmp_path / "1", "FAIL", error="no such size"),
        Result(tmp_path / "2", "PRUNED", error="behind"),
    ]
    for result in results:
        tell(study, study.ask().number, result)
    trials = studies.create(tmp_path, "max", {"name": "RandomSampler"}, {"name": "NopPruner"}).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "PRUNED"]
    assert trials[0].value == 0.5
    assert trials[1].user_attrs == {FOLDER: str(tmp_path / "1"), ERROR: "no such size"}
