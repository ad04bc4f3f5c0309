"""How the jobs stand while a sweep runs: a table on a terminal, else a line for each job that ends.

Read from the files of the jobs, wherever they run, by a thread of the launching process.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TextIO

from cvkan.sweeping.progress import read_progress
from cvkan.sweeping.records import Record, Status, read_plan, read_records
from cvkan.sweeping.rows import by_key, label, short_names, shortened, varying

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

POLL_SECONDS = 1.0
SHARE = 0.02  # of one core that reading may take, however many jobs there are
BY_INTEREST: tuple[Status, ...] = (
    *("running", "diverged", "failed", "refused", "killed", "interrupted", "completed", "outdated", "waiting"),
)


class State(NamedTuple):
    """One job as it stands now."""

    record: Record
    status: Status
    epochs: int
    value: float | None

    @property
    def seconds_to_go(self) -> float | None:
        """By the mean time of the epochs so far; None before the first and after the last."""
        done = self.epochs - self.record.first_epoch
        if self.status != "running" or done < 1 or self.record.max_epochs is None:
            return None
        return (time.time() - self.record.started) / done * max(self.record.max_epochs - self.epochs, 0)


class View(Protocol):
    """Shows states to a person."""

    def show(self, states: list[State], waiting: list[list[str]]) -> None:
        """Called again and again, and once at the end.

        Args:
            states: the jobs that have started.
            waiting: overrides of those that are planned.
        """

    def close(self) -> None:
        """Nothing more will be shown."""


class Watcher:
    """A thread that reads the jobs of a sweep and has them shown.

    Args:
        sweep: folder of the sweep.
        view: what shows them; called in the thread.
    """

    def __init__(self, sweep: Path, view: View) -> None:
        self.sweep, self.view = sweep, view
        self._known: dict[Record, State] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Show how all stand at the end."""
        self._done.set()
        self._thread.join()
        self._show()
        self.view.close()

    def _watch(self) -> None:
        wait = POLL_SECONDS
        while not self._done.wait(wait):
            wait = max(POLL_SECONDS, self._show() / SHARE)

    def _show(self) -> float:
        """The seconds it took."""
        start = time.thread_time()
        states = read_states(self.sweep, self._known)
        _, planned = read_plan(self.sweep)
        started = [list(state.record.overrides) for state in states]
        self.view.show(states, [overrides for overrides in planned if overrides not in started])
        return time.thread_time() - start


def read_states(sweep: Path, known: dict[Record, State]) -> list[State]:
    """How every job that has started stands.

    Args:
        sweep: folder of the sweep.
        known: those that have ended, which are not read again; grows.
    """
    states = []
    for record in read_records(sweep):
        state = known.get(record)
        if state is None:
            state = State(record, record.status(sweep), *read_progress(sweep / record.folder, record.monitor))
        if record.ended is not None:
            known[record] = state
        states.append(state)
    return states


class Lines:
    """A line for each job that ends: on stdout, on stderr with the reason if it did not complete.

    Args:
        sweep: folder of the sweep; jobs that have ended there before are not told again.
    """

    def __init__(self, sweep: Path) -> None:
        self._told = {_ending(record) for record in read_records(sweep)}
        # Jobs of this process turn its streams to their logs, for all threads.
        self._out, self._err = sys.stdout, sys.stderr

    def show(self, states: list[State], waiting: list[list[str]]) -> None:
        names = _varying_names(states, waiting)
        for state in states:
            record = state.record
            if record.ended is None or _ending(record) in self._told:
                continue
            self._told.add(_ending(record))
            choices = label(shortened(by_key(record.overrides), names), list(names.values()))
            name = f"job {record.folder} ({choices})".replace(" ()", "")
            if state.status == "completed":
                score = "" if state.value is None else f"  {record.monitor} {state.value:.3g}"
                print(
                    f"{name}  completed{score}  {duration(record.ended - record.started)}", file=self._out, flush=True
                )
            else:
                print(f"error: {name} {state.status}: {record.error}", file=self._err, flush=True)

    def close(self) -> None:
        """There is nothing to close."""


class LiveTable:
    """A table that is drawn anew in place, what runs on top.

    Args:
        stream: a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        # The jobs of this process print elsewhere, so the table has its stream to itself.
        self._console = Console(file=stream)
        self._live: Live | None = None

    def show(self, states: list[State], waiting: list[list[str]]) -> None:
        from rich.live import Live

        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        self._live.update(live_table(states, waiting, self._console.height - 5), refresh=True)

    def close(self) -> None:
        """The last table stays."""
        if self._live is not None:
            self._live.stop()


def live_table(states: list[State], waiting: list[list[str]], height: int) -> Table:
    """The most interesting jobs, as many as fit, under a line that counts them all; a column a choice that varies."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    counts = Counter(state.status for state in states) + Counter({"waiting": len(waiting)})
    title = ", ".join(f"{counts[status]} {status}" for status in BY_INTEREST if counts[status])
    names = _varying_names(states, waiting)
    monitors = {state.record.monitor for state in states if state.record.monitor}
    metric = monitors.pop() if len(monitors) == 1 else ""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("job", no_wrap=True)
    for name in names.values():
        table.add_column(Text(name, no_wrap=True, overflow="ellipsis"))  # narrowed where there is too little room
    for name in ("status", "epoch", metric or "metric", "time"):
        table.add_column(name, no_wrap=True)
    # Of those that have ended, the latest first.
    ordered = sorted(states, key=lambda state: (BY_INTEREST.index(state.status), -(state.record.ended or 0)))
    for state in ordered[: max(height, 1)]:
        record = state.record
        value = "" if state.value is None else f"{'' if metric else f'{record.monitor} '}{state.value:.3g}"
        to_go = state.seconds_to_go
        spent = "" if record.ended is None else duration(record.ended - record.started)
        choices = shortened(by_key(record.overrides), names)
        cells = (
            *(record.folder, *(choices.get(name, "") for name in names.values()), state.status),
            *(f"{state.epochs}/{record.max_epochs}", value, spent if to_go is None else f"{duration(to_go)} to go"),
        )
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells))
    return table


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _varying_names(states: list[State], waiting: list[list[str]]) -> dict[str, str]:
    """The keys that tell the jobs apart, and their short names."""
    all_overrides = [*(state.record.overrides for state in states), *waiting]
    return short_names(varying([by_key(overrides) for overrides in all_overrides]))


def _ending(record: Record) -> tuple[str, float | None]:
    return record.folder, record.ended
