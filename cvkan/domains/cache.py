"""A cache of computed arrays in the user's cache folder; a run never depends on it.

A missing or damaged file is computed again, and a folder that cannot be written is left alone.
"""

from __future__ import annotations

import logging
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cvkan.atomic import atomic_file

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/cvkan``, by default ``~/.cache/cvkan``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cvkan"


def cached_arrays(name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays stored as ``name`` in the cache, or those of ``make`` (then stored for the next time).

    Args:
        name: file name without suffix; it must identify the content, e.g. by a hash of all it is made from.
        make: computes the arrays.
    """
    path = cache_folder() / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)  # the zip container checks a CRC of the content
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        log.info("cache file %s is not readable (%s): computing it again", path, error)
    arrays = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        log.info("cache folder %s is not writable (%s): continuing without it", path.parent, error)
    return arrays
