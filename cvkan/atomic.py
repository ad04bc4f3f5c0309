"""Files that are either whole or absent, whatever interrupts their writing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when it is complete and on the disk.

    Args:
        path: the final name; a file that stands there is replaced, and kept if the block raises.
        durable: it survives a power cut as well. Waiting for the disk takes a hundred times as long as a small file
            does; one of a million that can be made again need not.

    Yields:
        A binary file opened beside ``path``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # also an interrupt: no half-written file stays behind
        temporary.unlink(missing_ok=True)
        raise
    # The rename itself must survive a power cut too; Windows cannot open a folder for this.
    if durable and os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text through :func:`atomic_file`."""
    with atomic_file(path) as file:
        file.write(text.encode())


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed process left of :func:`atomic_file`; no other process may be writing there."""
    for temporary in folder.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)
