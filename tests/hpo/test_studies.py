"""The study's file, its sampler and pruner, and what is told when Optuna is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution

from cvkan.errors import UserError
from cvkan.hpo import studies
from cvkan.hpo.driving import consecutive

RANDOM = {"name": "RandomSampler", "seed": 0}
MEDIAN = {"name": "MedianPruner", "n_startup_trials": 1, "n_warmup_steps": 0}
SPACE = {"x": FloatDistribution(0.0, 1.0)}


def test_a_reopened_study_goes_on_and_does_not_draw_the_same_again(tmp_path: Path) -> None:
    first = studies.create(tmp_path, "max", RANDOM, MEDIAN)
    drawn = [first.ask(SPACE) for _ in range(3)]
    for trial in drawn:
        first.tell(trial, trial.params["x"])
    second = studies.create(tmp_path, "max", RANDOM, MEDIAN)
    assert second.best_value == max(trial.params["x"] for trial in drawn)
    later = second.ask(SPACE)
    assert later.number == 3
    assert later.params["x"] not in [trial.params["x"] for trial in drawn]


@pytest.mark.parametrize(("mode", "hopeless"), [("max", 0.1), ("min", 0.9)])
def test_a_job_reports_to_the_study_of_its_folder_and_is_given_up(tmp_path: Path, mode: str, hopeless: float) -> None:
    study = studies.create(tmp_path, mode, RANDOM, MEDIAN)
    for value in (0.5, hopeless):
        number = study.ask(SPACE).number
        job = studies.trial_of_job(tmp_path, number, MEDIAN)  # opens the file anew, as another process does
        job.report(value, step=1)
        assert job.should_prune() == (value == hopeless)
        if value != hopeless:
            study.tell(number, value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "TPESampling"}, "no TPESampling .hydra.sweeper.sampler.name.. Closest known: TPESampler"),
        ({"name": "RandomSampler", "sead": 0}, "sead"),
    ],
)
def test_a_wrong_sampler_is_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        studies.create(tmp_path, "max", options, MEDIAN)


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'cvkan\[optuna\]'"):
        studies.load_optuna()


def test_jobs_of_one_launch_are_numbered_without_gaps() -> None:
    assert list(consecutive([2, 3, 5, 7, 8])) == [[2, 3], [5], [7, 8]]
    assert list(consecutive([])) == []
