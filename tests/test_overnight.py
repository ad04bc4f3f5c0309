"""The benchmark of whole trainings: what is typed for a case, how nights compare, and a real night of two cases."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import initialize_config_module
from omegaconf import OmegaConf

from cvkan.benchmarks import overnight_table
from cvkan.benchmarks.overnight import OvernightSuite
from cvkan.benchmarks.overnight_table import Night, Result
from cvkan.errors import UserError

CONF = Path(__file__).parents[1] / "conf"
ROWS = "date,a,b\n" + "".join(f"2016-07-01 {hour:02}:00:00,{hour},1\n" for hour in range(24))
RESULT = Result("case", "completed", "test/accuracy", "max", 0.8, None, 100, 10.0, 50.0, 2**20, "cpu (x)", "")


@pytest.fixture
def composer() -> Iterator[None]:
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield


def suite(folder: Path, **changes: object) -> OvernightSuite:
    settings = {
        "budget": "small",
        "budgets": {"small": {"all": "trainer.max_epochs=1", "originals": "model.n_layers=2", "one": "data.hop=2"}},
        "seed": 3,
        "output_dir": str(folder),
        "reference": str(folder / "reference.json"),
        "root": str(folder / "data"),
        "cases": {
            "one": {"choices": "domain=image"},
            "forecast": {"choices": "experiment=etth1_dropout", "embedded": "data=series_synth", "original": 0.92},
        },
    }
    return OvernightSuite(**{**settings, **changes})  # type: ignore[arg-type]


def test_what_is_typed_for_a_case(tmp_path: Path, composer: None) -> None:
    night = suite(tmp_path)
    one, forecast = night.cases.values()
    assert night.typed("one", one) == (["domain=image", "seed=3", "trainer.max_epochs=1", "data.hop=2"], "")
    typed, note = night.typed("forecast", forecast)
    chosen = ["experiment=etth1_dropout", "data=series_synth", "seed=3"]
    assert typed == [*chosen, "trainer.max_epochs=1", "model.n_layers=2"]
    assert note == f"data=series_synth: etth1 is not in {tmp_path}/data"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/ETTh1.csv").write_text(ROWS)
    typed, note = night.typed("forecast", forecast)
    assert (typed[:2], note) == (["experiment=etth1_dropout", f"data.root={tmp_path}/data"], "")


def test_a_budget_names_cases_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="speaks of other"):
        suite(tmp_path, budgets={"small": {"all": "", "originals": "", "other": ""}})
    with pytest.raises(UserError, match="no budget 'huge'"):
        suite(tmp_path, budget="huge")


def test_cases_of_the_shipped_suite_compose(tmp_path: Path, composer: None) -> None:
    from hydra import compose

    shipped = OmegaConf.load(CONF / "suite/overnight.yaml")
    for budget in shipped.budgets:
        cases = OmegaConf.to_container(shipped.cases)
        budgets = OmegaConf.to_container(shipped.budgets)
        night = suite(tmp_path, budget=budget, budgets=budgets, cases=cases)
        for name, case in night.cases.items():
            typed, _ = night.typed(name, case)
            assert compose("train", overrides=typed).seed == 3


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "same"),
        ({"value": 0.81}, "alike"),
        ({"value": 0.9}, "better"),
        ({"value": 0.7}, "WORSE"),
        ({"fit_seconds": 25.0}, "SLOWER"),
        ({"value": 0.7, "fit_seconds": 25.0}, "WORSE SLOWER"),
        ({"fit_seconds": 0.1}, "same"),
        ({"fit_seconds": 25.0, "device": "another"}, "same"),
        ({"status": "failed", "value": None}, "FAILED"),
    ],
)
def test_verdicts(changes: dict[str, object], word: str) -> None:
    now = replace(RESULT, **changes)  # type: ignore[arg-type]
    assert overnight_table.verdict(now, RESULT) == word
    found = overnight_table.regressions(Night("small", [now]), {"case": RESULT})
    assert found == ([f"case: {word}"] if word.isupper() else [])


def test_times_of_short_fits_are_not_judged() -> None:
    short = replace(RESULT, fit_seconds=0.1)
    assert overnight_table.verdict(replace(short, fit_seconds=0.9), short) == "same"
    assert overnight_table.verdict(replace(short, fit_seconds=6.0), short) == "SLOWER"


def test_smaller_errors_are_better() -> None:
    error = replace(RESULT, metric="test/mse", mode="min", value=0.5)
    assert overnight_table.verdict(replace(error, value=0.4), error) == "better"
    assert overnight_table.verdict(replace(error, value=0.6), error) == "WORSE"
    (against_original,) = overnight_table.rows(replace(error, original=0.75), {})
    assert (against_original.against, against_original.ratio) == ("the original", 1.5)


def test_a_night_is_the_next_ones_reference(tmp_path: Path) -> None:
    assert overnight_table.read_night(tmp_path / "summary.json", "small") == {}
    overnight_table.write(Night("small", [RESULT]), {}, tmp_path)
    earlier = overnight_table.read_night(tmp_path / "summary.json", "small")
    assert earlier == {"case": RESULT}
    assert overnight_table.read_night(tmp_path / "summary.json", "cpu") == {}
    overnight_table.write(Night("small", [RESULT]), earlier, tmp_path)
    assert "No regression" in (tmp_path / "summary.md").read_text()
    assert "No regression" in (tmp_path / "summary.html").read_text()


@pytest.mark.slow
def test_two_nights_agree_and_a_case_that_fails_stops_nothing(tmp_path: Path) -> None:
    tiny = "data.n_train=64 data.n_val=32 data.n_test=32 trainer.max_epochs=1 domain=synthetic"
    mine = OmegaConf.load(CONF / "suite/overnight.yaml")
    mine.cases = {"good": {"choices": tiny}, "bad": {"choices": "domain=image optimizer.lr=soon"}}
    mine.budgets = {"smoke": {"all": "", "originals": ""}}
    (tmp_path / "mine/suite").mkdir(parents=True)
    OmegaConf.save(mine, tmp_path / "mine/suite/two.yaml")
    command = [sys.executable, "-m", "cvkan.cli.bench", "--config-dir", "mine", "suite=two", "output_dir=night"]

    def night() -> list[dict[str, str]]:
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr
        with open(tmp_path / "night/summary.csv") as file:
            return list(csv.DictReader(file))

    good, bad = night()
    assert (good["status"], good["metric"], good["verdict"]) == ("completed", "test/topk_recovery", "")
    assert float(good["value"]) > 0.5
    assert bad["status"] == "refused"
    assert bad["note"].startswith("error: optimizer.lr must be a number")
    (tmp_path / "night/summary.json").rename(tmp_path / "night/reference.json")
    again, bad_again = night()
    assert (again["value"], again["verdict"], bad_again["verdict"]) == (good["value"], "same", "")
    record = json.loads((tmp_path / "night/runs/smoke/good/run.json").read_text())
    assert record["status"] == "completed"
