"""``suite=startup``: how long a person waits for the help text, for the imports, and for the first training step."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import lightning.pytorch as pl

from cvkan.benchmarks.rows import Row, compared
from cvkan.benchmarks.suite import Suite

LIBRARIES = "import torch, lightning.pytorch"
PYTHON = "python -c pass"


class StartupSuite(Suite):
    """Start-up of ``cvkan-train``, each process measured from outside, in turns with a bare import of the libraries.

    Wall time is what a person feels, CPU time what can be compared on a shared machine. One round beforehand fills
    the caches of files and of the embedded data, so the figures are those of a second run.

    Args:
        budget: see :class:`Suite`.
        budgets: for each budget ``repetitions``.
        help_seconds: target for the help text, wall time.
        first_step_seconds: target for the end of the first training step, wall time.
        overrides: what is trained, as typed behind ``cvkan-train``.
    """

    def __init__(
        self,
        budget: str,
        budgets: Mapping[str, Mapping[str, Any]],
        help_seconds: float,
        first_step_seconds: float,
        overrides: Sequence[str],
    ) -> None:
        super().__init__(budget, budgets)
        self.help_seconds, self.first_step_seconds = help_seconds, first_step_seconds
        self.overrides = list(overrides)

    def run(self) -> Iterator[Row]:
        """Rows of the help text, of the imports, then of the first step."""
        train = [sys.executable, "-m", "cvkan.cli.train"]
        commands = {
            PYTHON: [sys.executable, "-c", "pass"],
            LIBRARIES: [sys.executable, "-c", LIBRARIES],
            "--help": [*train, "--help"],
            "imports": [sys.executable, "-c", "import cvkan.training"],
        }
        wall: dict[str, list[float]] = {name: [] for name in [*commands, "first step"]}
        cpu: dict[str, list[float]] = {name: [] for name in wall}
        with tempfile.TemporaryDirectory() as folder:
            for round_ in range(1 + self.settings["repetitions"]):
                times = {name: seconds_of(command, folder) for name, command in commands.items()}
                times["first step"] = self.first_step(train, Path(folder), round_)
                for name, (wall_seconds, cpu_seconds) in times.items():
                    if round_ > 0:  # the first fills the caches
                        wall[name].append(wall_seconds)
                        cpu[name].append(cpu_seconds)
        yield target("cvkan-train --help", wall["--help"], self.help_seconds)
        yield compared("cvkan-train --help", "cpu", cpu["--help"], "s", PYTHON, cpu[PYTHON])
        yield compared("cvkan-train --help", "cpu", cpu["--help"], "s", LIBRARIES, cpu[LIBRARIES])
        yield compared("import cvkan.training", "cpu", cpu["imports"], "s", LIBRARIES, cpu[LIBRARIES])
        first = f"first step of cvkan-train {' '.join(self.overrides)}"
        yield target(first, wall["first step"], self.first_step_seconds)
        yield compared(first, "cpu", cpu["first step"], "s", LIBRARIES, cpu[LIBRARIES])

    def first_step(self, train: list[str], folder: Path, round_: int) -> tuple[float, float]:
        """Wall and CPU seconds from the start of the command to the end of its first optimiser step."""
        mark = folder / f"first_step_{round_}"
        command = [
            *train,
            *self.overrides,
            f"output_dir={folder / f'run_{round_}'}",
            "+callbacks.first_step._target_=cvkan.benchmarks.startup.LeaveAfterFirstStep",
            f"+callbacks.first_step.path={mark}",
        ]
        start = time.time()
        seconds_of(command, str(folder))
        end, cpu = (float(word) for word in mark.read_text().split())
        return end - start, cpu


class LeaveAfterFirstStep(pl.Callback):
    """Write the time of day and the CPU seconds so far to a file, and end the process on the spot.

    Args:
        path: file to write.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def on_train_batch_end(self, *_: Any) -> None:
        Path(self.path).write_text(f"{time.time()} {time.process_time()}")
        # The rest of the run is not measured: no checkpoint, no test.
        os._exit(0)


def seconds_of(command: list[str], folder: str) -> tuple[float, float]:
    """Wall and CPU seconds of a process and its children, run in ``folder`` with its output thrown away.

    Raises:
        RuntimeError: the process failed; the message ends with what it wrote.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def target(case: str, wall: Sequence[float], seconds: float) -> Row:
    """A row of wall time against a target."""
    ratios = [seconds / one for one in wall]
    return Row(case, "wall", median(wall), "s", f"target {seconds:g} s", median(ratios), min(ratios), max(ratios))
