"""Poems out of JSON and JSON lines."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from cvkan.errors import UserError, one_line
from cvkan.poetry.poem_fields import AUTHOR, SHAPES, TEXT, TITLE, key, type_name

log = logging.getLogger(__name__)

LISTS = ("poems", "data", "items", "records")  # names that a list of poems goes by


def json_records(text: str, path: Path) -> list[Any]:
    """The poems of one JSON value, or one poem a value; none of them is checked.

    Raises:
        UserError: it is no JSON, or what is called poems is neither a list nor an object of them.
    """
    values: list[Any] = []
    decoder, position = json.JSONDecoder(), 0
    while start := re.compile(r"\S").search(text, position):
        try:
            value, position = decoder.raw_decode(text, start.start())
        except json.JSONDecodeError as error:
            poem = f" in poem {len(values)}" if values and not isinstance(values[0], list) else ""
            where = f"{path}, line {error.lineno}, column {error.colno}"
            raise UserError(f"broken JSON{poem}: {error.msg}", where, "Correct the file.") from None
        except RecursionError:
            raise UserError("JSON of too many levels", path, SHAPES) from None
        except ValueError as error:  # a number of thousands of digits
            raise UserError(f"broken JSON: {one_line(error)}", path, "Correct the file.") from None
        values.append(value)
    return values if len(values) > 1 else _of_one_value(values[0], path)


def joined(value: Any) -> Any:
    """A list of lines, or of stanzas, which are texts or lists of lines, as one text; anything else as it is."""
    if not isinstance(value, list):
        return value
    parts = [_text(part) for part in value]
    if None in parts:
        return value
    are_stanzas = any(isinstance(part, list) for part in value) or any("\n" in str(part) for part in parts)
    return ("\n\n" if are_stanzas else "\n").join(map(str, parts))


def _of_one_value(value: Any, path: Path) -> list[Any]:
    """The poems of a list, of an object that holds one, of an object with a poem under each name, or the one poem."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return [value]
    own = key((*TEXT, *TITLE, *AUTHOR), value)
    name = key(LISTS if own is None else LISTS[:1], value)
    if name is not None:
        if not isinstance(value[name], (list, dict)):
            raise UserError(f'"{name}" must be a list, got {type_name(value[name])}', path, SHAPES)
        return _of_one_value(value[name], path)
    if own is not None or len(value) < 2 or not all(map(_may_be_poem, value.values())):
        return [value]
    log.info("%s: an object, taken as %d poems, each under a name of its own", path, len(value))
    return [{"id": name, **(poem if isinstance(poem, dict) else {"text": poem})} for name, poem in value.items()]


def _may_be_poem(value: Any) -> bool:
    return isinstance(joined(value), str) or (isinstance(value, dict) and key(TEXT, value) is not None)


def _text(part: Any) -> str | None:
    """A line, or the lines of a list as one text; a line end behind a line is none of it. None for all else."""
    if isinstance(part, list):
        return "\n".join(line.rstrip("\n") for line in part) if all(isinstance(line, str) for line in part) else None
    return part.rstrip("\n") if isinstance(part, str) else None
