"""The lock and the declared ranges."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins() -> dict[str, str]:
    """Package to version, as locked."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", LOCK, flags=re.MULTILINE))


def test_lock_names_no_registry() -> None:
    for text in ("http://", "https://", "--index", "--extra-index", "--find-links"):
        assert text not in LOCK


def test_lock_pins_torch_and_its_companions_together() -> None:
    versions = pins()
    assert (versions["torch"], versions["torchvision"], versions["torchaudio"]) == ("2.11.0", "0.26.0", "2.11.0")


def test_lock_holds_every_declared_dependency() -> None:
    declared = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    names = {re.match(r"[A-Za-z0-9._-]+", line).group().lower() for line in declared}  # type: ignore[union-attr]
    assert names <= pins().keys()


def test_python_range_and_licence() -> None:
    assert PROJECT["requires-python"].startswith(">=3.11")
    assert PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
