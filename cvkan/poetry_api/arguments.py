"""Arguments of Python calls, refused in one line that names them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvkan.errors import DataUnavailableError, UserError

SEEDS = 2**32  # how many there are


def check_integer(name: str, value: Any, least: int, beyond: float = math.inf) -> None:
    """Refuse what is no integer from ``least`` on and below ``beyond``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < beyond:
        limits = f"{least} or more" if beyond == math.inf else f"from {least} to {beyond - 1}"
        raise UserError(f"{name} must be an integer, {limits}, got {value!r}", name, f"Set {name}={max(least, 5)}.")


def check_number(name: str, value: Any, least: float) -> None:
    """Refuse what is no finite number from ``least`` on."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise UserError(
            f"{name} must be a number, {least} or more, got {value!r}", name, f"Set {name}={least + 1:.1f}."
        )


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        raise UserError(f"{name}={value!r} is not known", name, f"Choose one of: {', '.join(choices)}.")


def checked_text(name: str, value: Any) -> str:
    """A text, refused if it is none or empty."""
    if not isinstance(value, str):
        raise UserError(f"{name} must be a text, got {type(value).__name__}", name, "Give the text itself.")
    if not value.strip():
        raise UserError(f"{name} is empty", name, "Give a word or more.")
    return value


def checked_path(name: str, value: Any) -> Path:
    """A path, absolute, so that it is good from any folder."""
    if not isinstance(value, (str, Path)):
        raise UserError(f"{name} must be a path, got {type(value).__name__}", name, "Give a text or a pathlib.Path.")
    return Path(value).expanduser().resolve()


def checked_file(name: str, value: Any) -> Path:
    """The path of a file, as :func:`checked_path`."""
    path = checked_path(name, value)
    if not path.is_file():
        raise DataUnavailableError(f"there is no file {path}", name, "Give the path of one.")
    return path
