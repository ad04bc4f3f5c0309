"""Poems from a file: JSON, JSON lines, CSV or plain text, told apart by their content."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cvkan.errors import DataUnavailableError, UserError
from cvkan.poetry.poem_fields import (
    AUTHOR,
    COLUMNS,
    LETTERS,
    SHAPES,
    TEXT,
    TITLE,
    is_number,
    joined,
    key,
    listed,
    text_key,
    type_name,
)
from cvkan.poetry.poems_csv import csv_records, delimiter_of
from cvkan.poetry.poems_json import json_records
from cvkan.poetry.poems_text import parted

EMBEDDED = Path(__file__).with_name("embedded.json")

JSON_SUFFIXES = {".json", ".jsonl", ".ndjson"}


@dataclass(frozen=True)
class Poem:
    """One poem.

    Attributes:
        text: as it stands in the file, without empty lines around it; never empty.
        title: None if the file has none.
        author: None if the file has none.
        metadata: all other fields, under their names in the file.
    """

    text: str
    title: str | None = None
    author: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def read_poems(path: Path) -> list[Poem]:
    """All poems of a file, in its order.

    - JSON: a list, an object that holds one as ``poems``, ``data``, ``items`` or ``records``, an object of names (see
      :mod:`~cvkan.poetry.poems_json`), or one object; JSON lines: one value a line. A poem is a text, a list of lines,
      or an object.
    - CSV with a header, one poem a row; the delimiter is one of ``, ; | tab``.
    - Plain text, see :func:`~cvkan.poetry.poems_text.parted`. A blank line that parts no poems parts stanzas.

    The text of an object or row is its ``text``, ``content``, ``poem``, ``body``, ``lines``, ``stanzas`` or ``verses``:
    a text, a list of lines, or a list of stanzas; the first of them that holds a text. In a row ``lines`` and
    ``stanzas`` are no texts: they are counts there. A name that ends in .json or .csv is believed where the content
    could as well be plain text.

    Args:
        path: a file in UTF-8, with or without a byte order mark.

    Raises:
        DataUnavailableError: there is no such file.
        UserError: the file is none of these, holds no poem, or a poem is empty, a number, of another type or not
            UTF-8; a poem is named by its index, counted from 0.
    """
    text = _read_text(path)
    names: tuple[str, ...] = TEXT
    if re.match(r"\s*[\[{]\s*[\[\]{}\"]", text) or path.suffix.lower() in JSON_SUFFIXES:
        records: list[Any] = json_records(text, path)
    elif delimiter := delimiter_of(text, path):
        names, records = COLUMNS, csv_records(text, delimiter, path)
    else:
        records = parted(text, path)
    if not records:
        raise UserError("the file holds no poem", path, "Add poems.")
    return [_poem(record, names, index, path) for index, record in enumerate(records)]


def embedded_poems() -> list[Poem]:
    """Poems that come with cvkan: 89 short ones, under four pen names of different habits."""
    return read_poems(EMBEDDED)


def _read_text(path: Path) -> str:
    """The content, lines ended by ``\\n``; bytes that are not UTF-8 become lone surrogates, to be reported."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataUnavailableError("there is no such file of poems", path, "Set data.path.") from None
    except OSError as error:
        raise UserError(f"the poems cannot be read: {error.strerror}", path, "Set data.path to a file.") from None
    if b"\0" in raw:
        raise UserError("the file is not text in UTF-8: it holds zero bytes", path, "Save it as UTF-8.")
    text = _unix_lines(raw.decode("utf-8-sig", errors="surrogateescape"))
    if not text.strip():
        raise UserError("the file is empty", path, "Add poems.")
    return text


def _unix_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _poem(record: Any, names: tuple[str, ...], index: int, path: Path) -> Poem:
    """Check one poem, a text or an object, whose text goes by one of the names."""
    fields = record if isinstance(record, dict) else {"text": record}
    _check_encoding(fields, index, path)
    keys = [text_key(names, fields), key(TITLE, fields), key(AUTHOR, fields)]
    if keys[0] is None:
        what = f"poem {index} has no text: its fields are {listed(fields)}"
        raise UserError(what, path, f"Name one {' or '.join(names)}.")
    text = joined(fields[keys[0]])
    if not isinstance(text, str):
        raise UserError(f"poem {index} must be text, got {type_name(text)}", path, SHAPES)
    if not text.strip():
        raise UserError(f"poem {index} is empty", path, "Remove it or give it a text.")
    if is_number(text):
        what = f"poem {index} is nothing but a number, {text.strip()[:LETTERS]!r}"
        raise UserError(what, path, f"Remove it; the field of its text is named {' or '.join(names)}.")
    title, author = (_name(fields, name, index, path) for name in keys[1:])
    metadata = {name: value for name, value in fields.items() if name not in keys}
    # JSON may spell \r in its texts, which the file's own line ends do not show.
    return Poem(_unix_lines(text).strip("\n"), title, author, metadata)


def _name(fields: dict[str, Any], field_name: str | None, index: int, path: Path) -> str | None:
    """A title or author; a number is one too, and an empty one is none."""
    value = None if field_name is None else fields[field_name]
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int, float))):
        raise UserError(f"poem {index}: {field_name} must be text, got {type_name(value)}", path, "Correct it.")
    return None if value is None else str(value).strip() or None


def _check_encoding(fields: dict[str, Any], index: int, path: Path) -> None:
    """No lone surrogate in any field: a byte that was not UTF-8, or half a character in JSON's own spelling."""
    text = json.dumps(fields, ensure_ascii=False)
    if broken := re.search(r"[\ud800-\udfff]", text):
        code, before = ord(broken.group()), text[max(0, broken.start() - 12) : broken.start()]
        what = f"byte 0x{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else f"half a character, U+{code:04X}"
        raise UserError(f"poem {index} is not UTF-8: {what} after {before!r}", path, "Save the file as UTF-8.")
