from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
import yaml

from cvkan.errors import UserError
from cvkan.run_directory import RECORD_KEYS, RunDirectory, device_name, versions


def test_json_has_no_nan_and_takes_tensors_and_paths(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    content = {
        "test/loss": float("nan"),
        "per_snr": [{"eta": float("-inf"), "count": torch.tensor(3)}],
        "path": Path("a/b"),
        "pair": (1, None),
        "vector": torch.tensor([1.5, float("inf")]),
    }
    run.write_json("metrics.json", content)
    expected = {
        "test/loss": None,
        "per_snr": [{"eta": None, "count": 3}],
        "path": "a/b",
        "pair": [1, None],
        "vector": [1.5, None],
    }
    assert json.loads(run.metrics_json.read_text()) == expected


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_json("metrics.json", {"a": 1})
    with pytest.raises(TypeError):
        run.write_json("metrics.json", {"a": object()})
    assert json.loads(run.metrics_json.read_text()) == {"a": 1}


def test_record_runs_then_finishes(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    (run.checkpoints / ".last.ckpt.77.tmp").touch()  # of a process that was killed
    run.start({"seed": 0, "device": device_name(torch.device("cpu"))})
    record = json.loads(run.run_json.read_text())
    assert set(RECORD_KEYS) <= set(record)
    assert (record["status"], record["seed"], record["error"]) == ("running", 0, None)
    assert record["torch_version"] == torch.__version__
    assert list(run.checkpoints.iterdir()) == []
    run.finish("failed", "it broke", {"fit_seconds": 1.5})
    record = json.loads(run.run_json.read_text())
    assert (record["status"], record["error"], record["fit_seconds"], record["seed"]) == (
        "failed",
        "it broke",
        1.5,
        0,
    )


def test_config_is_plain_yaml(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    config = {
        "seed": 0,
        "model": {"_target_": "cvkan.models.cvkan.CVKAN", "pooling": None, "sizes": [1, 2.5]},
    }
    run.write_config(config)
    assert yaml.safe_load(run.config.read_text()) == config


def test_a_file_in_the_way_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match=r"run directory .*output_dir"):
        RunDirectory(tmp_path / "run")


def test_versions_do_not_need_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PATH", "")
    found = versions()
    assert found["git_commit"] is None
    assert found["cvkan_version"]
