"""What all tests share: one quiet environment without a network, and the command in this process or in its own."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[1]
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
    # Runs are compared bit by bit: nobody's GPU, account or settings may change a test.
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    for name in ("PYTHONDONTWRITEBYTECODE", "HYDRA_FULL_ERROR", "WANDB_API_KEY", "WANDB_MODE"):
        os.environ.pop(name, None)
    # A port where nobody listens: a download fails at once, also on a machine with a network.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        os.environ[name] = "http://127.0.0.1:9"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Generated data is cached for this session alone."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


def run_command(*arguments: str | Path, cwd: Path, **environment: str) -> Result:
    """Run ``cvkan-train`` as a person does, in a process of its own."""
    ended = subprocess.run(
        [str(COMMAND), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    return Result(ended.returncode, ended.stdout, ended.stderr)


@pytest.fixture
def train_command() -> Callable[..., Result]:
    """:func:`run_command`, for tests that import nothing from here."""
    return run_command


@pytest.fixture
def command_here(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., Result]]:
    """Run the command of a module in this process, in the empty folder ``tmp_path``: torch is loaded only once."""
    from cvkan.cli import resolvers

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("COLUMNS", "80")

    def run(command: ModuleType, *arguments: str | Path) -> Result:
        resolvers._fresh.cache_clear()  # one name a process: a second run in it gets another
        name = command.__name__.rsplit(".", 1)[-1]
        monkeypatch.setattr(sys, "argv", [f"cvkan-{name}", *map(str, arguments)])
        capfd.readouterr()
        code = command.run()
        return Result(code, *capfd.readouterr())

    yield run
    # Hydra has set up logging to streams that end with the test.
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def train_here(command_here: Callable[..., Result]) -> Callable[..., Result]:
    """``cvkan-train`` by :func:`command_here`."""
    from cvkan.cli import train

    return partial(command_here, train)
