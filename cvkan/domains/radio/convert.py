"""Writing the frames of any radio source in another layout, a cell at a time; an interrupted conversion goes on.

Legend: N rows, T samples of a frame, K modulations.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from cvkan.atomic import atomic_file, remove_leftovers
from cvkan.domains.datamodule import DataModule
from cvkan.domains.radio.layout import CellLayout, cell_file
from cvkan.domains.radio.source import DIGEST, Source, level_type, source_of, tracked
from cvkan.domains.radio.target import TARGET_FIX, unfinished, written_to
from cvkan.errors import UserError


class LayoutWriter(Protocol):
    """Writes a source in one layout."""

    def write(self, data: DataModule, to: Path) -> None:
        """Write all frames of a data source below the folder ``to``.

        Raises:
            UserError: they are no I/Q frames or do not fit the layout, something else is there, or nothing can be
                written.
        """


class SplitWriter:
    """``layout=rml_split``: one HDF5 file a cell, ``MOD/SNR_s/MOD_SNR_s.h5``. Cells that are there are kept."""

    def write(self, data: DataModule, to: Path) -> None:
        source = source_of(data)
        with written_to(to):
            _check_cells(to, source)
            to.mkdir(parents=True, exist_ok=True)
            with unfinished(to):
                for modulation, snr_db, positions in tracked(source):
                    path = to / cell_file(modulation, snr_db)
                    if not path.exists():
                        path.parent.mkdir(parents=True, exist_ok=True)
                        remove_leftovers(path.parent)
                        image = _file_image(source, source.arrays(source.layout, modulation, snr_db, positions))
                        with atomic_file(path) as target:
                            target.write(image)


class OneFileWriter:
    """``layout=rml2018``: one HDF5 file with the rows in the order of :class:`CellLayout`.

    It grows beside its final name, each cell marked when it is on the disk, and takes that name when it is whole.

    Args:
        file: its name in the folder.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def write(self, data: DataModule, to: Path) -> None:
        source, path = source_of(data), to / self.file
        if path.exists():
            _check_origin(path, source)
            return
        layout = _complete_layout(source)
        with written_to(to):
            to.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.partial")
            self._fill(partial, layout, source)
            os.replace(partial, path)

    def _fill(self, partial: Path, layout: CellLayout, source: Source) -> None:
        """Write all cells that are not marked as done."""
        with _resumed(partial, layout, source) as file:
            for modulation, snr_db, positions in tracked(source):
                first = layout.first_row(modulation, snr_db)
                cell = first // layout.frames_per_cell
                if file["done"][cell]:
                    continue
                for name, array in source.arrays(layout, modulation, snr_db, positions).items():
                    file[name][first : first + layout.frames_per_cell] = array
                _sync(file)  # the mark must not reach the disk before the rows
                file["done"][cell] = True
            del file["done"]
            _sync(file)


def _file_image(source: Source, arrays: dict[str, np.ndarray]) -> bytes:
    """The file of a cell, made in memory: a cell is 32 MB, and HDF5 needs a file that it can read, too."""
    with h5py.File("cell", "w", driver="core", backing_store=False) as file:
        file.attrs.update(source.attributes(source.layout))
        for name, array in arrays.items():
            file[name] = array
        file.flush()
        return file.id.get_file_image()


def _complete_layout(source: Source) -> CellLayout:
    """The layout of a file that holds just these cells, all of them and equally large."""
    sizes = {(modulation, snr_db): len(positions) for modulation, snr_db, positions in source.cells()}
    if len(sizes) < source.n_cells or len(set(sizes.values())) > 1:
        raise UserError(
            f"{len(sizes)} of {source.n_cells} cells hold {min(sizes.values())} to {max(sizes.values())} frames",
            "layout=rml2018",
            "One file needs all cells, equally large: use layout=rml_split, or choose data.classes and data.snr_db.",
        )
    layout = source.layout.restricted(source.spec)
    return CellLayout(layout.classes, layout.snr_db, next(iter(sizes.values())))


def _resumed(partial: Path, layout: CellLayout, source: Source) -> h5py.File:
    """The file that an interrupted conversion of the same data left, or a new one."""
    attributes = source.attributes(layout)
    if partial.exists():
        try:
            file = h5py.File(partial, "r+")
            if all(np.array_equal(file.attrs[name], value) for name, value in attributes.items()) and "done" in file:
                return file
            file.close()
        except BlockingIOError as error:
            raise UserError("another process is writing this file", partial, "Wait for it, or end it.") from error
        except (OSError, KeyError):  # killed before its head was written
            pass
        partial.unlink()
    return _created(partial, layout, source, attributes)


def _created(partial: Path, layout: CellLayout, source: Source, attributes: dict[str, Any]) -> h5py.File:
    """A file with all its data sets, of which no cell is done. It has its room on the disk from the beginning."""
    n = layout.n_rows
    data_sets: dict[str, tuple[tuple[int, ...], type]] = {
        "X": ((n, *source.spec.input_shape, 2), np.float32),
        "Y": ((n, len(layout.classes)), np.int64),
        "Z": ((n, 1), level_type(layout)),
        **{name: ((n, *numbers.shape[1:]), np.int64) for name, numbers in source.marks.items()},
    }
    # Asked for with a plain file first: HDF5 brings the process down where it cannot write.
    with tempfile.TemporaryFile(dir=partial.parent) as room:
        _reserve(room.fileno(), sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in data_sets.values()))
    placed = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    placed.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    placed.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # every row is written; 21 GB of zeros would be written first
    file = h5py.File(partial, "w")
    for name, (shape, kind) in data_sets.items():
        file.create_dataset(name, shape, kind, dcpl=placed)
    file["done"] = np.zeros(n // layout.frames_per_cell, dtype=bool)
    file.attrs.update(attributes)
    _sync(file)
    _reserve(file.id.get_vfd_handle(), file.id.get_filesize())
    return file


def _reserve(file: int, n_bytes: int) -> None:
    """Take room on the disk for an opened file, on the systems that can be asked for it."""
    if sys.platform == "linux":
        os.posix_fallocate(file, 0, n_bytes)


def _check_cells(to: Path, source: Source) -> None:
    """All cells that are there were made from the same data, and nothing else is there."""
    for path in sorted(to.glob("*/SNR_*/*.h5")):
        _check_origin(path, source)
    for path in to.glob("*/SNR_*/[!.]*"):
        if path.suffix != ".h5":
            raise UserError("the folder holds other data", path, TARGET_FIX)


def _check_origin(path: Path, source: Source) -> None:
    """A file that is there was made from the same data, so that it need not be written again."""
    try:
        with h5py.File(path, "r") as file:
            same = file.attrs.get(DIGEST) == source.digest
    except OSError:
        same = False
    if not same:
        raise UserError("there is a file that was not made from this data, or by an older version", path, TARGET_FIX)


def _sync(file: h5py.File) -> None:
    file.flush()
    os.fsync(file.id.get_vfd_handle())
