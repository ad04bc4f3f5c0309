"""Writing the frames of any radio source in another layout, a cell at a time; an interrupted conversion goes on.

Legend: N rows, T samples of a frame, K modulations, b frames of a cell.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
import torch
from torch import Tensor

from cvkan.atomic import atomic_file
from cvkan.domains.datamodule import DataModule
from cvkan.domains.radio.base import RadioData, RadioSplit
from cvkan.domains.radio.frames import JoinedFrames
from cvkan.domains.radio.hdf5_store import GROUPS, IDS, SNR_DEFINITION
from cvkan.domains.radio.layout import CellLayout, cell_file, layout_of
from cvkan.domains.radio.stored import StoredRadio
from cvkan.errors import UserError
from cvkan.spec import Spec

DIGEST = "source"  # attribute of a written file: what it was made from
TARGET_FIX = "Set to=DIR to another folder, or delete it."


@dataclass(frozen=True)
class Source:
    """Frames to be written.

    Attributes:
        frames: all of them, those of a cell in the order that they are numbered in.
        spec: names their labels.
        layout: of the data they come from.
        digest: identifies that data.
        snr_definition: what the SNR of the labels means; None where nobody has said.
        marks: numbers (n,) int64 that a copy keeps, so that it is split as the original: ``id``, and ``group`` where
            frames were cut from recordings. Generated frames have none: the ids of every part begin with 0.
    """

    frames: RadioSplit
    spec: Spec
    layout: CellLayout
    digest: str
    snr_definition: str | None
    marks: dict[str, Tensor]

    def cells(self) -> Iterator[tuple[str, float, Tensor]]:
        """Modulation, SNR in dB and positions (b,) of every cell, modulation-major."""
        cell = self.frames.labels[:, 0] * len(self.spec.snr_db) + self.frames.labels[:, 1]
        order = cell.argsort(stable=True)
        for positions in order.split(cell.bincount(minlength=self.n_cells).tolist()):
            if len(positions):
                modulation, snr = self.frames.labels[positions[0]].tolist()
                yield self.spec.class_names[modulation], self.spec.snr_db[snr], positions

    @property
    def n_cells(self) -> int:
        return len(self.spec.class_names) * len(self.spec.snr_db)

    def attributes(self, layout: CellLayout) -> dict[str, Any]:
        """Those of a file with this layout."""
        attributes = {**layout.attributes(), DIGEST: self.digest}
        return attributes if self.snr_definition is None else {**attributes, SNR_DEFINITION: self.snr_definition}

    def arrays(self, layout: CellLayout, modulation: str, snr_db: float, positions: Tensor) -> dict[str, np.ndarray]:
        """The data sets of a cell: ``X`` (b, T, 2) float32, ``Y`` (b, K) int64, ``Z`` (b, 1) int64 or float32.

        And the ``marks`` (b,) int64.
        """
        batch = self.frames.__getitems__(positions.tolist())  # type: ignore[attr-defined]
        y = np.zeros((len(positions), len(layout.classes)), dtype=np.int64)
        y[:, layout.classes.index(modulation)] = 1
        z: np.ndarray = np.full((len(positions), 1), snr_db, dtype=_level_type(layout))
        arrays = {"X": torch.view_as_real(batch["x"]).numpy(), "Y": y, "Z": z}
        return {**arrays, **{name: numbers[positions].numpy() for name, numbers in self.marks.items()}}


class LayoutWriter(Protocol):
    """Writes a source in one layout."""

    def write(self, data: DataModule, to: Path) -> None:
        """Write all frames of a data source below the folder ``to``.

        Raises:
            UserError: they are no I/Q frames or do not fit the layout, or something else is there.
        """


def source_of(data: DataModule) -> Source:
    """The frames of a data source.

    Raises:
        UserError: they are no I/Q frames.
    """
    if not isinstance(data, RadioData) or not data.spec.is_complex:
        raise UserError(f"{type(data).__name__} holds no I/Q frames", "data", "Choose a radio source, as data=rml2018.")
    if isinstance(data, StoredRadio):
        ids, groups = data.frames.ids, data.frames.groups
        marks = {IDS: ids} if torch.equal(ids, groups) else {IDS: ids, GROUPS: groups}
        digest = f"{data.content_digest()}:{hashlib.sha256(ids.numpy().tobytes()).hexdigest()}:{data.snr_definition}"
        return Source(data.frames, data.spec, data.layout(), digest, data.snr_definition, marks)
    data.setup()
    frames = JoinedFrames([data.splits[name] for name in data.splits])  # type: ignore[misc]
    layout, digest = layout_of(data.spec, frames.labels), f"{data.fingerprint()}:{data.snr_definition}"
    return Source(frames, data.spec, layout, digest, data.snr_definition, marks={})


class SplitWriter:
    """``layout=rml_split``: one HDF5 file a cell, ``MOD/SNR_s/MOD_SNR_s.h5``. Cells that are there are kept."""

    def write(self, data: DataModule, to: Path) -> None:
        source = source_of(data)
        for modulation, snr_db, positions in tracked(source):
            path = to / cell_file(modulation, snr_db)
            if path.exists():
                _check_origin(path, source)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            arrays = source.arrays(source.layout, modulation, snr_db, positions)
            # In memory first: a cell is 32 MB, and HDF5 needs a file that it can read, too.
            with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
                file.attrs.update(source.attributes(source.layout))
                for name, array in arrays.items():
                    file[name] = array
                file.flush()
                image = file.id.get_file_image()
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
        to.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
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
        os.replace(partial, path)


def tracked(source: Source) -> Iterable[tuple[str, float, Tensor]]:
    """The cells of a source, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(
        source.cells(),
        "writing cells",
        total=source.n_cells,
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


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
    n_samples = source.spec.input_shape[0]
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
    file = h5py.File(partial, "w")
    n = layout.n_rows
    # Never filled: every row is written, and 21 GB of zeros would be written first.
    file.create_dataset("X", (n, n_samples, 2), np.float32, fill_time="never")
    file.create_dataset("Y", (n, len(layout.classes)), np.int64, fill_time="never")
    file.create_dataset("Z", (n, 1), _level_type(layout), fill_time="never")
    for name in source.marks:
        file.create_dataset(name, (n,), np.int64, fill_time="never")
    file["done"] = np.zeros(n // layout.frames_per_cell, dtype=bool)
    file.attrs.update(attributes)
    _sync(file)
    return file


def _check_origin(path: Path, source: Source) -> None:
    """A file that is there was made from the same data, so that it need not be written again."""
    try:
        with h5py.File(path, "r") as file:
            same = file.attrs.get(DIGEST) == source.digest
    except OSError:
        same = False
    if not same:
        raise UserError("there is a file that was not made from this data", path, TARGET_FIX)


def _level_type(layout: CellLayout) -> type:
    return np.int64 if all(level.is_integer() for level in layout.snr_db) else np.float32


def _sync(file: h5py.File) -> None:
    file.flush()
    os.fsync(file.id.get_vfd_handle())
