"""Files that hold one long I/Q signal: NumPy arrays and raw samples, read a stretch at a time.

Legend: L samples of a file, n samples read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from cvkan.errors import UserError

# What one rail of a sample is stored as, the number that means 0, and what is added to it for 1; by the names of SigMF.
DATATYPES = {
    "cf32_le": ("<f4", 0, 1),
    "cf32_be": (">f4", 0, 1),
    "cf64_le": ("<f8", 0, 1),
    "cf64_be": (">f8", 0, 1),
    "ci16_le": ("<i2", 0, 32768),
    "ci16_be": (">i2", 0, 32768),
    "ci8": ("i1", 0, 128),
    "cu8": ("u1", 127.5, 127.5),
}
# What a raw file holds by its name. SigMF's own data files need their metadata.
SUFFIXES = {
    **{".cf32": "cf32_le", ".fc32": "cf32_le", ".sc16": "ci16_le", ".cs16": "ci16_le"},
    **{".cs8": "ci8", ".cu8": "cu8"},
}
NPY_FIX = "Save one signal: complex (L,), or real and imaginary parts (L, 2) or (2, L)."


class SignalFile(Protocol):
    """One signal in a file."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def n_samples(self) -> int:
        """Its length L."""

    def read(self, start: int, n: int) -> np.ndarray:
        """Samples ``start`` to ``start + n``: (n,) complex64."""


@dataclass(frozen=True)
class RawSignal:
    """Interleaved samples I, Q, I, Q without a header.

    Attributes:
        path: the file.
        n_samples: its length.
        rail: type of one number.
        zero: the number that means 0.
        full_scale: what is added to it for 1.
    """

    path: Path
    n_samples: int
    rail: np.dtype
    zero: float
    full_scale: float

    def read(self, start: int, n: int) -> np.ndarray:
        try:
            rails = np.fromfile(self.path, self.rail, count=2 * n, offset=2 * start * self.rail.itemsize)
        except OSError as error:
            raise UserError(f"the recording cannot be read: {error.strerror}", self.path, "Check the file.") from error
        if len(rails) != 2 * n:
            raise UserError(f"the recording ends before sample {start + n}", self.path, "Copy it again.")
        return ((rails.astype(np.float32) - np.float32(self.zero)) / np.float32(self.full_scale)).view(np.complex64)


@dataclass(frozen=True)
class NpySignal:
    """A NumPy array of a complex signal, or of its two rails along ``axis``.

    Attributes:
        path: the file.
        n_samples: its length.
        axis: which axis counts real and imaginary part; None where the array is complex.
    """

    path: Path
    n_samples: int
    axis: int | None

    def read(self, start: int, n: int) -> np.ndarray:
        array = _mapped(self.path)
        if self.axis is None:
            return array[start : start + n].astype(np.complex64)
        stretch = array[start : start + n] if self.axis == 1 else array[:, start : start + n].T  # (n, 2)
        return np.ascontiguousarray(stretch, dtype=np.float32).view(np.complex64)[:, 0]


def open_raw(path: Path, datatype: str) -> RawSignal:
    """A file of raw samples.

    Args:
        path: the file.
        datatype: one of :data:`DATATYPES`.

    Raises:
        UserError: the datatype is unknown, or the file is empty or no whole number of samples.
    """
    if datatype not in DATATYPES:
        raise UserError(f"unknown datatype {datatype!r}", path, f"Known: {', '.join(DATATYPES)}.")
    name, zero, full_scale = DATATYPES[datatype]
    rail, size = np.dtype(name), path.stat().st_size
    if not size:
        raise UserError("the recording is empty", path, "Replace or delete it.")
    if size % (2 * rail.itemsize):
        raise UserError(
            f"{size} bytes are no whole number of {datatype} samples of {2 * rail.itemsize} bytes",
            path,
            "The file is cut short, or of another type.",
        )
    return RawSignal(path, size // (2 * rail.itemsize), rail, zero, full_scale)


def open_npy(path: Path) -> NpySignal:
    """A NumPy file with one signal.

    Raises:
        UserError: it is damaged, pickled, empty or no signal.
    """
    array = _mapped(path)
    if array.dtype.kind == "c" and array.ndim == 1 and array.size:
        return NpySignal(path, len(array), None)
    if array.dtype.kind in "fi" and array.ndim == 2 and array.size and 2 in array.shape:
        axis = 1 if array.shape[1] == 2 else 0
        return NpySignal(path, array.shape[1 - axis], axis)
    raise UserError(f"the array is {array.dtype} {array.shape}, no signal", path, NPY_FIX)


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"not a readable npy file: {reason}", path, NPY_FIX) from error
