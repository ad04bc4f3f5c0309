"""Peak memory of one call, as the operating system sees it; Linux only."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def peak_bytes(call: Callable[[], object]) -> int | None:
    """Most resident memory of this process during the call, above what it held before.

    Args:
        call: has run before, so that nothing is compiled or imported in it.

    Returns:
        Bytes, or None where the operating system does not tell.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        gc.collect()
        libc.malloc_trim(0)  # memory that earlier calls freed but the allocator kept would hide the peak
        CLEAR.write_text("5")  # sets the peak to the present size
        before = status_bytes("VmRSS")
        call()
        return status_bytes("VmHWM") - before
    except OSError:
        return None


def status_bytes(field: str) -> int:
    """A size from ``/proc/self/status``."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024
