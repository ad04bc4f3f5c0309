"""The folder that a conversion writes to: it is said to be unfinished until all of it is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cvkan.atomic import write_text
from cvkan.errors import UserError, one_line

LOCK = ".writing.lock"  # in the root of a tree while a process writes to it
UNFINISHED = "UNFINISHED.txt"  # in the root of a tree of which a part is not written yet
NOTE = "cvkan-data convert has not written all of this folder. Run the same command again to go on.\n"
TARGET_FIX = "Set to=DIR to another folder, or delete it."


@contextmanager
def unfinished(to: Path) -> Iterator[None]:
    """Mark a folder until the block is done; where it is cut short, by whatever, the mark stays.

    Raises:
        UserError: another process is at it.
    """
    mark, lock = to / UNFINISHED, FileLock(to / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError("another process is writing this folder", to, "Wait for it, or end it.") from error
    try:
        write_text(mark, NOTE)
        yield
        mark.unlink()
    finally:
        with suppress(OSError):  # some systems remove no file that is open
            (to / LOCK).unlink()
        lock.release()


def refuse_unfinished(root: Path) -> None:
    """Refuse a folder of which a conversion has written a part alone.

    Raises:
        UserError: it is marked so.
    """
    if (root / UNFINISHED).exists():
        raise UserError(
            "the conversion that writes this folder was not finished",
            root,
            "Run the same cvkan-data convert again, it goes on; or delete the folder.",
        )


@contextmanager
def written_to(to: Path) -> Iterator[None]:
    """Say in one line what the system says about a place that cannot be written, or a disk that is full.

    Raises:
        UserError: the block met such an error.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else one_line(error)
        fix = "Make room, or set to=DIR to a folder that can be written."
        raise UserError(f"the data cannot be written: {reason}", error.filename or to, fix) from error
