"""What all commands share: fast help, Hydra, one line an error, the exit codes of docs/architecture.md.

Nothing here imports torch: help, ``--cfg``, ``--info``, completion and refused overrides answer without it.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cvkan.cli import help
from cvkan.errors import DivergedError, Interrupted, UserError, one_line

if TYPE_CHECKING:
    from omegaconf import DictConfig

SIGNALLED = 128  # exit codes above it tell which signal ended a job


class _Stopped(BaseException):
    """A signal has ended a job and has been reported; the jobs of a multirun that wait are not started."""


class Outcome(NamedTuple):
    """How a piece of work ended: its exit code, and in one line what went wrong."""

    code: int
    error: str | None = None


class Guarded:
    """The function that Hydra calls once a job; launchers carry it to other processes.

    Args:
        job: does the work; raises what it must.
        config_name: primary config in ``cvkan.conf``.
        arguments: as typed.
    """

    def __init__(self, job: Callable[[DictConfig], None], config_name: str, arguments: list[str]) -> None:
        self.job, self.config_name, self.arguments = job, config_name, arguments
        self.code = 0  # the highest of the jobs in this process
        self.launcher = os.getpid()
        self.__module__ = job.__module__  # hydra names the job's log after it

    def __call__(self, cfg: DictConfig) -> None:
        """Run a job; in a sweep of runs, with its record in the sweep's folder."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from cvkan.sweeping.sweep import signalled

        if HydraConfig.get().mode == RunMode.MULTIRUN and "sweep" in cfg:
            from cvkan.sweeping import jobs

            outcome = Outcome(*jobs.run(cfg, self.attempt, self.launcher))
        else:
            outcome = self.attempt(cfg)
        if outcome.code == UserError.exit_code or outcome.code > SIGNALLED:
            discard_empty_run()
        self.code = max(self.code, outcome.code)
        if (outcome.code > SIGNALLED or signalled() is not None) and os.getpid() == self.launcher:
            raise _Stopped

    def attempt(self, cfg: DictConfig) -> Outcome:
        """The job, with what it raises reported on stderr."""
        work = partial(_explained, partial(self.job, cfg), self.config_name, self.arguments)
        return outcome_of(work, debug=bool(cfg.get("debug")))


def launch(
    config_name: str,
    job: Callable[[DictConfig], None],
    help_text: str,
    prepare: Callable[[list[str]], list[str]] | None = None,
) -> int:
    """Run a command: compose the config from ``sys.argv`` and call ``job`` with it, once a job of a multirun.

    Args:
        config_name: primary config in ``cvkan.conf``.
        job: does the work; raises what it must.
        help_text: first lines of ``--help``, see :func:`cvkan.cli.help.page`.
        prepare: makes Hydra's arguments of those typed; None takes the config of the run that ``ckpt`` names.

    Returns:
        The exit code; of several jobs, the highest.
    """
    # Hydra's parser takes -m only in front of the overrides or behind them all.
    arguments = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    if "--help" in arguments or "-h" in arguments:
        print(help.page(help_text, config_name))
        return 0
    # Hydra would print errors its own way and exit with 1; with this it raises them.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # Before torch is imported: its threads sleep while they wait for each other. Spinning, they take the cores from
    # whatever else runs, and a step beside two busy processes lasts over twice as long (docs/performance.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Large tensors on huge pages: a step of planes of 16 MB met ten times fewer page faults and was a fifth faster.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    import hydra

    from cvkan.cli import overrides, resolvers

    resolvers.register()
    check = partial(overrides.check_flags, arguments, f"cvkan-{config_name.partition('_')[0]}")
    if code := report_errors(check, debug=False):
        return code
    guarded = Guarded(job, config_name, arguments)
    main = hydra.main(version_base="1.3", config_path="pkg://cvkan.conf", config_name=config_name)(guarded)

    def composed() -> None:
        sys.argv[1:] = (prepare or overrides.with_config_of_run)(arguments)
        main()

    # Jobs let nothing out: even a plain ValueError or OSError is about the command line here.
    work = partial(_explained, composed, config_name, arguments, also=(OSError, ValueError))
    code = 0
    with suppress(_Stopped):
        code = report_errors(work, debug="debug=true" in arguments)
    return max(code, guarded.code)


def report_errors(work: Callable[[], None], debug: bool) -> int:
    """Call ``work`` and turn what it raises into a message on stderr and an exit code."""
    return outcome_of(work, debug).code


def outcome_of(work: Callable[[], None], debug: bool) -> Outcome:
    """Call ``work`` and turn what it raises into a message on stderr, an exit code and one line."""
    try:
        work()
    except UserError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {one_line(error)}", file=sys.stderr)
        return Outcome(UserError.exit_code, one_line(error))
    except DivergedError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return Outcome(DivergedError.exit_code, one_line(error))
    except Interrupted as error:
        print(f"interrupted{resume_hint(error.last_checkpoint)}", file=sys.stderr)
        return Outcome(error.exit_code, one_line(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return Outcome(130, "interrupted")
    except Exception as error:
        traceback.print_exc()
        return Outcome(1, f"{type(error).__name__}: {one_line(error)}")
    return Outcome(0)


def resume_hint(last_checkpoint: Path | None) -> str:
    """The command that goes on with an interrupted run."""
    if last_checkpoint is None:
        return " before the first checkpoint"
    return f"; go on with: cvkan-train {shlex.quote(f'ckpt={last_checkpoint}')}"


def discard_empty_run() -> None:
    """Remove the folder Hydra has made for a job that was refused before it became a run."""
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir)
    # A command without a folder of its own stands in the user's.
    if (folder / "run.json").exists() or folder.resolve() == Path.cwd().resolve():
        return
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, logging.FileHandler)]:
        root.removeHandler(handler)  # it would open its file again for whoever logs next
        handler.close()
        Path(handler.baseFilename).unlink(missing_ok=True)
    shutil.rmtree(folder / ".hydra", ignore_errors=True)
    # Its own folder and those above it that it was made with, as far as they are empty; never the user's own.
    here = Path.cwd().resolve()
    for name in ("checkpoints", "plots"):
        with suppress(OSError):
            (folder / name).rmdir()
    for path in (folder, *(parent for parent in folder.resolve().parents if here in parent.parents)):
        try:
            path.rmdir()
        except OSError:
            return


def _explained(
    work: Callable[[], None], config_name: str, arguments: list[str], also: tuple[type[Exception], ...] = ()
) -> None:
    """Call ``work``; what Hydra and OmegaConf say about a wrong config, and ``also``, becomes a :class:`UserError`."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        work()
    except (HydraException, OmegaConfBaseException) as error:
        from cvkan.cli import overrides

        raise overrides.explain(error, config_name, arguments) from error
    except also as error:
        if isinstance(error, OSError) and error.filename:
            fix = "Check the path, and that you may write there."
            raise UserError(str(error.strerror), Path(error.filename), fix) from error
        raise UserError(str(error), "command line", "See --help.") from error
