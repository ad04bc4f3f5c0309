"""The scripts beside the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts/summarize_runs.py"


def summarize(*folders: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *folders], capture_output=True, text=True, timeout=60)


def test_runs_are_summarized_by_mean_and_sample_deviation(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.8, 0.9, 1.0)):
        run = tmp_path / "sweep" / str(seed)
        run.mkdir(parents=True)
        (run / "metrics.json").write_text(json.dumps({"test/accuracy": accuracy, "per_layer": [accuracy, 0.5]}))
    ended = summarize(tmp_path / "sweep")
    assert ended.returncode == 0
    assert "| sweep | 3 | 0.9000 ± 0.1000, 0.5000 ± 0.0000 | 0.9000 ± 0.1000 |" in ended.stdout


def test_folder_without_runs_is_named(tmp_path: Path) -> None:
    ended = summarize(tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: no metrics.json below")
