"""One sweep through every launcher: the same figures, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import run_command

SWEEP = (
    *("-m", "domain=synthetic", "data.n_train=128", "data.n_val=32", "data.n_test=32", "data.batch_size=32"),
    *("trainer.max_epochs=1", "seed=0,1", "hydra.sweep.dir=sweep"),
)
LAUNCHERS = {
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("hydra/launcher=submitit_local",),
}
BLOCKER = "import sys\nsys.modules['hydra_plugins.hydra_joblib_launcher'] = None\n"


def metrics(folder: Path) -> dict[str, bytes]:
    return {name: (folder / "sweep" / name / "metrics.json").read_bytes() for name in ("0", "1")}


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the launcher gives that runs the jobs one after the other."""
    folder = tmp_path_factory.mktemp("basic")
    ended = run_command(*SWEEP, cwd=folder)
    assert ended.code == 0, ended.err
    return metrics(folder)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_gives_the_same_metrics(launcher: str, basic: dict[str, bytes], tmp_path: Path) -> None:
    ended = run_command(*SWEEP, *LAUNCHERS[launcher], cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert metrics(tmp_path) == basic
    assert basic["0"] != basic["1"]
    rows = (tmp_path / "sweep/summary.csv").read_text().splitlines()
    assert len(rows) == 3
    records = [json.loads((tmp_path / "sweep" / name / "run.json").read_text()) for name in ("0", "1")]
    assert [(record["seed"], record["status"]) for record in records] == [(0, "completed"), (1, "completed")]


@pytest.mark.slow
def test_launcher_without_its_extra_names_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    ended = run_command("-m", "hydra/launcher=joblib", "seed=0,1", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert ended.code == 2
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert "hydra/launcher=joblib" in line
    assert "cvkan[parallel]" in line
    assert "Traceback" not in ended.err
