"""How far a run has come, read from its ``metrics.csv`` while it is written."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

TAIL_BYTES = 2**16  # of a long history; far more than one epoch's rows


class Progress(NamedTuple):
    """Epochs that are validated, and the last value of the monitored metric."""

    epochs: int
    value: float | None


def read_progress(run: Path, monitor: str | None) -> Progress:
    """Progress of the run in a folder; none if it has validated nothing yet.

    Args:
        run: the run directory.
        monitor: name of a metric that is logged once an epoch.
    """
    try:
        with open(run / "metrics.csv", "rb") as file:
            header = file.readline()
            start = file.tell()
            file.seek(0, 2)
            file.seek(max(start, file.tell() - TAIL_BYTES))
            lines = file.read().decode().splitlines()
    except OSError:
        return Progress(0, None)
    columns = next(csv.reader([header.decode()]), [])
    # The first line may be cut off, and the last one half written.
    for row in reversed(list(csv.DictReader(lines, columns))):
        value, epoch = row.get(monitor), row.get("epoch")
        if value and epoch and epoch.isdigit() and None not in row and None not in row.values():
            return Progress(int(epoch) + 1, float(value))
    return Progress(0, None)
