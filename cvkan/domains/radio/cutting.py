"""What the sources of long signals share: frames cut at a hop, parts that share no recording or no sample.

Legend: G segments, n frames, T samples of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np

from cvkan.domains.radio.stored import StoredLoading, StoredRadio
from cvkan.errors import UserError

SPLIT_BY = ("recording", "time")


class CutLoading(StoredLoading):
    """Arguments of the sources that cut signals into frames.

    Attributes:
        n_samples: length of a frame.
        hop: samples from the start of one frame to that of the next; None = ``n_samples``, no overlap.
        split_by: ``recording`` puts all frames of a recording into one part, stratified by cells; ``time`` cuts every
            recording: its beginning is for training, its end for the test, and no sample is in two parts.
    """

    n_samples: int
    hop: int | None
    split_by: str


class CutRadio(StoredRadio):
    """Base of the sources that cut signals into frames.

    A subclass puts :meth:`spans` into its index.

    Args:
        n_samples, hop, split_by: see :class:`CutLoading`.
        loading: see :class:`~cvkan.domains.radio.stored.StoredLoading`.

    Raises:
        UserError: an option is out of range.
    """

    fix_of_groups = "Set data.split_by=time, which cuts each recording, or add recordings."

    def __init__(self, *, n_samples: int, hop: int | None, split_by: str, **loading: Unpack[StoredLoading]) -> None:
        super().__init__(**loading)
        self.n_samples, self.hop, self.split_by = n_samples, n_samples if hop is None else hop, split_by
        for name, value in (("n_samples", self.n_samples), ("hop", self.hop)):
            if value < 1:
                raise UserError(f"{name} must be at least 1, got {value}", f"data.{name}", "Set a positive number.")
        if split_by not in SPLIT_BY:
            raise UserError(f"unknown split_by {split_by!r}", "data.split_by", f"Choose one of: {', '.join(SPLIT_BY)}.")

    def spans(self, starts: np.ndarray) -> np.ndarray | None:
        """The samples (n, 2) that frames with these first samples (n,) are; None where signals are not cut by time."""
        return np.stack([starts, starts + self.n_samples], axis=1) if self.split_by == "time" else None

    def starts(self, lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Where frames begin in signals of these lengths.

        Args:
            lengths: samples (G,) of each.

        Returns:
            The signal of each frame (n,) and its first sample there (n,), in order of time.
        """
        counts = np.maximum((np.array(lengths) - self.n_samples) // self.hop + 1, 0)  # (G,)
        signal = np.arange(len(counts)).repeat(counts)  # (n,)
        first = np.cumsum(counts) - counts
        return signal, (np.arange(len(signal)) - first[signal]) * self.hop
