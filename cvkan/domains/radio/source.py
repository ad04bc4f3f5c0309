"""The frames of any radio source, cell by cell, with what a copy of them keeps.

Legend: T samples of a frame, K modulations, b frames of a cell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvkan.domains.datamodule import DataModule
from cvkan.domains.radio.base import RadioData, RadioSplit
from cvkan.domains.radio.frames import JoinedFrames
from cvkan.domains.radio.hdf5_store import SNR_DEFINITION
from cvkan.domains.radio.layout import CellLayout, layout_of
from cvkan.domains.radio.stored import StoredRadio
from cvkan.errors import UserError
from cvkan.spec import Spec

DIGEST = "source"  # attribute of a written file: what it was made from


@dataclass(frozen=True)
class Source:
    """Frames to be written.

    Attributes:
        frames: all of them, those of a cell in the order that they are numbered in.
        spec: names their labels.
        layout: of the data they come from.
        digest: identifies that data.
        snr_definition: what the SNR of the labels means; None where nobody has said.
        marks: what a copy keeps, see :mod:`~cvkan.domains.radio.marks`. Generated frames have none: the ids of every
            part begin with 0.
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

        And their :meth:`marks_of`.
        """
        batch = self.frames.__getitems__(positions.tolist())  # type: ignore[attr-defined]
        y = np.zeros((len(positions), len(layout.classes)), dtype=np.int64)
        y[:, layout.classes.index(modulation)] = 1
        z: np.ndarray = np.full((len(positions), 1), snr_db, dtype=level_type(layout))
        arrays = {"X": torch.view_as_real(batch["x"]).numpy(), "Y": y, "Z": z}
        return {**arrays, **self.marks_of(positions)}

    def marks_of(self, positions: Tensor) -> dict[str, np.ndarray]:
        """The marks of the frames at these positions (b,)."""
        return {name: numbers[positions].numpy() for name, numbers in self.marks.items()}


def source_of(data: DataModule) -> Source:
    """The frames of a data source.

    Raises:
        UserError: they are no I/Q frames.
    """
    if not isinstance(data, RadioData) or not data.spec.is_complex:
        raise UserError(f"{type(data).__name__} holds no I/Q frames", "data", "Choose a radio source, as data=rml2018.")
    if isinstance(data, StoredRadio):
        marks = data.frames.marks()
        held = hashlib.sha256(b"".join(numbers.numpy().tobytes() for numbers in marks.values()))
        digest = f"{data.content_digest()}:{held.hexdigest()}:{data.snr_definition}"
        return Source(data.frames, data.spec, data.layout(), digest, data.snr_definition, marks)
    data.setup()
    frames = JoinedFrames(list(data.splits.values()))
    layout, digest = layout_of(data.spec, frames.labels), f"{data.fingerprint()}:{data.snr_definition}"
    return Source(frames, data.spec, layout, digest, data.snr_definition, marks={})


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


def level_type(layout: CellLayout) -> type:
    """The type of ``Z``: whole numbers where all levels are."""
    return np.int64 if all(level.is_integer() for level in layout.snr_db) else np.float32
