"""The wheel, installed elsewhere, works in an empty folder outside the repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command that must succeed."""
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_wheel_holds_everything_and_runs_in_an_empty_folder(tmp_path: Path) -> None:
    source, dist, site, empty = (tmp_path / name for name in ("source", "dist", "site", "empty"))
    source.mkdir()
    empty.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("cvkan", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", dist, cwd=source)
    (wheel,) = dist.iterdir()

    held = set(zipfile.ZipFile(wheel).namelist())
    yamls = {f"cvkan/conf/{path.relative_to(ROOT / 'conf')}" for path in (ROOT / "conf").rglob("*.yaml")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "cvkan").rglob("*.py")}
    assert yamls | modules | {"cvkan/conf/__init__.py", "cvkan/py.typed", "cvkan/templates/report.html.j2"} <= held
    assert not [name for name in held if name.startswith(("tests/", "conf/", "scripts/"))]

    # Beside this environment's other packages, but before its own cvkan.
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel, cwd=empty
    )
    found = run(sys.executable, "-c", "import cvkan; print(cvkan.__file__)", cwd=empty, PYTHONPATH=str(site))
    assert Path(found.strip()) == site / "cvkan/__init__.py"
    run(
        site / "bin/cvkan-train",
        *("domain=image", "trainer.max_epochs=1", "data.limit_train=128"),
        cwd=empty,
        PYTHONPATH=str(site),
    )
    (result,) = (empty / "outputs/image").iterdir()
    record = json.loads((result / "run.json").read_text())
    assert record["status"] == "completed"
    assert record["git_commit"] is None
    assert json.loads((result / "metrics.json").read_text())["test/accuracy"] >= 0
