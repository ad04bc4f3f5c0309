"""Small data sets in every radio layout, and sources on them, for the tests of the radio domain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cvkan.domains.radio.hdf5 import RadioML2018, RadioMLSplit
from cvkan.domains.radio.layout import CellLayout, LayoutOptions, cell_file

LOADING = {"normalization": "power", "batch_size": 4, "num_workers": 0, "seed": 0, "limit_train": None}
STORED: dict[str, Any] = {
    **LOADING,
    **{"classes": None, "snr_db": None, "val_fraction": 0.1, "test_fraction": 0.1},
    **{"split_seed": 42, "split_file": None},
}
# Neither names nor levels stand in the order of the labels.
LAYOUT = CellLayout(("QPSK", "8PSK", "16QAM"), (4.0, -2.0, 0.0), 10)
N_SAMPLES = 16
STANDARD = LayoutOptions(None, None, None)


def signals(n_rows: int, n_samples: int = N_SAMPLES) -> np.ndarray:
    """X (n, T, 2) float32 of which every number occurs once."""
    return np.random.default_rng(0).standard_normal((n_rows, n_samples, 2), dtype=np.float32)


def write_one_file(path: Path, layout: CellLayout = LAYOUT, **change: Any) -> dict[str, np.ndarray]:
    """The one-file layout as published, without attributes; ``change`` replaces data sets, None leaves one out."""
    labels = [(m, level) for m in range(len(layout.classes)) for level in layout.snr_db]
    labels = [label for label in labels for _ in range(layout.frames_per_cell)]
    arrays = {
        "X": signals(len(labels)),
        "Y": np.eye(len(layout.classes), dtype=np.int64)[[m for m, _ in labels]],
        "Z": np.array([[level] for _, level in labels], dtype=np.int64),
    }
    arrays.update(change)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            if array is not None:
                file[name] = array
    return arrays


def write_split(root: Path, layout: CellLayout = LAYOUT) -> dict[str, np.ndarray]:
    """The split layout with the very rows of :func:`write_one_file`."""
    root.mkdir(parents=True, exist_ok=True)
    arrays = write_one_file(root / "all.h5", layout)
    (root / "all.h5").unlink()
    for k, name in enumerate(layout.classes):
        for j, level in enumerate(layout.snr_db):
            path = root / cell_file(name, level)
            path.parent.mkdir(parents=True)
            first = (k * len(layout.snr_db) + j) * layout.frames_per_cell
            with h5py.File(path, "w") as file:
                for data_set, array in arrays.items():
                    file[data_set] = array[first : first + layout.frames_per_cell]
    return arrays


def options(layout: CellLayout = LAYOUT) -> LayoutOptions:
    return LayoutOptions(layout.classes, layout.snr_db, layout.frames_per_cell)


def one_file(path: Path, layout: LayoutOptions | None = None, **changes: Any) -> RadioML2018:
    arguments = {"root": str(path.parent), "file": path.name, "layout": layout or options(), **STORED, **changes}
    return RadioML2018(**arguments)


def split_files(root: Path, layout: LayoutOptions | None = None, **changes: Any) -> RadioMLSplit:
    arguments = {"root": str(root), "layout": layout or options(), **STORED, **changes}
    return RadioMLSplit(**arguments)
