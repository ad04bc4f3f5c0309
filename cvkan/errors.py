"""Errors that a command turns into one line and an exit code (see docs/architecture.md)."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """The user's input is at fault; a command prints one line and exits with code 2.

    Args:
        what: what is wrong, with the received value.
        where: the config key, file or line it was found at; empty if ``what`` says it.
        fix: what to do about it, as an imperative sentence.
    """

    exit_code = 2

    def __init__(self, what: str, where: str | Path = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what.rstrip(". \n"), str(where), fix
        place = f" ({where})" if self.where else ""
        super().__init__(f"{self.what}{place}. {fix}".strip())


class DataUnavailableError(UserError):
    """A data source is not on this machine and cannot be fetched."""


class DivergedError(Exception):
    """Training produced a non-finite loss or gradient; exit code 3."""

    exit_code = 3


class Interrupted(BaseException):
    """SIGINT or SIGTERM stopped the run after its last checkpoint was written; exit code 128 + signal.

    A ``BaseException``, as ``KeyboardInterrupt`` is: no ``except Exception`` may swallow it.
    """

    def __init__(self, signum: int, last_checkpoint: Path | None = None) -> None:
        self.signum, self.last_checkpoint = signum, last_checkpoint
        self.exit_code = 128 + signum
        super().__init__(f"interrupted by signal {signum}")


def one_line(error: BaseException) -> str:
    """What an error says, in one line.

    An error raised in a data loader's process arrives with that process's traceback for a message; what it
    said itself stands at the end.
    """
    text = str(error)
    if "Original Traceback" in text:
        text = text.rpartition(f"{type(error).__name__}: ")[2]
    return " ".join(text.split())
