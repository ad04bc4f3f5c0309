"""A part of a stored source: frames are read when a batch asks for them, checked, and labelled.

Legend: B frames of a batch, R frames of a store, T samples of a frame, n frames of a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cvkan.domains.radio.base import RadioSplit, labels_of
from cvkan.domains.radio.marks import GROUPS, IDS, SPANS
from cvkan.errors import UserError
from cvkan.spec import Batch

NOT_FINITE_FIX = "Replace the data, or leave it out with data.classes or data.snr_db."


def are_finite(x: np.ndarray) -> np.ndarray:
    """Which frames (B,) of ``x`` (B, ...) hold finite samples alone."""
    return np.isfinite(x).reshape(len(x), -1).all(axis=1)  # (B,)


class FrameStore(Protocol):
    """Numbered frames of I/Q samples in files or in memory; it is handed to loader processes."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The frames ``rows`` (B,) int64, in that order: (B, T) complex64."""

    def describe(self, row: int) -> str:
        """Where a frame lies, for messages."""


class StoredFrames(RadioSplit):
    """Some frames of a store with their labels.

    Args:
        store: holds the frames.
        rows: (n,) int64, their numbers in the store.
        labels: (n, 2) int64, indices of modulation and SNR.
        ids: (n,) int64, unique and lasting ids.
        groups: (n,) int64, the realisation of each frame; frames of one belong into one part.
        spans: (n, 2) int64, the samples [begin, end) of its realisation that each frame is, where realisations are cut
            by time; None where they stay whole.
    """

    def __init__(
        self, store: FrameStore, rows: Tensor, labels: Tensor, ids: Tensor, groups: Tensor, spans: Tensor | None
    ) -> None:
        self.store, self.rows, self.labels, self.ids, self.groups, self.spans = store, rows, labels, ids, groups, spans

    def subset(self, positions: Tensor) -> StoredFrames:
        """The frames at these positions, in their order."""
        rows, labels, ids, groups = (tensor[positions] for tensor in (self.rows, self.labels, self.ids, self.groups))
        spans = None if self.spans is None else self.spans[positions]
        return StoredFrames(self.store, rows, labels, ids, groups, spans)

    def in_store(self, store: FrameStore) -> StoredFrames:
        """The same frames, read from another store under the same numbers."""
        return StoredFrames(store, self.rows, self.labels, self.ids, self.groups, self.spans)

    @property
    def grouped(self) -> bool:
        """Whether some frames are of one realisation."""
        return not torch.equal(self.ids, self.groups)

    def marks(self) -> dict[str, Tensor]:
        """What a copy of the frames keeps of them, see :mod:`~cvkan.domains.radio.marks`."""
        held = {IDS: self.ids, GROUPS: self.groups if self.grouped else None, SPANS: self.spans}
        return {name: numbers for name, numbers in held.items() if numbers is not None}

    def __getitem__(self, index: int) -> Batch:
        return {name: tensor[0] for name, tensor in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A batch: ``x`` (B, T) complex64, ``y`` (B, 2), ``id`` (B,).

        Raises:
            UserError: a frame holds NaN or infinite samples, or cannot be read.
        """
        positions = torch.as_tensor(indices)
        rows = self.rows[positions].numpy()
        x = self.store.read(rows)
        good = are_finite(x)
        if not good.all():
            row = int(rows[~good][0])
            raise UserError("a frame holds NaN or infinite samples", self.store.describe(row), NOT_FINITE_FIX)
        return {"x": torch.from_numpy(x), "y": self.labels[positions], "id": self.ids[positions]}


class JoinedFrames(RadioSplit):
    """Several parts as one, in their order, such as all frames of a generated source."""

    def __init__(self, parts: Sequence[Dataset[Batch]]) -> None:
        self.parts = parts
        labels = [labels_of(part) for part in parts]
        self.labels = torch.cat(labels)
        self.first = torch.tensor([0] + [len(of_part) for of_part in labels]).cumsum(0)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """A batch in the order of ``indices``, which must be ascending."""
        positions = torch.as_tensor(indices)
        part_of = torch.bucketize(positions, self.first, right=True) - 1
        batches = [
            self.parts[k].__getitems__((positions[part_of == k] - self.first[k]).tolist())
            for k in part_of.unique().tolist()
        ]
        return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


class ArrayStore:
    """Frames held in memory.

    Args:
        frames: (R, T) complex64.
        name: of the file they came from, for messages.
    """

    def __init__(self, frames: np.ndarray, name: str) -> None:
        self.frames, self.name = frames, name

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.frames[rows]

    def describe(self, row: int) -> str:
        return f"frame {row} of {self.name}"
