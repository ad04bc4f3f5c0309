"""Looking through all frames of a stored source before a training comes upon one that is no signal.

Legend: n frames, b frames of a block.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from cvkan.domains.cache import cached_arrays
from cvkan.domains.radio.frames import NOT_FINITE_FIX, FrameStore, StoredFrames, are_finite
from cvkan.errors import UserError

BLOCK = 2**20  # bytes read at a time
LONG = 2**28  # bytes whose reading a person is told about

log = logging.getLogger(__name__)


def state_of_files(paths: Iterable[Path]) -> str:
    """Names, sizes and times of change of files, in their order: what is known of them holds as long as it does."""
    stats = [(path.resolve(), path.stat()) for path in paths]
    return "\n".join(f"{path}:{stat.st_size}:{stat.st_mtime_ns}" for path, stat in stats)


def check_finite(frames: StoredFrames, origin: str | None) -> None:
    """Read every frame once, a block at a time.

    Args:
        frames: all frames that may be asked for.
        origin: identifies what the numbers of the frames stand for, by the state of their files; the result is kept in
            the user's cache under it. None where the frames are in memory: to look again takes no time.

    Raises:
        UserError: a frame holds NaN or infinite samples, or cannot be read.
    """
    rows = np.sort(frames.rows.numpy())
    store = copy.copy(frames.store)  # the files that a copy opens are closed with it
    if origin is None:
        bad = _bad_rows(store, rows)
    else:
        digest = hashlib.sha256(origin.encode() + rows.tobytes()).hexdigest()[:32]
        bad = cached_arrays(f"radio_finite_{digest}", lambda: {"bad": _bad_rows(store, rows)})["bad"]
    if len(bad):
        what = "a frame holds" if len(bad) == 1 else f"{len(bad)} of {len(rows)} frames hold"
        first = store.describe(int(bad[0]))
        raise UserError(f"{what} NaN or infinite samples", first, NOT_FINITE_FIX)


def _bad_rows(store: FrameStore, rows: np.ndarray) -> np.ndarray:
    """Those of ``rows`` (n,) that hold NaN or infinite samples."""
    n_bytes = store.read(rows[:1]).nbytes
    per_block = max(1, BLOCK // n_bytes)
    blocks = np.split(rows, range(per_block, len(rows), per_block))
    bad = [block[~are_finite(store.read(block))] for block in _told(blocks, len(rows), len(rows) * n_bytes)]
    return np.concatenate(bad)


def _told(blocks: list[np.ndarray], n_frames: int, n_bytes: int) -> Iterator[np.ndarray]:
    """The blocks; where reading them takes a while, with a line in the log and a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    is_long = n_bytes > LONG
    if is_long:
        log.info("looking through %d frames for NaN, %.1f GB; the result is kept", n_frames, n_bytes / 1e9)
    console = Console(stderr=True)
    yield from track(
        blocks,
        "looking for NaN",
        console=console,
        disable=not (is_long and console.is_terminal),
        transient=True,
    )
