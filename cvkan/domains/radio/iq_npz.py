"""``data=iq_npz``: one npz file of long signals, one row a modulation and SNR, cut into frames.

Legend: R rows, L samples of a row, n frames, T samples of a frame.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Unpack

import numpy as np

from cvkan.domains.radio.cutting import CutLoading, CutRadio
from cvkan.domains.radio.frames import ArrayStore
from cvkan.domains.radio.layout import class_name
from cvkan.domains.radio.stored import FrameIndex, digest_of_files
from cvkan.errors import DataUnavailableError, UserError

FIX = "Save iq complex (R, L), label integer (R,), snr_db (R,) and classes text (K,)."


class IqNpz(CutRadio):
    """Rows of ``iq`` (R, L), each with the class ``classes[label]`` and ``snr_db``; held in memory.

    Args:
        file: name of the npz file in ``root``.
        loading: see :class:`~cvkan.domains.radio.cutting.CutLoading`.

    Raises:
        DataUnavailableError: the file is missing.
        UserError: it is damaged or not as described; pickled arrays are refused.
    """

    def __init__(self, *, file: str, **loading: Unpack[CutLoading]) -> None:
        super().__init__(**loading)
        self.path = self.root / file
        arrays = _read(self.path)
        self.iq, self.labels = arrays["iq"], arrays["label"].astype(np.int64)
        self.snr_db = arrays["snr_db"].astype(np.float64).round(6)  # 2.3 is 2.3 in float32 too
        self.names = [class_name(name) for name in arrays["classes"].tolist()]
        if self.iq.shape[1] < self.n_samples:
            raise UserError(
                f"rows of {self.iq.shape[1]} samples are shorter than a frame of {self.n_samples}",
                self.path,
                "Lower data.n_samples.",
            )
        classes = {self.names[label] for label in self.labels}
        self.spec = self.chosen_spec(classes, set(self.snr_db.tolist()), self.n_samples)

    def index(self) -> FrameIndex:
        row, start = self.starts([self.iq.shape[1]] * len(self.iq))
        frames = self.iq[row[:, None], start[:, None] + np.arange(self.n_samples)]  # (n, T)
        ids = np.arange(len(row))
        return FrameIndex(
            store=ArrayStore(frames.astype(np.complex64, copy=False), self.path.name),
            rows=ids,
            modulation=self.labels[row],
            names=self.names,
            snr_db=self.snr_db[row],
            ids=ids,
            groups=row,
            spans=self.spans(start),
        )

    def content_digest(self) -> str:
        return digest_of_files([self.path])


def _read(path: Path) -> dict[str, np.ndarray]:
    """The four arrays of a file, checked."""
    if not path.is_file():
        raise DataUnavailableError(f"there is no file {path.name}", path.parent, "Set data.file or data.root.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("iq", "label", "snr_db", "classes")}
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"not a readable npz file of signals: {reason}", path, FIX) from error
    iq, label, snr_db, classes = arrays.values()
    right = iq.dtype.kind == "c" and iq.ndim == 2 and iq.size and label.dtype.kind in "iu"
    right = right and snr_db.dtype.kind in "iuf" and label.shape == snr_db.shape == iq.shape[:1]
    right = right and np.isfinite(snr_db).all() and classes.dtype.kind == "U" and classes.ndim == 1
    if not right:
        found = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in arrays.items())
        raise UserError(f"the arrays are no signals with labels: {found}", path, FIX)
    if label.min() < 0 or label.max() >= len(classes):
        raise UserError(f"labels {label.min()} to {label.max()}, but {len(classes)} classes", path, FIX)
    return arrays
