"""``data=recordings``: the user's own recordings, npy, cf32, sc16 or SigMF, cut into frames.

Legend: B frames of a batch, n frames, T samples of a frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Unpack

import numpy as np

from cvkan.domains.radio.cutting import CutLoading, CutRadio
from cvkan.domains.radio.recording_index import read_recordings, scan_recordings
from cvkan.domains.radio.scanning import state_of_files
from cvkan.domains.radio.signal_files import SignalFile
from cvkan.domains.radio.stored import FrameIndex, digest_of_files
from cvkan.errors import UserError

FRAME_BITS = 27  # of an id: the number of the frame in its recording


@dataclass(frozen=True)
class SignalStore:
    """Frames of recordings, read from the files as they are asked for.

    Attributes:
        signals: the recordings.
        signal: (n,) int64, the recording of each frame.
        start: (n,) int64, its first sample there.
        n_samples: length of a frame.
    """

    signals: Sequence[SignalFile]
    signal: np.ndarray
    start: np.ndarray
    n_samples: int

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The frames ``rows`` (B,), in that order: (B, T) complex64. Frames that touch or overlap are read at once."""
        order = np.lexsort((self.start[rows], self.signal[rows]))
        signal, start = self.signal[rows[order]], self.start[rows[order]]  # (B,)
        ends = np.flatnonzero((np.diff(signal) != 0) | (np.diff(start) > self.n_samples)) + 1
        frames = np.empty((len(rows), self.n_samples), dtype=np.complex64)
        for run in np.split(np.arange(len(rows)), ends):
            low = start[run[0]]
            stretch = self.signals[signal[run[0]]].read(low, start[run[-1]] - low + self.n_samples)
            frames[order[run]] = np.lib.stride_tricks.sliding_window_view(stretch, self.n_samples)[start[run] - low]
        return frames

    def describe(self, row: int) -> str:
        return f"{self.signals[self.signal[row]].path}, samples from {self.start[row]}"


class Recordings(CutRadio):
    """Recordings of the user, of any length, each with a modulation and an SNR.

    Files: ``.npy``; ``.cf32`` and ``.fc32`` (float32), ``.sc16`` and ``.cs16`` (int16), ``.cs8`` (int8) and ``.cu8``
    (uint8 about 127.5), interleaved, little endian; ``.sigmf-data`` with ``.sigmf-meta``, which may also stand beside
    the raw ones and then says the type. Labels come from ``index``, else from SigMF annotations (``core:label``,
    ``capture_details:SNRdB``), else from ``MOD/SNR_s/``.

    Args:
        index: CSV file in ``root`` with columns file,modulation[,snr_db,start,length]; None looks for files.
        assumed_snr_db: SNR of the recordings where nothing says it; None refuses them.
        loading: see :class:`~cvkan.domains.radio.cutting.CutLoading`.

    Raises:
        UserError: a file, table or metadata is not as described, the segments of a recording overlap, or one is shorter
            than a frame.
    """

    def __init__(self, *, index: str | None, assumed_snr_db: float | None, **loading: Unpack[CutLoading]) -> None:
        super().__init__(**loading)
        if index is None:
            found = scan_recordings(self.root, assumed_snr_db)
        else:
            found = read_recordings(self.root, index, assumed_snr_db)
        self.segments = sorted(found, key=lambda segment: (segment.name, segment.start))
        for segment in self.segments:
            if segment.length < self.n_samples:
                raise UserError(
                    f"{segment.length} samples from {segment.start} are less than a frame of {self.n_samples}",
                    segment.signal.path,
                    "Lower data.n_samples, or leave the recording out.",
                )
        for one, after in pairwise(self.segments):
            if one.name == after.name and one.start + one.length > after.start:
                raise UserError(
                    f"the segments at samples {one.start} and {after.start} overlap", one.signal.path, "Correct them."
                )
        classes = {segment.modulation for segment in self.segments}
        spec = self.chosen_spec(classes, {segment.snr_db for segment in self.segments}, self.n_samples)
        rates = {segment.sample_rate_hz for segment in self.segments}
        rate_hz = rates.pop() if len(rates) == 1 else None  # one for all, or none that holds for all
        self.spec = replace(spec, sample_rate_hz=None if rate_hz is None else round(rate_hz))

    def index(self) -> FrameIndex:
        segments = self.segments
        segment, offset = self.starts([segment.length for segment in segments])
        names = sorted({segment.name for segment in segments})
        place = {name: k for k, name in enumerate(names)}
        recording = np.array([place[segment.name] for segment in segments])[segment]  # (n,)
        # A recording keeps its number, whatever other files come and go; its frames are counted through.
        number = np.array([_number(name) for name in names])[recording]
        inside = np.arange(len(recording)) - np.searchsorted(recording, recording)
        modulations = sorted({segment.modulation for segment in segments})
        signals = {segment.name: segment.signal for segment in segments}
        return FrameIndex(
            store=SignalStore(
                [signals[name] for name in names],
                recording,
                np.array([segment.start for segment in segments])[segment] + offset,
                self.n_samples,
            ),
            rows=np.arange(len(recording)),
            modulation=np.array([modulations.index(segment.modulation) for segment in segments])[segment],
            names=modulations,
            snr_db=np.array([segment.snr_db for segment in segments], dtype=np.float32)[segment],
            ids=(number << FRAME_BITS) + inside,
            groups=number if self.split_by == "recording" else segment,
            spans=self.spans(offset),
        )

    def origin(self) -> str:
        files = state_of_files(sorted({segment.signal.path for segment in self.segments}))
        return f"{files}\n{self.segments}\n{self.n_samples} samples every {self.hop}"

    def content_digest(self) -> str:
        return digest_of_files({segment.signal.path for segment in self.segments})


def _number(name: str) -> int:
    """A hash of the name of a recording, as many bits as an id leaves for it."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) >> (1 + FRAME_BITS)
