"""What a sweep that goes on finds in its folder, and sweeps that are refused as a whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from sweeps import make_job, make_run

from cvkan.errors import UserError
from cvkan.sweeping.processes import SHARING
from cvkan.sweeping.records import read_record
from cvkan.sweeping.refusal import check_processes, processes
from cvkan.sweeping.stock import Job, take_stock

SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"


def diverged_job(sweep: Path, folder: str, *overrides: str, identity: str) -> None:
    make_job(sweep, folder, *overrides, exit_code=3, config_hash=identity)
    make_run(sweep / folder, identity, "failed")


def is_outdated(sweep: Path, folder: str) -> bool:
    record = read_record(sweep, folder)
    assert record is not None
    return record.outdated


def test_same_overrides_with_another_config_are_outdated_until_it_is_back(tmp_path: Path) -> None:
    make_job(tmp_path, "0", "norm=none", "seed=0", config_hash="old")
    make_job(tmp_path, "1", "norm=none", "seed=1", config_hash="same")
    make_job(tmp_path, "2", "norm=none", "seed=2", config_hash="of a longer grid")
    make_job(tmp_path, "3", "norm=none", "seed=3", exit_code=2, config_hash=None)  # it could not be resolved
    changed = [Job([f"seed={seed}", "norm=none"], name) for seed, name in ((0, "new"), (1, "same"), (3, "other"))]

    (line, alone) = take_stock(tmp_path, changed)
    assert line.startswith("outdated: job 0, ")
    assert alone == "left alone: 1 completed"
    assert [is_outdated(tmp_path, folder) for folder in "0123"] == [True, False, False, False]
    assert take_stock(tmp_path, changed) == [alone]  # told once

    make_job(tmp_path, "0_new", "norm=none", "seed=0", config_hash="new")
    back = [Job(["norm=none", "seed=0"], "old"), Job(["norm=none", "seed=1"], None)]
    take_stock(tmp_path, back)
    assert [is_outdated(tmp_path, folder) for folder in ("0", "0_new", "1")] == [False, True, False]


def test_what_is_left_alone_is_told_and_how_to_run_it_again(tmp_path: Path) -> None:
    make_job(tmp_path, "0", "seed=0", config_hash="a")
    diverged_job(tmp_path, "1", "seed=1", identity="b")
    make_job(tmp_path, "2", "seed=2", exit_code=1, config_hash="c")  # it failed: it is run again
    jobs = [Job([f"seed={seed}"], identity) for seed, identity in enumerate("abc")]
    (line,) = take_stock(tmp_path, jobs)
    assert line.startswith("left alone: 1 completed, 1 diverged and would again (job 1; ")
    assert f"rm -r {tmp_path}/1," in line
    (line,) = take_stock(tmp_path, jobs[:2])
    assert line.startswith("nothing is left to run: 1 completed, 1 diverged")
    shutil.rmtree(tmp_path / "1")
    assert take_stock(tmp_path, jobs[:2]) == ["left alone: 1 completed"]


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"devices": 1, "accelerator": "auto"}, 1),
        ({"devices": 2, "accelerator": "cpu", "num_nodes": 3}, 6),
        ({"devices": "auto", "accelerator": "cpu"}, 1),
        ({"devices": [0, 2], "accelerator": "gpu"}, 2),
        ({"devices": "0,2,3", "accelerator": "gpu"}, 3),
        ({"devices": "4", "accelerator": "gpu"}, 4),
        ({"accelerator": "cpu"}, 1),
    ],
)
def test_processes_of_a_training_are_counted_by_its_config(settings: dict[str, object], count: int) -> None:
    assert processes(OmegaConf.create(settings)) == count


def test_jobs_that_share_a_process_may_not_train_in_several() -> None:
    one, two = (OmegaConf.create({"devices": devices, "accelerator": "cpu"}) for devices in (1, 2))
    for launcher in SHARING:
        check_processes(one, launcher)
        with pytest.raises(UserError, match="in 2 processes"):
            check_processes(two, launcher)
    check_processes(two, SLURM)
