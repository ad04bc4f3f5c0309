"""Whether the process that ran a job still does, and jobs that end with the process that launched them."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import NoReturn

POLL_SECONDS = 0.5
# A launcher whose jobs run in processes of its own; others run them in this process or leave them to a queue.
POOL = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
# Launchers whose jobs share a process, one after the other or as the workers of a pool.
SHARING = ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", POOL)


def process_name(pid: int) -> str:
    """``host:pid:start``, another one for the next process that gets the same number (where /proc tells the start)."""
    try:
        # The name of the program, in parentheses, may hold spaces; the start is the 20th field behind it.
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        start = ""
    return f"{socket.gethostname()}:{pid}:{start}"


def is_here(name: str) -> bool:
    """Whether a process of :func:`process_name` is, or was, one of this machine."""
    return name.rsplit(":", 2)[0] == socket.gethostname()


def is_alive(name: str) -> bool:
    """Whether a process lives. Of one on another machine nothing is known: it counts as alive."""
    if not is_here(name):
        return True
    pid = int(name.rsplit(":", 2)[1])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process_name(pid) == name and not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Ended, but not yet waited for by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


@contextmanager
def obeying(launcher: int, stop: Path) -> Iterator[None]:
    """Send this process SIGTERM when its launcher is gone or the file ``stop`` appears; the job then saves and ends.

    A worker of a pool leaves the terminal's process group, so that Ctrl-C reaches the launcher alone, which makes the
    file: a second signal would end the job without saving.

    Args:
        launcher: id of the process whose pool this one belongs to.
        stop: a file.
    """
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(POLL_SECONDS):
            if os.getppid() != launcher or stop.exists():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    _leave_with(launcher)
    _idle.clear()
    try:
        with terminable():
            watcher.start()
            try:
                yield
            finally:
                done.set()
                watcher.join()
    finally:
        _idle.set()


_idle = threading.Event()  # no job runs in this process


@cache
def _leave_with(launcher: int) -> None:
    """Once: end this process of a pool when its launcher is gone and no job runs.

    It would wait for work for minutes more, and keep open what the launcher's output is piped to.
    """

    def watch() -> None:
        while os.getppid() == launcher or not _idle.is_set():
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises ``KeyboardInterrupt``, as Ctrl-C does, where it would end the process without a word."""

    def interrupt(signum: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
