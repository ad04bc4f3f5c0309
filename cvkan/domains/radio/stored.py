"""What the sources of stored I/Q frames share: the folder, the choice of cells, the split by ids.

Legend: n frames, M modulations, S levels of the SNR.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cvkan.domains.radio.base import RadioData, RadioLoading, radio_spec
from cvkan.domains.radio.choosing import chosen_classes, chosen_levels
from cvkan.domains.radio.frames import FrameStore, StoredFrames
from cvkan.domains.radio.layout import CellLayout, layout_of
from cvkan.domains.radio.scanning import check_finite
from cvkan.domains.radio.splits import split_fractions, stored_split, stratified_split, time_split
from cvkan.errors import DataUnavailableError, UserError
from cvkan.spec import Batch, Spec

EDGE = 65536  # bytes of the beginning and of the end of a file that its digest is of


class StoredLoading(RadioLoading):
    """Arguments that every source of stored frames takes and hands on to :class:`StoredRadio`.

    Attributes:
        root: folder of the files.
        classes: the modulations to use; None takes all that are there.
        snr_db: the SNRs to use in dB, as a list or as ``{min: 0, max: 30}``; None takes all that are there.
        val_fraction: share of the validation part.
        test_fraction: share of the test part.
        split_seed: seed of the split, independent of the run's seed.
        split_file: npz file that keeps the split as ids of samples, written if it is not there; None keeps none.
    """

    root: str
    classes: Sequence[str] | None
    snr_db: Sequence[float] | Mapping[str, float] | None
    val_fraction: float
    test_fraction: float
    split_seed: int
    split_file: str | None


@dataclass(frozen=True)
class FrameIndex:
    """All frames of a source, of the chosen cells or more.

    Attributes:
        store: holds the frames.
        rows: (n,) int64, their numbers in the store.
        modulation: (n,) int64, indices into ``names``.
        names: of the modulations.
        snr_db: (n,) float, level of each frame.
        ids: (n,) int64, unique and lasting.
        groups: (n,) int64, the realisation of each frame; frames of one stay in one part. None where each is its own.
        spans: (n, 2) int64, the samples [begin, end) of its realisation that each frame is: realisations are cut by
            time then. None where they stay whole.
    """

    store: FrameStore
    rows: np.ndarray
    modulation: np.ndarray
    names: Sequence[str]
    snr_db: np.ndarray
    ids: np.ndarray
    groups: np.ndarray | None = None
    spans: np.ndarray | None = None


class StoredRadio(RadioData):
    """Base of the sources of stored frames: a subclass sets ``spec`` by :meth:`chosen_spec` and lists its frames.

    Args:
        root, classes, snr_db, val_fraction, test_fraction, split_seed, split_file: see :class:`StoredLoading`.
        loading: see :class:`~cvkan.domains.radio.base.RadioLoading`.

    Raises:
        DataUnavailableError: there is no such folder.
        UserError: an option is out of range.
    """

    # What to do where recordings are too few or too short for every part.
    fix_of_groups = "Add recordings, or convert them with data.split_by=time, which cuts each of them."
    fix_of_spans = "Raise data.val_fraction and data.test_fraction, or use longer recordings."

    def __init__(
        self,
        *,
        root: str,
        classes: Sequence[str] | None,
        snr_db: Sequence[float] | Mapping[str, float] | None,
        val_fraction: float,
        test_fraction: float,
        split_seed: int,
        split_file: str | None,
        **loading: Unpack[RadioLoading],
    ) -> None:
        super().__init__(**loading)
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise DataUnavailableError(
                "there is no such folder", f"data.root={root}", "Set data.root=DIR, or use data=radio_synth."
            )
        self.wanted_classes, self.wanted_snr_db = classes, snr_db
        self.fractions, self.split_seed = split_fractions(val_fraction, test_fraction), split_seed
        self.split_file = None if split_file is None else Path(split_file).expanduser()

    def index(self) -> FrameIndex:
        """List the frames; called once. Frames of other cells than those of ``self.spec`` are left out by the base."""
        raise NotImplementedError

    def layout(self) -> CellLayout:
        """The layout of the data; where it has none, one with as many frames a cell as its largest cell has."""
        return layout_of(self.spec, self.frames.labels)

    def chosen_spec(self, classes: Collection[str], snr_db: Collection[float], n_samples: int) -> Spec:
        """The spec of the chosen part of what is there.

        Args:
            classes: modulations that are there.
            snr_db: levels that are there.
            n_samples: length of a frame.

        Raises:
            UserError: something is chosen that is not there, or nothing is left.
        """
        wanted = chosen_classes(self.wanted_classes, classes), chosen_levels(self.wanted_snr_db, snr_db)
        return radio_spec(*wanted, (n_samples,), is_complex=True)

    @cached_property
    def frames(self) -> StoredFrames:
        """All frames of the chosen cells, ascending by id, whatever part they are in."""
        index = self.index()
        names = {name: k for k, name in enumerate(self.spec.class_names)}
        label_of = np.array([names.get(name, -1) for name in index.names])
        modulation, snr = label_of[index.modulation], _level_index(index.snr_db, self.spec.snr_db)
        kept = np.flatnonzero((modulation >= 0) & (snr >= 0))
        kept = kept[np.argsort(index.ids[kept], kind="stable")]
        groups = index.ids if index.groups is None else index.groups
        return StoredFrames(
            index.store,
            torch.from_numpy(index.rows[kept]),
            torch.from_numpy(np.stack([modulation[kept], snr[kept]], axis=1)),
            torch.from_numpy(index.ids[kept]),
            torch.from_numpy(groups[kept]),
            None if index.spans is None else torch.from_numpy(index.spans[kept]),
        )

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        parts = self.cut(self.frames)
        digest = hashlib.sha256(self.content_digest().encode())
        for name, positions in sorted(parts.items()):
            digest.update(name.encode() + self.frames.ids[positions].numpy().tobytes())
        self._digest = digest.hexdigest()
        return {name: self.frames.subset(positions) for name, positions in parts.items()}

    def cut(self, frames: StoredFrames) -> dict[str, Tensor]:
        """Positions of each part: by time where frames say theirs, else stratified by ids or as ``split_file`` says."""
        if frames.spans is not None:
            if self.split_file is not None:
                raise UserError("a split by time is kept in no file", "data.split_file", "Set it to null.")
            return time_split(frames.groups, frames.spans, self.fractions)
        cell = self._cells(frames)
        if self.split_file is None:
            return stratified_split(cell, frames.groups, self.fractions, self.split_seed)
        return stored_split(self.split_file, cell, frames.ids, frames.groups, self.fractions, self.split_seed)

    def check_splits(self) -> None:
        try:
            super().check_splits()
        except UserError as error:
            if self.frames.spans is not None:
                why, fix = "recordings are cut by time, without the frames across a cut", self.fix_of_spans
            elif self.frames.grouped:
                why, fix = "the frames of a recording stay in one part", self.fix_of_groups
            else:
                raise
            raise UserError(f"{error.what}; {why}", error.where, fix) from error
        if self.spec.is_complex:  # the values of images are whole numbers
            check_finite(self.frames, self.origin())

    def origin(self) -> str | None:
        """What the numbers of the frames in their store stand for, see
        :func:`~cvkan.domains.radio.scanning.check_finite`; None where the frames are held in memory."""
        return None

    def fingerprint(self) -> str:
        """SHA-256 of :meth:`content_digest` and of the ids in each part."""
        return self._digest

    def content_digest(self) -> str:
        """What identifies the stored data, without reading every frame."""
        raise NotImplementedError

    def _cells(self, frames: StoredFrames) -> Tensor:
        return frames.labels[:, 0] * len(self.spec.snr_db) + frames.labels[:, 1]


def digest_of_files(paths: Iterable[Path]) -> str:
    """SHA-256 of the names, sizes, beginnings and ends of some files, whatever their order.

    Raises:
        UserError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in sorted(paths):
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                digest.update(f"{path.name}:{size}\n".encode())
                for start in (0, max(0, size - EDGE)):
                    file.seek(start)
                    digest.update(file.read(EDGE))
        except OSError as error:
            raise UserError(f"the file cannot be read: {error.strerror}", path, "Check the file.") from error
    return digest.hexdigest()


def _level_index(snr_db: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Index (n,) of each level in ``levels``, which ascend; -1 for one that is not among them."""
    known = np.array(levels, dtype=np.float32)
    place = np.searchsorted(known, snr_db.astype(np.float32)).clip(max=len(known) - 1)
    return np.where(known[place] == snr_db.astype(np.float32), place, -1)
