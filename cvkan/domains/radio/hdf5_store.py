"""Frames in HDF5 files: ``X`` (N, T, 2) float32, ``Y`` (N, K) one-hot, ``Z`` (N, 1) dB; rows are read when asked for.

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

from cvkan.errors import UserError

MAX_OPEN = 128  # files; the split layout has 624 and some systems open no more than 256
MAX_GAP = 4  # rows: reading so many in vain costs less than another request
BLOCK = 65536  # rows of Y read at a time: the whole of it is 490 MB
DATA_SETS = ("X", "Y", "Z")


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
        right = x.ndim == 3 and x.shape[2] == 2 and x.shape[1] > 0 and x.dtype.kind == "f"
        right = right and y.ndim == 2 and y.dtype.kind in "iufb" and len(y) == n
        right = right and z.shape in ((n, 1), (n,)) and z.dtype.kind in "iuf"
        if not right or not n:
            found = ", ".join(f"{name} {file[name].dtype} {file[name].shape}" for name in DATA_SETS)
            raise UserError(f"the data sets are not frames with labels: {found}", path, LAYOUT_FIX)
        yield file


LAYOUT_FIX = "Save X float32 (N, T, 2), Y one-hot (N, K) and Z dB (N, 1)."


def read_labels(file: h5py.File, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Labels of some rows of an opened file.

    Returns:
        The column of ``Y`` that is 1, (n,) uint8, and the SNR in dB, (n,) float32.

    Raises:
        UserError: a row of ``Y`` is not one-hot.
    """
    path = Path(file.filename)
    with explained(path):
        y, z = file["Y"][rows], file["Z"][rows]
    one_hot = (y == 1).sum(axis=1) + (y == 0).sum(axis=1) == y.shape[1]
    one_hot &= (y == 1).sum(axis=1) == 1
    if not one_hot.all():
        raise UserError(f"row {rows.start + int(np.argmin(one_hot))} of Y is not one-hot", path, LAYOUT_FIX)
    return y.argmax(axis=1).astype(np.uint8), z.reshape(-1).astype(np.float32)


def read_all_labels(path: Path) -> dict[str, np.ndarray]:
    """The labels of every row, a block at a time: ``column`` (N,) uint8 and ``snr_db`` (N,) float32."""
    with opened(path) as file:
        blocks = [read_labels(file, slice(low, low + BLOCK)) for low in range(0, len(file["X"]), BLOCK)]
    columns, levels = zip(*blocks, strict=True)
    return {"column": np.concatenate(columns), "snr_db": np.concatenate(levels)}
