"""A training in a process of its own, without the seconds that importing everything takes."""

from __future__ import annotations

import multiprocessing
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

# Imported once, by the process that all trainings are forked from.
PRELOADED = ["cvkan.training", "cvkan.cli.train"]


def train_apart(arguments: list[str], log: Path) -> int:
    """``cvkan-train`` with these arguments; what it prints goes to a file.

    Args:
        arguments: as typed.
        log: the file.

    Returns:
        The exit code.

    Raises:
        KeyboardInterrupt: Ctrl-C, when the training has ended too: the terminal tells both of them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_command, args=(arguments, log))
    process.start()
    try:
        process.join()
    except KeyboardInterrupt:
        process.join()
        raise
    assert process.exitcode is not None
    return process.exitcode


def _command(arguments: list[str], log: Path) -> None:
    from cvkan.cli import train

    sys.argv = ["cvkan-train", *arguments]
    with open(log, "w", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        code = train.run()
    sys.exit(code)
