from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf
from sweeps import make_job

from cvkan.cli import resolvers
from cvkan.errors import UserError
from cvkan.sweeping import resuming
from cvkan.sweeping.identity import config_hash
from cvkan.sweeping.processes import process_name
from cvkan.sweeping.records import jobs_folder, write_plan


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    task = ["domain=synthetic", "seed=0,1", "sweep.resume=an/earlier/one"]
    hydra = {
        "overrides": {"task": task, "hydra": ["hydra.sweep.dir=x", "hydra.mode=MULTIRUN", "hydra/launcher=joblib"]},
        "runtime": {"config_sources": [{"provider": "main", "path": "cvkan.conf"}]},
        "job": {"config_name": "train"},
    }
    OmegaConf.save(OmegaConf.create({"hydra": hydra}), tmp_path / "multirun.yaml")
    return tmp_path


def test_folder_alone_means_the_same_sweep(sweep: Path) -> None:
    typed = [f"sweep.resume={sweep}"]
    whole = ["-m", *typed, "domain=synthetic", "seed=0,1", "hydra.mode=MULTIRUN", "hydra/launcher=joblib"]
    assert resuming.with_sweep(typed) == whole
    assert resuming.with_sweep(["-m", *typed]) == whole


def test_launcher_may_be_another(sweep: Path) -> None:
    typed = ["-m", f"sweep.resume={sweep}", "hydra/launcher=basic"]
    assert resuming.with_sweep(typed) == [*typed, "domain=synthetic", "seed=0,1"]


def test_what_is_typed_is_the_sweep(sweep: Path) -> None:
    typed = ["-m", f"sweep.resume={sweep}", "domain=synthetic", "seed=0,1,2"]
    assert resuming.with_sweep(typed) == typed
    assert resuming.with_sweep(["seed=1"]) == ["seed=1"]


def test_a_new_sweep_does_not_write_over_another(sweep: Path) -> None:
    typed = ["-m", "seed=0,1", f"hydra.sweep.dir={sweep}"]
    assert resuming.with_sweep(typed) == typed  # nothing has run there
    make_job(sweep, "0", "seed=0")
    with pytest.raises(UserError, match=f"holds a sweep.*sweep.resume={sweep}"):
        resuming.with_sweep(typed)


def test_own_config_folder_is_taken_again(sweep: Path) -> None:
    earlier = OmegaConf.load(sweep / "multirun.yaml")
    earlier.hydra.runtime.config_sources.append({"provider": "command-line", "path": "/my/conf"})
    OmegaConf.save(earlier, sweep / "multirun.yaml")
    assert resuming.with_sweep([f"sweep.resume={sweep}"])[:3] == ["-m", "--config-dir", "/my/conf"]
    typed = resuming.with_sweep(["--config-dir", "/other", f"sweep.resume={sweep}"])
    assert "/my/conf" not in typed


def test_what_is_no_sweep_or_still_runs_is_refused(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no folder of a sweep"):
        resuming.with_sweep([f"sweep.resume={sweep / 'x'}"])
    with pytest.raises(UserError, match="own folder"):
        resuming.with_sweep([f"sweep.resume={sweep}", "hydra.sweep.dir=elsewhere"])
    jobs_folder(sweep).mkdir()
    write_plan(sweep, process_name(os.getpid()), [])
    with pytest.raises(UserError, match=f"still running .process {os.getpid()}"):
        resuming.with_sweep([f"sweep.resume={sweep}"])
    shutil.rmtree(jobs_folder(sweep))
    monkeypatch.setattr(resuming, "PATIENCE_SECONDS", 0.1)
    make_job(sweep, "3", exit_code=None)
    with pytest.raises(UserError, match="job 3 of"):
        resuming.with_sweep([f"sweep.resume={sweep}"])


def test_job_that_is_about_to_end_is_waited_for(sweep: Path) -> None:
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
    make_job(sweep, "3", exit_code=None, process=process_name(orphan.pid))
    resuming.refuse_running(sweep)
    assert orphan.wait() == 0


def job(seed: int) -> DictConfig:
    return compose("train", overrides=["domain=synthetic", f"seed={seed}"])


def test_job_of_a_longer_grid_keeps_the_folder_it_had(tmp_path: Path) -> None:
    for number, seed in enumerate((5, 6)):
        make_job(tmp_path, str(number), config_hash=config_hash(job(seed)))
    resume = str(tmp_path)
    assert resuming.job_folder(3, None, job(5)) == "3"
    assert resuming.job_folder(0, resume, job(5)) == "0"
    assert resuming.job_folder(2, resume, job(6)) == "1"  # found under its old number
    assert resuming.job_folder(4, resume, job(7)) == "4"
    own = f"1_{config_hash(job(7))[:8]}"
    assert resuming.job_folder(1, resume, job(7)) == own  # another job has its number
    make_job(tmp_path, own, config_hash=config_hash(job(7)))
    assert resuming.job_folder(9, resume, job(7)) == own


def test_job_whose_config_has_no_value_has_its_number(tmp_path: Path) -> None:
    broken = job(0)
    broken.optimizer.lr = "${no.such.key}"
    assert resuming.job_folder(2, str(tmp_path), broken) == "2"
