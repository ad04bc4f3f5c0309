"""Poems from a file: JSON, JSON lines, CSV or plain text, told apart by their content."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cvkan.errors import DataUnavailableError, UserError, one_line

EMBEDDED = Path(__file__).with_name("embedded.json")

# Names of a field, the first present one is taken; upper and lower case are alike.
TEXT = ("text", "content", "poem", "body")
TITLE = ("title",)
AUTHOR = ("author", "poet")

DELIMITERS = ",;\t|"
JSON_SUFFIXES = {".json", ".jsonl", ".ndjson"}
CSV_SUFFIXES = {".csv", ".tsv"}
SHAPES = "Give a list of texts, or of objects with a text each."
STANZAS = "blank lines; if these part stanzas, put lines of --- between the poems"
# What parts the poems of plain text; the first that is found in it.
PARTINGS = {
    "marker lines": r"^[^\S\n]*(?:-{3,}|={3,}|\*{3,}|#{3,}|_{3,}|~{3,}|<\|endoftext\|>)[^\S\n]*$",
    "two or more blank lines": r"\n(?:[^\S\n]*\n){2,}",
    STANZAS: r"\n(?:[^\S\n]*\n)+",
}

log = logging.getLogger(__name__)


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

    - JSON: a list, ``{"poems": [...]}``, or one object; JSON lines: one value a line. A poem is a text or an object.
    - CSV with a header, one poem a row; the delimiter is one of ``, ; | tab``.
    - Plain text. Poems are parted by marker lines (``---``, ``***``, ``===``, ``###``, ``___``, ``~~~`` or longer, or
      ``<|endoftext|>``); without any, by two or more blank lines; without these, by every blank line. A blank line
      that parts no poems parts stanzas.

    The text of an object or row is its ``text``, ``content``, ``poem`` or ``body``. A name that ends in .json or .csv
    is believed where the content could as well be plain text.

    Args:
        path: a file in UTF-8, with or without a byte order mark.

    Raises:
        DataUnavailableError: there is no such file.
        UserError: the file is none of these, holds no poem, or a poem is empty, of another type or not UTF-8; a poem
            is named by its index, counted from 0.
    """
    text = _read_text(path)
    if re.match(r"\s*[\[{]\s*[\[\]{}\"]", text) or path.suffix.lower() in JSON_SUFFIXES:
        records = _json_records(text, path)
    else:
        with _cells_of_any_length():
            delimiter = _delimiter(text, path)
            records = _csv_records(text, delimiter, path) if delimiter else _parted(text, path)
    if not records:
        raise UserError("the file holds no poem", path, "Add poems.")
    return [_poem(record, index, path) for index, record in enumerate(records)]


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
    text = raw.decode("utf-8-sig", errors="surrogateescape").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise UserError("the file is empty", path, "Add poems.")
    return text


def _json_records(text: str, path: Path) -> list[Any]:
    """The poems of one JSON value, or one poem a value."""
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
    if len(values) > 1:
        return values
    value = values[0]
    if isinstance(value, dict) and "poems" in value:
        value = value["poems"]
        if not isinstance(value, list):
            raise UserError(f'"poems" must be a list, got {_type(value)}', path, SHAPES)
    return value if isinstance(value, list) else [value]


@contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """Lift the csv module's limit, 131072 characters a cell, which is one for the whole process."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimiter(text: str, path: Path) -> str | None:
    """What parts the columns of a CSV, or None for plain text.

    A header names the text and at least one column more, without a space after the delimiter, and the first row is as
    long: ``Poem, by night`` is none. In a file named .csv any first line is a header.
    """
    named = path.suffix.lower() in CSV_SUFFIXES
    for delimiter in DELIMITERS:
        rows = csv.reader(io.StringIO(text.lstrip("\n"), newline=""), delimiter=delimiter, strict=True)
        try:
            header, row = next(rows), next(rows, [])
        except csv.Error:
            continue
        simple = all(re.fullmatch(r"(?:\w[\w -]*)?", name) for name in header)
        if _key(TEXT, header) is not None and (named or (simple and len(header) == len(row) > 1)):
            return delimiter
    return max(DELIMITERS, key=text.partition("\n")[0].count) if named else None


def _csv_records(text: str, delimiter: str, path: Path) -> list[dict[str, str]]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[dict[str, str]] = []
    header: list[str] = []
    try:
        for row in filter(None, rows):
            if not header:
                header = [name.strip() for name in row]
                if len(set(header)) < len(header):
                    raise UserError("two columns have one name", path, f"Rename one of {', '.join(header)}.")
                if _key(TEXT, header) is None:
                    raise UserError(f"no text column among {', '.join(header)}", path, f"Name one {' or '.join(TEXT)}.")
            elif len(row) != len(header):
                what = f"poem {len(records)} has {len(row)} cells, the header {len(header)}"
                raise UserError(what, f"{path}, line {rows.line_num}", "Quote texts that hold the delimiter.")
            else:
                records.append(dict(zip(header, row, strict=True)))
    except csv.Error as error:
        where = f"{path}, line {rows.line_num}"
        raise UserError(f"broken CSV in poem {len(records)}: {error}", where, "Correct the file.") from None
    return records


def _parted(text: str, path: Path) -> list[str]:
    """Poems of plain text; see :func:`read_poems`. A marker before the first or after the last poem parts nothing."""
    text = re.sub(r"\A\s*\n", "", text.rstrip())
    found = (name for name, parting in PARTINGS.items() if re.search(parting, text, re.MULTILINE))
    name = next(found, None)
    if name is None:
        return [text]
    pieces = re.split(PARTINGS[name], text, flags=re.MULTILINE)
    first, last = (int(not pieces[end].strip()) for end in (0, -1))
    pieces = pieces[first : len(pieces) - last]
    tell = log.warning if name == STANZAS else log.info
    tell("%s: plain text of %d poems, parted by %s", path, len(pieces), name)
    return pieces


def _poem(record: Any, index: int, path: Path) -> Poem:
    """Check one poem, a text or an object."""
    fields = record if isinstance(record, dict) else {"text": record}
    _check_encoding(fields, index, path)
    keys = [_key(names, fields) for names in (TEXT, TITLE, AUTHOR)]
    if keys[0] is None:
        found = ", ".join(map(str, fields)) or "none"
        what = f"poem {index} has no text: its fields are {found}"
        raise UserError(what, path, f"Name one {' or '.join(TEXT)}.")
    text = fields[keys[0]]
    if not isinstance(text, str):
        raise UserError(f"poem {index} must be text, got {_type(text)}", path, SHAPES)
    if not text.strip():
        raise UserError(f"poem {index} is empty", path, "Remove it or give it a text.")
    title, author = (_name(fields, key, index, path) for key in keys[1:])
    metadata = {name: value for name, value in fields.items() if name not in keys}
    return Poem(text.strip("\n"), title, author, metadata)


def _name(fields: dict[str, Any], key: str | None, index: int, path: Path) -> str | None:
    """A title or author; a number is one too, and an empty one is none."""
    value = None if key is None else fields[key]
    if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int, float))):
        raise UserError(f"poem {index}: {key} must be text, got {_type(value)}", path, "Correct it.")
    return None if value is None else str(value).strip() or None


def _check_encoding(fields: dict[str, Any], index: int, path: Path) -> None:
    """No lone surrogate in any field: a byte that was not UTF-8, or half a character in JSON's own spelling."""
    text = json.dumps(fields, ensure_ascii=False)
    if broken := re.search(r"[\ud800-\udfff]", text):
        code, before = ord(broken.group()), text[max(0, broken.start() - 12) : broken.start()]
        what = f"byte 0x{code - 0xDC00:02X}" if 0xDC80 <= code <= 0xDCFF else f"half a character, U+{code:04X}"
        raise UserError(f"poem {index} is not UTF-8: {what} after {before!r}", path, "Save the file as UTF-8.")


def _key(names: tuple[str, ...], fields: Iterable[str]) -> str | None:
    """Which of the fields goes by one of the names."""
    lowered = {name.strip().lower(): name for name in reversed(list(fields))}
    return next((lowered[name] for name in names if name in lowered), None)


def _type(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )
