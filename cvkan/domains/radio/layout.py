"""In which order a RadioML data set holds its cells, and what it calls them.

Legend: N rows, n frames, K modulations, S levels of the SNR.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvkan.domains.radio.choosing import refuse_bare
from cvkan.domains.radio.target import refuse_unfinished
from cvkan.errors import UserError
from cvkan.radio.constellations import CLASSES
from cvkan.spec import Spec


@dataclass(frozen=True)
class CellLayout:
    """Cells of equally many rows, one after another: modulation-major, then SNR, then the frames of the cell.

    The row of frame i is ``(m * S + s) * frames_per_cell + i``. It is the frame's id too, so that a frame has the same
    id in one file, in split files, and where only some cells are there.

    Attributes:
        classes: names of all K modulations, in the order of the rows and of the columns of ``Y``.
        snr_db: all S levels in dB, in the order of the rows.
        frames_per_cell: rows of one cell.
    """

    classes: tuple[str, ...]
    snr_db: tuple[float, ...]
    frames_per_cell: int

    @property
    def n_rows(self) -> int:
        return len(self.classes) * len(self.snr_db) * self.frames_per_cell

    def first_row(self, modulation: str, snr_db: float) -> int:
        """The row that a cell begins with.

        Raises:
            ValueError: the layout has no such cell.
        """
        cell = self.classes.index(modulation) * len(self.snr_db) + self.snr_db.index(snr_db)
        return cell * self.frames_per_cell

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Index of the modulation (N,) int64 and level of the SNR (N,) float32 of every row."""
        modulation = np.arange(len(self.classes)).repeat(len(self.snr_db) * self.frames_per_cell)
        snr_db = np.tile(np.array(self.snr_db, dtype=np.float32).repeat(self.frames_per_cell), len(self.classes))
        return modulation, snr_db

    def __str__(self) -> str:
        return f"{len(self.classes)} modulations x {len(self.snr_db)} SNRs x {self.frames_per_cell} frames"

    def restricted(self, spec: Spec) -> CellLayout:
        """This layout with the modulations and SNRs of ``spec`` alone."""
        return CellLayout(
            tuple(name for name in self.classes if name in spec.class_names),
            tuple(level for level in self.snr_db if level in spec.snr_db),
            self.frames_per_cell,
        )

    def attributes(self) -> dict[str, Any]:
        """What is written to the attributes of an HDF5 file, so that it tells its own layout."""
        return {
            "classes": list(self.classes),
            "snr_db": np.array(self.snr_db, dtype=np.float64),
            "frames_per_cell": self.frames_per_cell,
        }


# RadioML 2018.01A. Its own classes.txt names the modulations in another, wrong order.
RADIOML_2018 = CellLayout(CLASSES, tuple(float(level) for level in range(-20, 31, 2)), 4096)


LAYOUT_FIX = "Set data.layout.classes, data.layout.snr_db and data.layout.frames_per_cell."


@dataclass(frozen=True)
class LayoutOptions:
    """What the user says about a layout; None takes what the attributes of the file say, else RadioML 2018.01A.

    Attributes:
        classes: all modulations of the data, in the order of its rows, also where only some are asked for.
        snr_db: all SNRs in dB, in the order of its rows.
        frames_per_cell: rows of each pair of modulation and SNR.
    """

    classes: Sequence[str] | None
    snr_db: Sequence[float] | None
    frames_per_cell: int | None

    def resolve(self, attributes: Mapping[str, Any], where: Path) -> CellLayout:
        """The layout of a file with these attributes.

        Raises:
            UserError: it names nothing, or one thing twice, or the attributes are of another kind.
        """
        for name, value in {"classes": self.classes, "snr_db": self.snr_db}.items():
            refuse_bare(value, f"data.layout.{name}")
        written = RADIOML_2018.attributes() | dict(attributes)
        try:
            classes = written["classes"] if self.classes is None else self.classes
            levels = written["snr_db"] if self.snr_db is None else self.snr_db
            frames = written["frames_per_cell"] if self.frames_per_cell is None else self.frames_per_cell
            layout = CellLayout(tuple(map(str, classes)), tuple(map(float, levels)), int(frames))
        except (TypeError, ValueError) as error:
            raise UserError(f"the attributes of the file name no layout: {error}", where, LAYOUT_FIX) from error
        for values in (layout.classes, layout.snr_db, range(layout.frames_per_cell)):
            if not values or len(set(values)) != len(values):
                raise UserError(f"the layout is empty or names one thing twice: {values}", where, LAYOUT_FIX)
        return layout


def layout_of(spec: Spec, labels: Tensor) -> CellLayout:
    """A layout for data that has none: modulations as in :data:`CLASSES` where all of them are, else as in ``spec``.

    Args:
        spec: of the data.
        labels: (n, 2) of all frames; the largest cell sets ``frames_per_cell``.
    """
    known = set(spec.class_names) <= set(CLASSES)
    classes = tuple(name for name in CLASSES if name in spec.class_names) if known else spec.class_names
    counts = torch.bincount(labels[:, 0] * len(spec.snr_db) + labels[:, 1])
    return CellLayout(classes, spec.snr_db, int(counts.max()))


def cell_file(modulation: str, snr_db: float) -> Path:
    """Name of a cell in the split layout, below its root: ``MOD/SNR_s/MOD_SNR_s.h5``."""
    level = snr_folder(snr_db)
    return Path(modulation, level, f"{modulation}_{level}.h5")


def snr_folder(snr_db: float) -> str:
    """``SNR_-4``, ``SNR_2.5``."""
    return f"SNR_{snr_db:g}"


def parse_snr_folder(name: str) -> float | None:
    """The level in dB that a folder ``SNR_s`` is named after; None for any other name."""
    prefix, _, level = name.partition("_")
    try:
        snr_db = float(level)
    except ValueError:
        return None
    return snr_db if prefix == "SNR" and math.isfinite(snr_db) else None


def class_name(name: str) -> str:
    """The name of a class as in :data:`CLASSES` where it is spelled with other hyphens: ``16-QAM`` is 16QAM."""
    return next((known for known in CLASSES if known.replace("-", "") == name.replace("-", "")), name)


def cell_folders(root: Path) -> Iterator[tuple[Path, str, float]]:
    """The folders ``MOD/SNR_s`` below ``root``, with modulation and SNR in dB; hidden ones are left out.

    Raises:
        UserError: a conversion has not written all of them, or a folder within a modulation is not named ``SNR_`` and a
            number.
    """
    refuse_unfinished(root)
    for modulation in _folders(root):
        for folder in _folders(modulation):
            snr_db = parse_snr_folder(folder.name)
            if snr_db is None:
                raise UserError(
                    f"the folder {folder.name!r} names no SNR", folder, "Name it SNR_ and the level in dB, as SNR_-4."
                )
            yield folder, modulation.name, snr_db


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
