"""A real study: trials are jobs, hopeless ones are stopped, and a killed one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cvkan.hpo import studies

pytestmark = pytest.mark.slow

STUDY = (
    *("-m", "sweep=synthetic", "domain=synthetic", "domain.monitor=val/loss", "domain.mode=min"),
    *("data.n_train=64", "data.n_val=32", "data.n_test=32", "trainer.max_epochs=2", "model.n_layers=1"),
    *("aggregation=mean", "norm=pre_rms", "hydra.sweep.dir=study"),
    *("hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.pruner.n_warmup_steps=0"),
)


def record(job: Path) -> dict[str, Any]:
    return json.loads((job / "run.json").read_text())


def test_a_study_finds_a_best_trial_prunes_and_goes_on(train_here: Callable[..., Any], tmp_path: Path) -> None:
    # Of two rates one learns nothing; the first trials are drawn at random, so both occur among few.
    rates = "optimizer.lr=0.03,1e-09"
    ended = train_here(*STUDY, rates, "hydra.sweeper.n_trials=4")
    assert ended.code == 0, ended.err
    folder = tmp_path / "study"
    best = OmegaConf.load(folder / "best_trial.yaml")
    assert best.params["optimizer.lr"] == "0.03"
    assert "optimizer.lr=0.03" in best.overrides
    assert best.value == json.loads((folder / f"{best.trial}/metrics.json").read_text())["best/val/loss"]
    assert "repeat it: cvkan-train domain=synthetic" in ended.out
    study = studies.create(folder, "min", {"name": "RandomSampler"}, {"name": "NopPruner"})
    states = [trial.state.name for trial in study.trials]
    for trial in study.trials:
        run = record(folder / str(trial.number))
        assert run["status"] == "completed"
        assert ("pruned" in run) == (trial.state.name == "PRUNED")
        assert trial.intermediate_values.keys() <= {1, 2}
    pruned = [trial for trial in study.trials if trial.state.name == "PRUNED"]
    assert pruned
    assert {trial.params["optimizer.lr"] for trial in pruned} == {"1e-09"}
    assert all("after epoch" in record(folder / str(trial.number))["pruned"] for trial in pruned)

    # A killed launcher leaves a trial that is asked for and not told.
    killed = study.ask(study.trials[0].distributions)
    again = train_here("-m", "sweep.resume=study", "hydra.sweeper.n_trials=6")
    assert again.code == 0, again.err
    trials = studies.create(folder, "min", {"name": "RandomSampler"}, {"name": "NopPruner"}).trials
    assert [trial.state.name for trial in trials[:4]] == states
    assert [trial.number for trial in trials] == list(range(6))
    assert trials[killed.number].state.name in ("COMPLETE", "PRUNED")
    assert trials[killed.number].params == killed.params
    # Of the same config as an earlier trial, it is that run: nothing is trained twice.
    run = record(Path(trials[killed.number].user_attrs["folder"]))
    assert f"optimizer.lr={killed.params['optimizer.lr']}" in run["overrides"]


def test_what_is_wrong_is_refused_before_the_first_trial(train_here: Callable[..., Any], tmp_path: Path) -> None:
    for typed, message in (
        (["optimizer.lr=0.1", "model.n_layers=1"], "nothing to search"),
        (["pooling=mean,foo"], "pooling=foo does not exist"),
        (["optimizer.lr=interval(0.1,0.2)", "hydra.sweeper.n_trials=0"], "n_trials must be at least 1"),
        (["optimizer.lr=interval(0.1,0.2)", "hydra.sweeper.pruner.name=Median"], "no Median"),
    ):
        ended = train_here("-m", "sweep=optuna", "hydra.sweep.dir=wrong", *typed)
        assert ended.code == 2, ended.out
        assert message in ended.err
        assert not (tmp_path / "wrong/0").exists()
