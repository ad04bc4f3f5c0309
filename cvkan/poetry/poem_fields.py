"""Fields of a poem in a file: the names that they go by, and how messages speak of them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

# Names of a field, the first present one is taken; upper and lower case are alike.
TEXT = ("text", "content", "poem", "body", "lines", "stanzas", "verses")
TITLE = ("title",)
AUTHOR = ("author", "poet")

SHAPES = "Give a list of texts, or of objects with a text each; a text may be a list of its lines."
NAMED, LETTERS = 8, 24  # names of a message, and letters of each, at most


def key(names: tuple[str, ...], fields: Iterable[str]) -> str | None:
    """Which of the fields goes by one of the names."""
    lowered = {name.strip().lower(): name for name in reversed(list(fields))}
    return next((lowered[name] for name in names if name in lowered), None)


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
