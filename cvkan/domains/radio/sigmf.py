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
        start: its first sample, counted from the first one in the data file.
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

    Indices of samples are absolute there: ``core:offset`` is that of the first one in the data file.

    Raises:
        UserError: it is no JSON, lacks ``core:datatype``, describes several channels or data with headers, or an entry
            is of the wrong type or no possible number.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        meta = content["global"]
        datatype, rate, offset = str(meta["core:datatype"]), meta.get("core:sample_rate"), meta.get("core:offset", 0)
        captures = _entries(content, "captures", offset, path)
        annotations = _entries(content, "annotations", offset, path)
        if meta.get("core:num_channels", 1) != 1 or any(entry.get("core:header_bytes") for _, entry in captures):
            raise UserError("several channels or headers within the data", path, "Export one plain channel.")
        labelled = [pair for pair in annotations if pair[1].get("core:label") is not None]
        stretches = [_annotation(*pair, path) for pair in labelled] or _captures([start for start, _ in captures])
        return Metadata(datatype, None if rate is None else _rate(rate, path), tuple(stretches))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the SigMF metadata lack or mistake {reason}", path, "Correct or delete the file.") from error


def _entries(content: dict[str, Any], name: str, offset: Any, path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Captures or annotations in the order of time, each with the place of its first sample in the data file."""
    entries = content.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{name} is no list of objects", path, f'Write "{name}": [{{...}}, ...].')
    first = _whole("core:offset", offset)
    if first < 0:
        raise ValueError(f"core:offset: {first} is negative")
    placed = [(_whole("core:sample_start", entry["core:sample_start"]) - first, entry) for entry in entries]
    for start, _ in placed:
        if start < 0:
            raise UserError(
                f"core:sample_start is {start + first} in {name}, before the core:offset {first} of the first sample",
                path,
                "Count samples from core:offset, or delete that entry.",
            )
    return sorted(placed, key=lambda pair: pair[0])


def _annotation(start: int, entry: dict[str, Any], path: Path) -> Stretch:
    label, length, snr_db = entry["core:label"], entry.get("core:sample_count"), entry.get(SNR_KEY)
    if not isinstance(label, str):
        raise UserError(f"core:label is {label!r:.80}, no text", path, "Write the name of the modulation in quotes.")
    count = None if length is None else _whole("core:sample_count", length)
    return Stretch(start, count, label, None if snr_db is None else float(snr_db))


def _captures(starts: list[int]) -> list[Stretch]:
    """From each capture to the next: between them the receiver was tuned or stopped."""
    starts = starts or [0]
    lengths = [after - start for start, after in pairwise(starts)]
    return [Stretch(start, length, None, None) for start, length in zip(starts, [*lengths, None], strict=True)]


def _whole(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}: {value!r:.40} is no whole number")
    return value


def _rate(value: Any, path: Path) -> float:
    rate_hz = float(value)
    if not math.isfinite(rate_hz) or rate_hz <= 0:
        raise UserError(f"core:sample_rate is {value}, no positive number", path, "Correct or delete the entry.")
    return rate_hz
