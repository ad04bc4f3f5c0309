"""Frames in HDF5 files: ``X`` (N, T, 2) float32, ``Y`` (N, K) one-hot, ``Z`` (N, 1) dB; rows are read when asked for.

Files that cvkan wrote may also hold :mod:`~cvkan.domains.radio.marks` of their frames, such as ``id`` (N,), and the
attribute ``snr_definition``.

Legend: N rows of a file, T samples of a frame, K modulations, B frames of a batch.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cvkan.domains.radio.marks import MARK_FIX, MARKS, are_marks, no_marks
from cvkan.errors import UserError
from cvkan.radio.generator import SNR_DEFINITIONS

MAX_OPEN = 128  # files; the split layout has 624 and some systems open no more than 256
MAX_GAP = 4  # rows: reading so many in vain costs less than another request
BLOCK = 65536  # rows of Y read at a time: the whole of it is 490 MB
DATA_SETS = ("X", "Y", "Z")
SNR_DEFINITION = "snr_definition"  # the attribute that says what Z means


class Hdf5Store:
    """The rows of one or more files, numbered through in the order of the files.

    Each process opens the files for itself, at most ``MAX_OPEN`` at a time: HDF5 handles do not survive a fork.

    Args:
        paths: the files.
        n_rows: how many rows each of them has.
    """

    def __init__(self, paths: Sequence[Path], n_rows: Sequence[int]) -> None:
        self.paths = list(paths)
        self.first = np.cumsum([0, *n_rows])
        self._open: OrderedDict[int, h5py.File] = OrderedDict()
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The frames ``rows`` (B,), in that order: (B, T) complex64. Neighbouring rows are read at once.

        Raises:
            UserError: a file cannot be read.
        """
        order = np.argsort(rows, kind="stable")
        wanted = rows[order]
        of_file = np.searchsorted(self.first, wanted, side="right") - 1
        # A run ends where the next row is in another file or further away than MAX_GAP.
        ends = np.flatnonzero((np.diff(of_file) != 0) | (np.diff(wanted) > MAX_GAP)) + 1
        frames = None
        for run in np.split(np.arange(len(wanted)), ends):
            file, low = int(of_file[run[0]]), int(wanted[run[0]])
            block = self._block(file, low, int(wanted[run[-1]]) + 1)  # (b, T, 2)
            if frames is None:
                frames = np.empty((len(rows), *block.shape[1:]), dtype=np.float32)
            frames[order[run]] = block[wanted[run] - low]
        assert frames is not None
        return frames.view(np.complex64)[..., 0]  # (B, T)

    def describe(self, row: int) -> str:
        file = int(np.searchsorted(self.first, row, side="right")) - 1
        return f"{self.paths[file]}, row {row - self.first[file]}"

    def _block(self, file: int, low: int, high: int) -> np.ndarray:
        offset = self.first[file]
        with explained(self.paths[file]):
            return self._handle(file)["X"][low - offset : high - offset].astype(np.float32, copy=False)

    def _handle(self, file: int) -> h5py.File:
        if self._pid != os.getpid():  # a loader process: the handles are those of its parent
            self._open, self._pid = OrderedDict(), os.getpid()
        if file in self._open:
            self._open.move_to_end(file)
        else:
            if len(self._open) == MAX_OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[file] = h5py.File(self.paths[file], "r")
        return self._open[file]


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What HDF5 says about a damaged file, as a :class:`UserError` that names it."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"the HDF5 file cannot be read: {reason}", path, "Copy it again.") from error


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file of frames and check the kinds of its data sets.

    Raises:
        UserError: it cannot be read, lacks a data set, or one is of another shape or type.
    """
    with explained(path):
        file = h5py.File(path, "r")
    with file:
        missing = [name for name in DATA_SETS if not isinstance(file.get(name), h5py.Dataset)]
        if missing:
            raise UserError(
                f"data set {missing[0]} is missing, the file holds {', '.join(file) or 'none'}", path, LAYOUT_FIX
            )
        x, y, z = (file[name] for name in DATA_SETS)
        n = len(x) if x.ndim else 0
        right = x.ndim == 3 and x.shape[2] == 2 and x.shape[1] > 0 and x.dtype.kind in "fi"
        right = right and y.ndim == 2 and y.dtype.kind in "iufb" and len(y) == n
        right = right and z.shape in ((n, 1), (n,)) and z.dtype.kind in "iuf"
        if not right or not n:
            found = ", ".join(f"{name} {file[name].dtype} {file[name].shape}" for name in DATA_SETS)
            raise UserError(f"the data sets are not frames with labels: {found}", path, LAYOUT_FIX)
        for name in MARKS:
            marks = file.get(name)
            right = isinstance(marks, h5py.Dataset) and are_marks(name, marks.shape, marks.dtype, n)
            if marks is not None and not right:
                raise UserError(f"the data set {name} holds no numbers of the rows", path, MARK_FIX)
        yield file


LAYOUT_FIX = "Save X float32 or signed integers (N, T, 2), Y one-hot (N, K) and Z dB (N, 1)."


def read_labels(file: h5py.File, rows: slice) -> dict[str, np.ndarray]:
    """Labels of some rows of an opened file.

    Returns:
        ``column`` (n,) uint8, the column of ``Y`` that is 1; ``snr_db`` (n,) float32; the marks int64, -1
        where the file holds none.

    Raises:
        UserError: a row of ``Y`` is not one-hot, or a mark is negative.
    """
    path = Path(file.filename)
    with explained(path):
        y, z = file["Y"][rows], file["Z"][rows]
        marks = {name: file[name][rows].astype(np.int64) for name in MARKS if name in file}
    one_hot = (y == 1).sum(axis=1) + (y == 0).sum(axis=1) == y.shape[1]
    one_hot &= (y == 1).sum(axis=1) == 1
    if not one_hot.all():
        raise UserError(f"row {rows.start + int(np.argmin(one_hot))} of Y is not one-hot", path, LAYOUT_FIX)
    for name, values in marks.items():
        if values.min() < 0:
            row = rows.start + int(np.argmin(values.reshape(len(y), -1).min(axis=1)))
            raise UserError(f"row {row} has a negative {name}", path, MARK_FIX)
    return {
        "column": y.argmax(axis=1).astype(np.uint8),
        "snr_db": z.reshape(-1).astype(np.float32),
        **{name: marks.get(name, no_marks(name, len(y))) for name in MARKS},
    }


def read_all_labels(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """The labels of all rows of some files, one file after another: those of :func:`read_labels`, read in blocks."""
    blocks = []
    for path in paths:
        with opened(path) as file:
            blocks += [read_labels(file, slice(low, low + BLOCK)) for low in range(0, len(file["X"]), BLOCK)]
    labels = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    # Published files hold no marks: not worth keeping.
    return {name: values for name, values in labels.items() if name not in MARKS or (values >= 0).any()}


def read_snr_definition(file: h5py.File) -> str | None:
    """What the SNR of an opened file means, ``es_n0`` or ``sample``; None where it does not say.

    Raises:
        UserError: it says something else.
    """
    definition = file.attrs.get(SNR_DEFINITION)
    if definition is not None and str(definition) not in SNR_DEFINITIONS:
        raise UserError(
            f"unknown {SNR_DEFINITION} {definition!r}",
            file.filename,
            f"Set the attribute to {' or '.join(SNR_DEFINITIONS)}, or delete it.",
        )
    return None if definition is None else str(definition)


def sampled_content(path: Path, n_rows: int) -> bytes:
    """The size of a file and up to ``n_rows`` evenly spaced rows of its ``X``, for a digest.

    Raises:
        UserError: the file cannot be read.
    """
    with explained(path), h5py.File(path, "r") as file:
        x = file["X"]
        rows = np.unique(np.linspace(0, len(x) - 1, n_rows).astype(np.int64))
        return str(path.stat().st_size).encode() + b"".join(x[row].tobytes() for row in rows)
