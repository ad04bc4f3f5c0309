"""``data=rml2016``: RadioML 2016.10a, a pickled dict ``{(modulation, snr): frames (n, 2, T)}``.

Source: T. J. O'Shea, N. West, "Radio machine learning dataset generation with GNU Radio", 2016.

Legend: n frames of a cell, T samples of a frame.
"""

from __future__ import annotations

import math
from typing import Unpack

import numpy as np

from cvkan.domains.radio.array_pickle import load_arrays
from cvkan.domains.radio.choosing import listed
from cvkan.domains.radio.frames import ArrayStore
from cvkan.domains.radio.stored import FrameIndex, StoredLoading, StoredRadio, digest_of_files
from cvkan.errors import DataUnavailableError, UserError

FIX = "It should be a pickled dict {(modulation, snr): floats (n, 2, T)}."


class RML2016(StoredRadio):
    """RadioML 2016.10a (11 modulations, -20 to 18, frames of 128 samples) and others of its kind, held in memory.

    The labels of the set are taken as they stand, but they are no dB: its noise has the amplitude 10^(-label / 10), so
    one step of the label is two of the SNR.

    Args:
        file: name of the pickle in ``root``. It is read by :func:`~cvkan.domains.radio.array_pickle.load_arrays`, which
            runs no code out of it.
        loading: see :class:`~cvkan.domains.radio.stored.StoredLoading`.

    Raises:
        DataUnavailableError: the file is missing.
        UserError: the file is no pickle of arrays, or not as described.
    """

    def __init__(self, *, file: str, **loading: Unpack[StoredLoading]) -> None:
        super().__init__(**loading)
        self.path = self.root / file
        if not self.path.is_file():
            found = listed(sorted(path.name for path in self.root.glob("*.pkl")))
            raise DataUnavailableError(
                f"there is no file {file}; pickles there: {found}", self.root, "Set data.file or data.root."
            )
        self.cells = self._checked(load_arrays(self.path))
        names, levels = zip(*self.cells, strict=True)
        n_samples = next(iter(self.cells.values())).shape[2]
        self.spec = self.chosen_spec(set(names), set(levels), n_samples)

    def index(self) -> FrameIndex:
        sizes = [len(cell) for cell in self.cells.values()]
        names = sorted({name for name, _ in self.cells})
        x = np.empty((sum(sizes), *self.spec.input_shape), dtype=np.complex64)
        x.real, x.imag = (np.concatenate([cell[:, rail] for cell in self.cells.values()]) for rail in (0, 1))
        rows = np.arange(len(x))
        index = FrameIndex(
            store=ArrayStore(x, self.path.name),
            rows=rows,
            modulation=np.repeat([names.index(name) for name, _ in self.cells], sizes),
            names=names,
            snr_db=np.repeat(np.array([level for _, level in self.cells], dtype=np.float32), sizes),
            ids=rows,
        )
        self.cells = {}  # the store holds a copy: a large set must not stay in memory twice
        return index

    def content_digest(self) -> str:
        return digest_of_files([self.path])

    def _checked(self, content: object) -> dict[tuple[str, float], np.ndarray]:
        """The cells in the order of (modulation, SNR), so that the ids of frames do not depend on that of the file."""
        if not isinstance(content, dict) or not content:
            raise UserError(f"the pickle holds a {type(content).__name__}, no dict of cells", self.path, FIX)
        cells: dict[tuple[str, float], np.ndarray] = {}
        for key, frames in content.items():
            match key:
                case (str(name), int() | float() as level):
                    if not math.isfinite(level):
                        raise UserError(f"the key {key!r:.80} names no finite SNR", self.path, FIX)
                    cells[name, float(level)] = frames
                case _:
                    raise UserError(f"the key {key!r:.80} is no pair of modulation and SNR", self.path, FIX)
            if not isinstance(frames, np.ndarray) or frames.dtype.kind != "f":
                found = frames.dtype if isinstance(frames, np.ndarray) else type(frames).__name__
                raise UserError(f"the cell {key} holds {found}, no floats", self.path, FIX)
            shape = next(iter(cells.values())).shape
            if frames.ndim != 3 or frames.shape[1:] != (2, *shape[2:]) or 0 in frames.shape:
                raise UserError(f"the cell {key} has the shape {frames.shape}", self.path, FIX)
        return dict(sorted(cells.items()))
