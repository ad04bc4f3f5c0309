"""What a copy keeps of its frames besides the samples, so that it is cut into the same parts as the data it is of.

- ``id``: the id of the frame in the data that it comes from.
- ``group``: the recording of the frame; frames of one stay in one part.
- ``span``: the samples [begin, end) of that recording that the frame is; with it, recordings are cut by time.

Legend: n frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cvkan.errors import UserError

IDS, GROUPS, SPANS = "id", "group", "span"
MARKS: dict[str, tuple[int, ...]] = {IDS: (), GROUPS: (), SPANS: (2,)}  # name: shape of a frame's
MARK_FIX = "Write whole numbers from 0 up for each frame, or delete them."


def are_marks(name: str, shape: tuple[int, ...], dtype: np.dtype, n: int) -> bool:
    """Whether an array of that shape and type can be the marks ``name`` of n frames."""
    return shape == (n, *MARKS[name]) and dtype.kind in "iu"


def no_marks(name: str, n: int) -> np.ndarray:
    """What stands for the marks of frames that have none: -1."""
    return np.full((n, *MARKS[name]), -1)


def completed(
    marks: Mapping[str, np.ndarray], places: np.ndarray, where: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The marks of all frames.

    Args:
        marks: those that are there, -1 for a frame without one.
        places: (n,) int64, the ids of frames without one: their places in the layout.
        where: the data, for messages.

    Returns:
        Ids (n,) and groups (n,), where without groups each frame is its own;
        spans (n, 2), None where no frame has one.

    Raises:
        UserError: two frames have one id, or some frames have a group or a span and others none.
    """
    held = {name: marks[name] for name in (GROUPS, SPANS) if name in marks and (marks[name] >= 0).any()}
    for name, numbers in held.items():
        if n_without := int((numbers < 0).reshape(len(places), -1).any(axis=1).sum()):
            what = f"{len(places) - n_without} of {len(places)} frames say their {name}, the others do not"
            raise UserError(what, where, "Keep frames of recordings in a folder of their own, or copy them again.")
    ids = np.where(marks[IDS] < 0, places, marks[IDS]) if IDS in marks else places
    found, counts = np.unique(ids, return_counts=True)
    if counts.max() > 1:
        raise UserError(f"{counts.max()} frames have the id {found[counts.argmax()]}", where, MARK_FIX)
    return ids, held.get(GROUPS, ids), held.get(SPANS)
