"""Poems out of JSON and JSON lines.

The names of an object are titles of poems, ``{"Ode": "…"}``, or authors of several, ``{"Keats": ["…", "…"]}`` and
``{"Keats": {"Ode": "…"}}``. A name that is a number stays among the other fields, as ``id``.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from cvkan.errors import UserError, one_line
from cvkan.poetry.poem_fields import (
    AUTHOR,
    SHAPES,
    TEXT,
    TITLE,
    holds_text,
    is_number,
    joined,
    key,
    listed,
    text_key,
    type_name,
)

log = logging.getLogger(__name__)

LISTS = ("poems", "data", "items", "records")  # names that a list of poems goes by
FIELDS = (*TEXT, *TITLE, *AUTHOR)  # an object with one of them is a poem, not one of names


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


def _of_one_value(value: Any, path: Path) -> list[Any]:
    """The poems of a list, of an object that holds one, of an object of names, or the one poem."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return [value]
    own = text_key(TEXT, value)
    has_text = own is not None and holds_text(value[own])
    name = key(LISTS[:1] if has_text else LISTS, value)
    if name is not None:
        if not isinstance(value[name], (list, dict)):
            raise UserError(f'"{name}" must be a list, got {type_name(value[name])}', path, SHAPES)
        return _of_one_value(value[name], path)
    return [value] if key(FIELDS, value) is not None else _of_names(value, path) or [value]


def _of_names(value: dict[str, Any], path: Path) -> list[Any]:
    """The poems of an object whose names are titles or authors; none if it is no such object.

    Lists of texts with line breaks are poems of an author, other lists lines of a poem. All texts are taken, those of
    one line too, for a poem may have one; a warning names them if others are longer.
    """
    lists = (part for listed_ in value.values() if isinstance(listed_, list) for part in listed_)
    by_author = any(isinstance(part, str) and "\n" in part.strip() for part in lists)
    groups = [_under(name, poems, by_author) for name, poems in value.items()]
    named = [pair for group in groups for pair in group]
    only = next(iter(value.values()), None)
    is_one_text = len(value) == 1 and not by_author and isinstance(joined(only), str)
    if not all(groups) or is_one_text:  # a text under one name is a poem's field of an unknown name
        return []
    short = [name for name, poem in named if not _has_break(poem)]
    if 0 < len(short) < len(named):
        log.warning(
            "%s: an object, taken as %d poems under %d names; these have one line: %s; remove those that are no poems",
            *(path, len(named), len(value), listed(short).encode(errors="backslashreplace").decode()),
        )
    else:
        log.info("%s: an object, taken as %d poems under %d names", path, len(named), len(value))
    return [poem for _, poem in named]


def _under(name: str, value: Any, by_author: bool) -> list[tuple[str, dict[str, Any]]]:
    """The poems under one name, a title or an author, and what each goes by; none if these are no poems.

    Args:
        name: in the file.
        value: a poem, a list of an author's poems, or an object of these under their titles.
        by_author: a list of texts is one of poems, not of lines.
    """
    if _may_be_poem(value) and not (by_author and isinstance(value, list)):
        return [(name, _named(value, name, TITLE))]
    if isinstance(value, list):
        poems, parts = [(name, poem) for poem in value], value
    elif isinstance(value, dict) and key(FIELDS, value) is None:
        poems, parts = [(title, _named(poem, title, TITLE)) for title, poem in value.items()], [*value.values()]
    else:
        return []
    return [(own, _named(poem, name, AUTHOR)) for own, poem in poems] if all(map(_may_be_poem, parts)) else []


def _named(poem: Any, name: str, names: tuple[str, ...]) -> dict[str, Any]:
    """The poem as an object, with a name for its title or author; as its id if it has one or the name is a number."""
    fields = poem if isinstance(poem, dict) else {"text": poem}
    own = key(names, fields)
    if is_number(name) or (own is not None and fields[own]):
        return {"id": name, **fields}
    return {**fields, own or names[0]: name}


def _may_be_poem(value: Any) -> bool:
    return isinstance(joined(value), str) or (isinstance(value, dict) and key(TEXT, value) is not None)


def _has_break(poem: dict[str, Any]) -> bool:
    text = joined(poem[text_key(TEXT, poem) or TEXT[0]])
    return not isinstance(text, str) or "\n" in text.strip()
