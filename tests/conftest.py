"""What all tests share: one quiet environment without a network, and the command in this process or in its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("cvkan-train")  # the console script of this environment


@dataclass(frozen=True)
class Result:
    """How a command ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str


def pytest_configure(config: pytest.Config) -> None:
    # Read by OpenMP when torch is loaded, so set before any test module is collected.
    os.environ["OMP_NUM_THREADS"] = "1"
    # Each step of a run is compared bit by bit, and nobody's account, GPU or bytecode setting may change a test.
    for name in ("CUDA_VISIBLE_DEVICES", "WANDB_API_KEY"):
        os.environ[name] = ""
    for name in ("PYTHONDONTWRITEBYTECODE", "HYDRA_FULL_ERROR", "WANDB_MODE"):
        os.environ.pop(name, None)
    # A port where nobody listens: a download fails at once, also on a machine with a network.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        os.environ[name] = "http://127.0.0.1:9"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Generated data is cached for this session alone."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def train_command() -> Callable[..., Result]:
    """Run ``cvkan-train`` as a person does, in a process of its own: ``train_command(*arguments, cwd=...)``."""

    def run(*arguments: str, cwd: Path, timeout_s: float = 120, **environment: str) -> Result:
        ended = subprocess.run(
            [str(COMMAND), *arguments],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        return Result(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def train_here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Result]:
    """Run ``cvkan-train`` in this process, in the empty folder ``tmp_path``, which saves loading torch again."""
    from cvkan.cli import resolvers, train
    from cvkan.cli.app import launch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(*arguments: str) -> Result:
        resolvers._fresh.cache_clear()
        monkeypatch.setattr(sys, "argv", ["cvkan-train", *arguments])
        capfd.readouterr()
        code = launch(train.CONFIG_NAME, train.job, train.HELP)
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return run
