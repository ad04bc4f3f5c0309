"""The further processes of a training on one machine: started by the first one, and never left behind.

Run as ``python -m cvkan.companions RANK PORT PARENT``, with the config on the standard input, this file is such a
process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import lightning.pytorch as pl
from lightning.pytorch.plugins.environments import ClusterEnvironment
from omegaconf import DictConfig, OmegaConf

from cvkan.distributed import LocalProcesses, disband
from cvkan.errors import DivergedError, Interrupted, UserError, one_line

POLL_SECONDS = 0.5
NOTICE_SECONDS = 2.0  # between the end of a process and the error that others make of it
GRACE_SECONDS = 60.0  # for what is left to do when one has ended before its time


class Companion(NamedTuple):
    """A process, and what it has printed."""

    rank: int
    process: subprocess.Popen[bytes]
    output: IO[bytes]

    def last_words(self) -> str:
        """How it ended, with the last line that it printed."""
        self.output.seek(0)
        lines = [line for line in self.output.read().decode(errors="replace").splitlines() if line.strip()]
        code = self.process.returncode
        how = f"ended with code {code}" if code >= 0 else f"was ended by signal {-code}"
        return ": ".join([f"process {self.rank} {how}", *lines[-1:]])


@contextmanager
def started(
    trainer: pl.Trainer, environment: ClusterEnvironment, cfg: DictConfig, lost: Callable[[str], None]
) -> Iterator[None]:
    """Have the other processes of a training run inside the block; a no-op where they are not ours to start.

    They get the resolved config, call :func:`cvkan.training.train` with it as this process does, and write nothing.
    Ctrl-C does not reach them: the first process tells them to stop. They end with it, however it ends.

    Args:
        trainer: says how many there are.
        environment: of this process.
        cfg: of the run.
        lost: told, in one line, that one is gone and this process cannot go on; it then ends at once.

    Raises:
        RuntimeError: the work failed because one of them ended.
    """
    ours = isinstance(environment, LocalProcesses) and environment.global_rank() == 0 and trainer.world_size > 1
    if not ours:
        try:
            yield
        finally:
            disband()
        return
    config = OmegaConf.to_yaml(cfg, resolve=True).encode()
    companions = [_start(rank, environment.main_port, config) for rank in range(1, trainer.world_size)]
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(companions, done, lost), daemon=True)
    watcher.start()
    try:
        yield
    except Exception as error:
        if not isinstance(error, (UserError, DivergedError)) and (first := _ended_early(companions)):
            raise RuntimeError(first.last_words()) from error
        raise
    finally:
        done.set()
        watcher.join()
        disband()
        _end(companions)


def _start(rank: int, port: int, config: bytes) -> Companion:
    output = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
    # What this process can import the others can: the folder of a script, a notebook's, the user's own.
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-P", "-m", "cvkan.companions", *map(str, (rank, port, os.getpid()))]
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=output, process_group=0
    )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(config)
    return Companion(rank, process, output)


def _watch(companions: list[Companion], done: threading.Event, lost: Callable[[str], None]) -> None:
    """End this process if one of the others has failed and it waits for that one for ever, deep inside a library."""
    while not done.wait(POLL_SECONDS):
        failed = _failed(companions)
        if failed is not None:
            if not done.wait(GRACE_SECONDS):
                lost(failed.last_words())
                print(f"error: {failed.last_words()}", file=sys.stderr, flush=True)
                _kill(companions)
                os._exit(1)
            return


def _failed(companions: list[Companion]) -> Companion | None:
    return next((companion for companion in companions if companion.process.poll()), None)


def _ended_early(companions: list[Companion]) -> Companion | None:
    """The process whose end is the cause of an error here, if it is: its own end would come later."""
    deadline = time.monotonic() + NOTICE_SECONDS
    while (failed := _failed(companions)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return failed


def _end(companions: list[Companion]) -> None:
    """Wait for the others as long as it takes to end by themselves, and no longer."""
    deadline = time.monotonic() + NOTICE_SECONDS * 5
    while any(companion.process.poll() is None for companion in companions) and time.monotonic() < deadline:
        time.sleep(0.02)
    _kill(companions)
    for companion in companions:
        companion.output.close()


def _kill(companions: list[Companion]) -> None:
    for companion in companions:
        companion.process.kill()
        companion.process.wait()


def _end_with(parent: int) -> None:
    """End this process when its parent has."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def main(rank: int, port: int, parent: int) -> int:
    """A further process of a training; the first one reports what both meet with."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    cfg = OmegaConf.create(sys.stdin.read())
    assert isinstance(cfg, DictConfig)
    from cvkan.training import train

    try:
        train(cfg, companion=LocalProcesses(rank, port))
    except (UserError, DivergedError, Interrupted) as error:
        print(one_line(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
