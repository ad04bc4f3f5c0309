"""metrics.csv: the history of a run, kept whole over interruptions."""

from __future__ import annotations

import csv
import io
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from cvkan.atomic import atomic_file, write_text
from cvkan.checkpointing import read_checkpoint
from cvkan.run_directory import RunDirectory

Row = dict[str, Any]


class MetricsCSV(Logger):
    """Log to one CSV file: columns ``step``, ``epoch`` and one per metric; appends to a file that exists.

    Lightning's ``CSVLogger`` deletes an existing file and adds a folder per version and an hparams file.

    Args:
        path: the file, usually ``<run>/metrics.csv``.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._rows: list[Row] = []

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Nothing: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._rows.append({"step": step, **{name: float(value) for name, value in metrics.items()}})

    @rank_zero_only
    def save(self) -> None:
        """Write the rows logged since the last call; Lightning calls it after each of its own rows."""
        if not self._rows:
            return
        for row in self._rows:
            if "epoch" in row:
                row["epoch"] = int(row["epoch"])
        columns, rows = _read(self.path, header_only=True)
        if set().union(*self._rows) <= set(columns):
            with open(self.path, "a", newline="") as file:
                csv.DictWriter(file, columns).writerows(self._rows)
        else:
            _, rows = _read(self.path)
            _write(self.path, rows + self._rows)
        self._rows = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


def carry_history(ckpt: Path, run: RunDirectory) -> None:
    """Make the run directory whole up to a checkpoint that a run is about to resume from.

    Rows of ``metrics.csv`` that were logged after the checkpoint are dropped: the resumed run logs them
    again. If ``run`` is not the checkpoint's own directory, the earlier rows, ``last.ckpt`` and ``best.ckpt``
    are copied to it (``best.ckpt`` only if it is not younger than the checkpoint).

    Args:
        ckpt: the checkpoint to resume from; its history is found if it lies in a run's ``checkpoints/``.
        run: directory of the resumed run; may be the checkpoint's own.

    Raises:
        UserError: the checkpoint cannot be read.
    """
    step = read_checkpoint(ckpt)["global_step"]
    source = ckpt.resolve().parent.parent
    has_history = ckpt.resolve().parent.name == run.checkpoints.name
    old_csv = source / run.metrics_csv.name
    if has_history and old_csv.exists():
        _, rows = _read(old_csv)
        _write(run.metrics_csv, [row for row in rows if row["step"].isdigit() and int(row["step"]) < step])
    if source == run.path.resolve() and has_history:
        return
    _copy(ckpt, run.last)
    old_best = source / run.checkpoints.name / run.best.name
    if has_history and old_best.exists() and read_checkpoint(old_best)["global_step"] <= step:
        _copy(old_best, run.best)


def _read(path: Path, header_only: bool = False) -> tuple[list[str], list[Row]]:
    """Columns and rows of a CSV file, without a last row that a killed process left unfinished."""
    if not path.exists():
        return [], []
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        rows = [] if header_only else [row for row in reader if None not in row and None not in row.values()]
    return columns, rows


def _write(path: Path, rows: list[Row]) -> None:
    names = sorted(set().union(*rows)) if rows else []
    first = [name for name in ("step", "epoch") if name in names]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, first + [name for name in names if name not in first])
    if rows:
        writer.writeheader()
        writer.writerows(rows)
    write_text(path, text.getvalue())


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as old, atomic_file(target) as new:
        shutil.copyfileobj(old, new)
