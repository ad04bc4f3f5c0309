"""``data=rml2018`` and ``data=rml_split``: RadioML 2018.01A in one HDF5 file, or in one file a cell.

Source: T. J. O'Shea, T. Roy, T. C. Clancy, "Over-the-air deep learning based radio signal classification", 2018.

Legend: N rows, T samples of a frame, K modulations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import h5py
import numpy as np

from cvkan.domains.cache import cached_arrays
from cvkan.domains.radio.choosing import listed
from cvkan.domains.radio.hdf5_store import (
    Hdf5Store,
    opened,
    read_all_labels,
    read_snr_definition,
    sampled_content,
)
from cvkan.domains.radio.layout import LAYOUT_FIX, CellLayout, LayoutOptions, cell_file, cell_folders
from cvkan.domains.radio.marks import MARKS, completed
from cvkan.domains.radio.scanning import state_of_files
from cvkan.domains.radio.stored import FrameIndex, StoredLoading, StoredRadio
from cvkan.errors import DataUnavailableError, UserError

SAMPLED_ROWS = 64  # frames of a file that identify its signals
SAMPLED_ROWS_OF_CELL = 4  # of a file of the split layout: there are hundreds


class RadioML2018(StoredRadio):
    """One HDF5 file; the row of a frame follows from its cell (:class:`CellLayout`), and the labels must agree.

    The id of a frame is its row, unless the file has a data set ``id``, as those that cvkan wrote from other data.
    All labels are read once and kept in the user's cache; frames are read when a batch asks for them.

    Args:
        file: name of the HDF5 file in ``root``.
        layout: the order of its rows.
        loading: see :class:`~cvkan.domains.radio.stored.StoredLoading`.

    Raises:
        DataUnavailableError: the file is missing.
        UserError: the file is damaged or not as described, or a row has another label than the layout says.
    """

    def __init__(self, *, file: str, layout: LayoutOptions, **loading: Unpack[StoredLoading]) -> None:
        super().__init__(**loading)
        self.path = self.root / file
        if not self.path.is_file():
            found = listed(sorted(path.name for path in self.root.glob("*.h*5")))
            raise DataUnavailableError(
                f"there is no file {file}; HDF5 files there: {found}", self.root, "Set data.file or data.root."
            )
        with opened(self.path) as handle:
            self._layout = layout.resolve(handle.attrs, self.path)
            self.snr_definition = read_snr_definition(handle)
            _check_columns(handle, self._layout)
            n_rows, n_samples, _ = handle["X"].shape
        if n_rows != self._layout.n_rows:
            raise UserError(
                f"the file has {n_rows} rows, {self._layout} make {self._layout.n_rows}", self.path, LAYOUT_FIX
            )
        self.spec = self.chosen_spec(self._layout.classes, self._layout.snr_db, n_samples)

    def layout(self) -> CellLayout:
        return self._layout

    def index(self) -> FrameIndex:
        modulation, snr_db = self._layout.labels()
        labels = _labels([self.path])
        wrong = np.flatnonzero((labels["column"] != modulation) | (labels["snr_db"] != snr_db))
        if len(wrong):
            row = int(wrong[0])
            names = self._layout.classes
            raise UserError(
                f"row {row} is labelled {names[labels['column'][row]]} at {labels['snr_db'][row]:g} dB, "
                f"by its place it is {names[modulation[row]]} at {snr_db[row]:g} dB",
                self.path,
                LAYOUT_FIX,
            )
        rows = np.arange(self._layout.n_rows)
        store, marks = Hdf5Store([self.path], [len(rows)]), completed(labels, rows, self.path)
        return FrameIndex(store, rows, modulation, self._layout.classes, snr_db, *marks)

    def origin(self) -> str:
        return state_of_files([self.path])

    def content_digest(self) -> str:
        """SHA-256 of the size of the file, of some of its frames and of all its labels."""
        digest = hashlib.sha256(sampled_content(self.path, SAMPLED_ROWS))
        for _, labels in sorted(_labels([self.path]).items()):
            digest.update(labels.tobytes())
        return digest.hexdigest()


class RadioMLSplit(StoredRadio):
    """One HDF5 file a cell, ``ROOT/MOD/SNR_s/MOD_SNR_s.h5``; a cell may be missing or hold fewer frames.

    All labels are read once and kept in the user's cache. Ids are as in :class:`RadioML2018`.

    Args:
        layout: numbers the frames and names the columns of ``Y``.
        loading: see :class:`~cvkan.domains.radio.stored.StoredLoading`.

    Raises:
        DataUnavailableError: there is no such folder, or none of the files in it.
        UserError: a folder or file is not as described, damaged, or labelled otherwise than its name says.
    """

    def __init__(self, *, layout: LayoutOptions, **loading: Unpack[StoredLoading]) -> None:
        super().__init__(**loading)
        self.paths = {(name, level): self.root / cell_file(name, level) for _, name, level in cell_folders(self.root)}
        missing = [path for path in self.paths.values() if not path.is_file()]
        if missing or not self.paths:
            raise DataUnavailableError(
                f"there is no file {missing[0].name if missing else 'MOD/SNR_s/MOD_SNR_s.h5'}",
                missing[0].parent if missing else self.root,
                "Set data.root to a data set in the split layout.",
            )
        first = next(iter(self.paths.values()))
        with opened(first) as handle:
            self._layout = layout.resolve(handle.attrs, first)
            self.snr_definition = read_snr_definition(handle)
            n_samples = handle["X"].shape[1]
        for (name, level), path in self.paths.items():
            if name not in self._layout.classes or level not in self._layout.snr_db:
                raise UserError(f"the layout has no {name} at {level:g} dB", path, LAYOUT_FIX)
        names, levels = zip(*self.paths, strict=True)
        self.spec = self.chosen_spec(set(names), set(levels), n_samples)

    def layout(self) -> CellLayout:
        return self._layout

    def index(self) -> FrameIndex:
        chosen = self._chosen_cells()
        sizes = [self._checked_size(*cell) for cell in chosen]
        first = [self._layout.first_row(*cell) for cell in chosen]
        names, levels = zip(*chosen, strict=True)
        store, rows = Hdf5Store([self.paths[cell] for cell in chosen], sizes), np.arange(sum(sizes))
        modulation = np.repeat([self._layout.classes.index(name) for name in names], sizes)
        snr_db = np.repeat(np.array(levels, dtype=np.float32), sizes)
        labels = _labels(store.paths)
        wrong = np.flatnonzero((labels["column"] != modulation) | (labels["snr_db"] != snr_db))
        if len(wrong):
            row = int(wrong[0])
            found = f"{self._layout.classes[labels['column'][row]]} at {labels['snr_db'][row]:g} dB"
            expected = f"{self._layout.classes[modulation[row]]} at {snr_db[row]:g} dB"
            raise UserError(
                f"a row is labelled {found}, by its folder it is {expected}", store.describe(row), LAYOUT_FIX
            )
        places = np.concatenate([start + np.arange(size) for start, size in zip(first, sizes, strict=True)])
        marks = completed(labels, places, self.root)
        return FrameIndex(store, rows, modulation, self._layout.classes, snr_db, *marks)

    def origin(self) -> str:
        return state_of_files(self.paths[cell] for cell in self._chosen_cells())

    def content_digest(self) -> str:
        """SHA-256 of the names and sizes of the files and of some frames of each; :meth:`index` checks the labels."""
        digest = hashlib.sha256()
        for path in sorted(self.paths.values()):
            digest.update(path.name.encode() + sampled_content(path, SAMPLED_ROWS_OF_CELL))
        return digest.hexdigest()

    def _chosen_cells(self) -> list[tuple[str, float]]:
        return [cell for cell in self.paths if cell[0] in self.spec.class_names and cell[1] in self.spec.snr_db]

    def _checked_size(self, name: str, level: float) -> int:
        """Rows of a cell whose frames have the length of the others and whose SNR means the same."""
        path = self.paths[name, level]
        with opened(path) as handle:
            n_rows, n_samples, _ = handle["X"].shape
            _check_columns(handle, self._layout)
            definition = read_snr_definition(handle)
        if definition != self.snr_definition:
            raise UserError(
                f"the snr_definition is {definition}, that of other files {self.snr_definition}",
                path,
                "Keep data of different definitions in different folders.",
            )
        if (n_samples,) != self.spec.input_shape:
            raise UserError(
                f"frames have {n_samples} samples, those of other files {self.spec.input_shape[0]}",
                path,
                "Make all one length.",
            )
        if n_rows > self._layout.frames_per_cell:
            raise UserError(
                f"the file has {n_rows} frames, the layout {self._layout.frames_per_cell} a cell", path, LAYOUT_FIX
            )
        return n_rows


def _labels(paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """All labels of some files; another file, size or time of change means another entry of the cache."""
    state = hashlib.sha256(state_of_files(paths).encode()).hexdigest()[:32]
    return cached_arrays(f"radio_labels_{'_'.join(MARKS)}_{state}", lambda: read_all_labels(paths))


def _check_columns(handle: h5py.File, layout: CellLayout) -> None:
    if handle["Y"].shape[1] != len(layout.classes):
        raise UserError(
            f"Y has {handle['Y'].shape[1]} columns, the layout {len(layout.classes)} modulations",
            handle.filename,
            LAYOUT_FIX,
        )
