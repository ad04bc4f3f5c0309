"""The launching process's side of a sweep: it plans, watches, passes signals on and sums up."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from cvkan.errors import UserError
from cvkan.sweeping import summary
from cvkan.sweeping.processes import POOL, process_name
from cvkan.sweeping.records import FINISHED, jobs_folder, read_records, stop_file, typed_overrides, write_plan
from cvkan.sweeping.refusal import Refused, check_processes
from cvkan.sweeping.rows import read_rows
from cvkan.sweeping.stock import identified, take_stock
from cvkan.sweeping.watching import Lines, LiveTable, Watcher

GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SweepCallback(Callback):
    """Hydra's word that a multirun begins. Its end is told by the command: Hydra's own comes only if all went well."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            check_processes(config.trainer, config.hydra.launcher["_target_"])
        except UserError as error:
            raise Refused(error) from error
        Sweep.current = Sweep(config)


class Sweep:
    """A sweep that is open in this process.

    Args:
        config: of the sweep as a whole, with Hydra's section.
    """

    current: Sweep | None = None  # Hydra's callbacks travel with the jobs, and this must not

    def __init__(self, config: DictConfig) -> None:
        self.folder = Path(config.hydra.sweep.dir)
        self.signum: int | None = None
        self._in_pool = config.hydra.launcher["_target_"] == POOL
        jobs_folder(self.folder).mkdir(parents=True, exist_ok=True)
        stop_file(self.folder).unlink(missing_ok=True)
        self._planned = planned(config)
        if read_records(self.folder):
            for line in take_stock(self.folder, identified(config, self._planned)):
                print(line, flush=True)
        write_plan(self.folder, process_name(os.getpid()), self._planned)
        view = LiveTable(sys.stdout) if sys.stdout.isatty() else Lines(self.folder)
        self._watcher = Watcher(self.folder, view)
        self._watcher.start()
        self._previous = {signum: signal.signal(signum, self._handle) for signum in SIGNALS}

    def close(self) -> int:
        """Write and print the summary.

        Returns:
            The highest exit code of the jobs, and of a signal that ended the sweep.
        """
        self._watcher.stop()
        write_plan(self.folder, None, self._planned)
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        rows = read_rows(self.folder)
        if all(row.status == "waiting" for row in rows):  # the sweep itself was refused
            shutil.rmtree(jobs_folder(self.folder))
            (self.folder / "multirun.yaml").unlink(missing_ok=True)
            with suppress(OSError):
                self.folder.rmdir()
                Path("multirun").rmdir()
            return 0
        stop_file(self.folder).unlink(missing_ok=True)
        summary.write(self.folder, rows)
        summary.print_summary(self.folder, rows)
        if any(row.status not in (*FINISHED, "outdated") for row in rows):
            command = f"cvkan-train -m {shlex.quote(f'sweep.resume={self.folder}')}"
            print(f"go on with what is left by: {command}", file=sys.stderr)
        if self.signum is None:
            return max(row.exit_code for row in rows)
        # The jobs of a pool were stopped by another signal than the one that ended the sweep.
        return max(128 + self.signum, *(row.exit_code for row in rows if row.status != "interrupted"), 0)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """The first signal lets the jobs of a pool save; a second one, or the first for others, ends the launching."""
        second, self.signum = self.signum is not None, self.signum or signum
        if self._in_pool and not second:
            stop_file(self.folder).touch()
            return
        raise KeyboardInterrupt


def planned(config: DictConfig) -> list[list[str]]:
    """The overrides of all jobs of a grid; none where the sweeper decides as it goes."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    sweeper = config.hydra.sweeper
    if sweeper["_target_"] != GRID:
        return []
    typed = [f"{key}={value}" for key, value in (sweeper.params or {}).items()] + list(config.hydra.overrides.task)
    loader = GlobalHydra.instance().config_loader()
    try:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(typed)
        (batch,) = BasicSweeper.split_arguments(parsed, None)
    except HydraException:  # the sweeper will say so
        return []
    return [typed_overrides(overrides) for overrides in batch]


def signalled() -> int | None:
    """The signal that has ended the sweep of this process.

    A job of this process may not have met with it: what calls into C may lose the ``KeyboardInterrupt`` and go on.
    """
    return None if Sweep.current is None else Sweep.current.signum


def close(code: int) -> int:
    """End the sweep of this process, if there is one.

    Args:
        code: exit code of the launching.

    Returns:
        The command's exit code.
    """
    sweep, Sweep.current = Sweep.current, None
    return code if sweep is None else max(code, sweep.close())
