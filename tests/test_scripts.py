"""The scripts beside the package."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


class Ended(NamedTuple):
    """How a script ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls a script as ``python scripts/NAME.py ARGUMENTS`` does, but in this process."""

    def call(name: str, *arguments: str | Path) -> Ended:
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return call


def test_runs_are_summarized_by_mean_and_sample_deviation(run: Run, tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.8, 0.9, 1.0)):
        folder = tmp_path / "sweep" / str(seed)
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(
            json.dumps(
                {"test/accuracy": accuracy, "per_layer": [accuracy, 0.5], "per_snr": [{"snr_db": 0}], "kind": "es_n0"}
            )
        )
    ended = run("summarize_runs", tmp_path / "sweep")
    assert ended.returncode == 0
    assert "| sweep | 3 | 0.9000 ± 0.1000, 0.5000 ± 0.0000 | 0.9000 ± 0.1000 |" in ended.stdout


def test_folder_without_runs_is_named(run: Run, tmp_path: Path) -> None:
    ended = run("summarize_runs", tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: no metrics.json below")


def test_sweep_is_compared_by_one_override(run: Run, tmp_path: Path) -> None:
    for job, (size, seed) in enumerate([(8, 0), (16, 0), (8, 1), (16, 1)]):
        folder = tmp_path / str(job)
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra/overrides.yaml").write_text(f"- domain.d_latent={size}\n- seed={seed}\n")
        (folder / "metrics.json").write_text(json.dumps({"test/token_cosine": size / 100 + seed / 10}))
    ended = run("compare_sweep", tmp_path, "--by", "domain.d_latent", "--figures", "test/token_cosine")
    assert ended.returncode == 0, ended.stderr
    rows = [line for line in ended.stdout.splitlines() if line.startswith("|")][2:]
    assert rows == ["| 8 | 2 | 0.1300 ± 0.0707 |", "| 16 | 2 | 0.2100 ± 0.0707 |"]
    assert (tmp_path / "comparison.png").stat().st_size > 5000
    for arguments, message in (
        (("--by", "model.cell", "--figures", "test/token_cosine"), "was not given model.cell"),
        (("--by", "seed", "--figures", "test/foo"), "no figure test/foo"),
    ):
        refused = run("compare_sweep", tmp_path, *arguments)
        assert (refused.returncode, message in refused.stderr) == (2, True)


def test_curves_of_runs_are_drawn_side_by_side(run: Run, tmp_path: Path) -> None:
    for name in ("plain", "dropout"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text("epoch,train/loss,val/loss\n0,0.5,0.6\n1,0.3,0.7\n")
    runs, picture = [tmp_path / "plain", tmp_path / "dropout"], tmp_path / "both.png"
    ended = run("compare_curves", *runs, "--titles", "none", "0.5", "--picture", picture)
    assert ended.returncode == 0, ended.stderr
    assert picture.stat().st_size > 5000
    for arguments, message in (
        (("--figure", "accuracy"), "no val/accuracy in metrics.csv"),
        (("--titles", "one"), "2 runs have 1 titles"),
        ((tmp_path / "misspelt",), "there is no metrics.csv"),
    ):
        refused = run("compare_curves", *runs, *arguments)
        assert not (tmp_path / "misspelt").exists()
        assert (refused.returncode, message in refused.stderr) == (2, True)


def radio_run(folder: Path, snr_db: list[int], right: float) -> Path:
    folder.mkdir()
    rows = [
        {"snr_db": level, "modulation_accuracy": right + level / 100, "combined_accuracy": 0.1, "count": 5}
        for level in snr_db
    ]
    empty = {"snr_db": 40, "modulation_accuracy": None, "combined_accuracy": None, "count": 0}
    figures = {"test/modulation_accuracy": right, "test/combined_accuracy": 0.1, "test/eta": None}
    (folder / "metrics.json").write_text(json.dumps({**figures, "per_snr": [*rows, empty]}))
    return folder


def test_radio_runs_are_compared_over_the_snr(run: Run, tmp_path: Path) -> None:
    first = radio_run(tmp_path / "first", [-10, 0, 10], 0.5)
    second = radio_run(tmp_path / "second", [-10, 0, 10], 0.3)
    other = radio_run(tmp_path / "other", [0, 20], 0.3)
    picture = tmp_path / "both.png"
    ended = run("compare_snr", first, second, "--picture", picture)
    assert ended.returncode == 0, ended.stderr
    rows = [line for line in ended.stdout.splitlines() if line.startswith("|")][2:]
    assert rows == ["| first | 0.500 | 0.100 |  | 0.550 | 0.100 |", "| second | 0.300 | 0.100 |  | 0.350 | 0.100 |"]
    assert picture.stat().st_size > 5000
    for arguments, message in (
        ((first, other), "the runs have unlike SNRs"),
        ((first, "--above", "40"), "no SNR of at least 40 dB (--above). Highest: 10"),
        ((first, "--titles", "a", "b"), "1 runs have 2 titles"),
        ((tmp_path / "misspelt",), "there is no metrics.json"),
    ):
        refused = run("compare_snr", *arguments)
        assert (refused.returncode, message in refused.stderr) == (2, True)
