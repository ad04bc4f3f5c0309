"""Fields of a poem in a file: the names that they go by, and how messages speak of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

# Names of a field, the first present one is taken; upper and lower case are alike.
TEXT = ("text", "content", "poem", "body", "lines", "stanzas", "verses")
COLUMNS = ("text", "content", "poem", "body", "verses")  # of a table, where lines and stanzas are counts
TITLE = ("title",)
AUTHOR = ("author", "poet")

SHAPES = "Give a list of texts, or of objects with a text each; a text may be a list of its lines."
NAMED, LETTERS = 8, 24  # names of a message, and letters of each, at most


def key(names: tuple[str, ...], fields: Iterable[str]) -> str | None:
    """Which of the fields goes by one of the names."""
    lowered = {name.strip().lower(): name for name in reversed(list(fields))}
    return next((lowered[name] for name in names if name in lowered), None)


def text_key(names: tuple[str, ...], fields: Mapping[str, Any]) -> str | None:
    """Which of the fields holds the text: the first that has one, else the first that goes by one of the names."""
    texts = (name for name, value in fields.items() if holds_text(value))
    return key(names, texts) or key(names, fields)


def holds_text(value: Any) -> bool:
    """Is it a text, or lines of one, and neither blank nor a number?"""
    text = joined(value)
    return isinstance(text, str) and bool(text.strip()) and not is_number(text)


def is_number(text: str) -> bool:
    """Is the text nothing but a number?"""
    return re.fullmatch(r"\s*[+-]?\d+(?:[.,]\d+)*\s*", text) is not None


def joined(value: Any) -> Any:
    """A list of lines, or of stanzas, which are texts or lists of lines, as one text; anything else as it is."""
    if not isinstance(value, list):
        return value
    parts = [_text(part) for part in value]
    if None in parts:
        return value
    are_stanzas = any(isinstance(part, list) for part in value) or any("\n" in str(part) for part in parts)
    return ("\n\n" if are_stanzas else "\n").join(map(str, parts))


def listed(names: Iterable[Any]) -> str:
    """Names in one line, the first few, each by its first letters; a column's may be a whole poem."""
    every = [" ".join(str(name).split()) for name in names]
    shown = (name if len(name) <= LETTERS else f"{name[:LETTERS]}…" for name in islice(every, NAMED))
    return ", ".join([*shown, *["…"][: len(every) - NAMED]]) or "none"


def type_name(value: Any) -> str:
    """What a value of JSON is called in a message."""
    return {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )


def _text(part: Any) -> str | None:
    """A line, or the lines of a list as one text; a line end behind a line is none of it. None for all else."""
    if isinstance(part, list):
        return "\n".join(line.rstrip("\r\n") for line in part) if all(isinstance(line, str) for line in part) else None
    return part.rstrip("\r\n") if isinstance(part, str) else None
