"""docs/add-a-domain.md, followed to the letter: one Python file, one YAML, one command."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result

ROOT = Path(__file__).parents[1]
TOY = ROOT / "tests/toy_domain"
TUTORIAL = (ROOT / "docs/add-a-domain.md").read_text()


def listings(language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", TUTORIAL, flags=re.DOTALL | re.MULTILINE)
    return [text for name, text in blocks if name == language]


def test_tutorial_shows_the_files_that_are_tested() -> None:
    assert listings("python") == [(TOY / "toy_domain.py").read_text()]
    assert listings("yaml") == [(TOY / "conf/domain/toy.yaml").read_text()]
    assert len([path for path in TOY.rglob("*") if path.suffix in (".py", ".yaml")]) == 2


def typed() -> list[list[str]]:
    """Arguments of every command of the tutorial."""
    lines = [line for block in listings("") for line in block.splitlines() if "cvkan-train" in line]
    return [shlex.split(line.split("cvkan-train ")[1]) for line in lines]


@pytest.mark.slow
def test_toy_domain_trains_from_the_command_line(train_command: Callable[..., Result], tmp_path: Path) -> None:
    folder = shutil.copytree(TOY, tmp_path / "my_domain", ignore=shutil.ignore_patterns("__pycache__"))
    result = train_command(*typed()[0], cwd=folder, PYTHONPATH=".")

    assert result.code == 0, result.err
    assert result.err == ""
    (run,) = (folder / "outputs/toy").iterdir()
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test/accuracy"] > 0.95
    assert (run / "plots/polarization.png").exists()


def test_other_commands_of_the_tutorial_work(
    train_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(TOY)
    monkeypatch.syspath_prepend(str(TOY))
    first, changed, shown, swept = typed()
    assert first == ["--config-dir", "conf", "domain=toy"]

    assert "_target_: toy_domain.Hum" in train_here(*shown).out
    assert "n_train: 1000" in train_here(*changed, "--cfg", "job").out
    assert "-m" in swept
    refused = train_here(*changed, "embedding.frame=30", "data.n_train=10")
    assert refused.code == 2
    assert refused.err.startswith("error: frames of 30 do not divide 128 samples (")
    assert not (TOY / "outputs").exists()


def test_run_with_classes_of_the_user_can_be_resumed(
    train_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(TOY))
    short = ("--config-dir", TOY / "conf", "domain=toy", "data.n_train=100", "trainer.max_epochs=1")
    assert train_here(*short, f"output_dir={tmp_path / 'run'}").code == 0
    resumed = train_here(*short, f"ckpt={tmp_path / 'run/checkpoints/last.ckpt'}")
    assert resumed.code == 0, resumed.err


def test_module_that_is_not_found_is_named(train_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "toy_domain", raising=False)
    refused = train_here("--config-dir", TOY / "conf", "domain=toy")
    assert refused.code == 2
    assert "No module named 'toy_domain" in refused.err
