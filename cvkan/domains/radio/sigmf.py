"""The metadata of SigMF recordings, as far as frames need them.

Source: SigMF, the Signal Metadata Format, https://sigmf.org, with the extension ``capture_details``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from cvkan.errors import UserError

SNR_KEY = "capture_details:SNRdB"


@dataclass(frozen=True)
class Stretch:
    """A part of a recording with what is known about it.

    Attributes:
        start: its first sample.
        length: samples; None = to the end.
        modulation: ``core:label``, or None.
        snr_db: ``capture_details:SNRdB``, or None.
    """

    start: int
    length: int | None
    modulation: str | None
    snr_db: float | None


@dataclass(frozen=True)
class Metadata:
    """What a ``.sigmf-meta`` file says.

    Attributes:
        datatype: such as ``cf32_le``.
        sample_rate_hz: or None.
        stretches: the annotations that have a label; without any, the captures, each up to the next.
    """

    datatype: str
    sample_rate_hz: float | None
    stretches: tuple[Stretch, ...]


def read_metadata(path: Path) -> Metadata:
    """Read a ``.sigmf-meta`` file.

    Raises:
        UserError: it is no JSON, lacks ``core:datatype``, describes several channels or data with headers, or an entry
            is of the wrong type or no possible number.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        meta = content["global"]
        datatype, rate = str(meta["core:datatype"]), meta.get("core:sample_rate")
        captures = sorted(content.get("captures", []), key=_start)
        labelled = [entry for entry in content.get("annotations", []) if "core:label" in entry]
        if meta.get("core:num_channels", 1) != 1 or any(entry.get("core:header_bytes") for entry in captures):
            raise UserError("several channels or headers within the data", path, "Export one plain channel.")
        stretches = [_annotation(entry) for entry in sorted(labelled, key=_start)] or _captures(captures)
        return Metadata(datatype, None if rate is None else _rate(rate, path), tuple(stretches))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the SigMF metadata lack or mistake {reason}", path, "Correct or delete the file.") from error


def _annotation(entry: dict[str, Any]) -> Stretch:
    length, snr_db = entry.get("core:sample_count"), entry.get(SNR_KEY)
    return Stretch(
        _start(entry),
        None if length is None else _whole("core:sample_count", length),
        str(entry["core:label"]),
        None if snr_db is None else float(snr_db),
    )


def _captures(captures: list[dict[str, Any]]) -> list[Stretch]:
    """From each capture to the next: between them the receiver was tuned or stopped."""
    starts = [_start(entry) for entry in captures] or [0]
    lengths = [after - start for start, after in pairwise(starts)]
    return [Stretch(start, length, None, None) for start, length in zip(starts, [*lengths, None], strict=True)]


def _start(entry: dict[str, Any]) -> int:
    return _whole("core:sample_start", entry["core:sample_start"])


def _whole(name: str, value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(f"{name}: {value} is no whole number")
    return int(value)


def _rate(value: Any, path: Path) -> float:
    rate_hz = float(value)
    if not math.isfinite(rate_hz) or rate_hz <= 0:
        raise UserError(f"core:sample_rate is {value}, no positive number", path, "Correct or delete the entry.")
    return rate_hz
