"""Poems out of plain text: what parts them, and which lines are their titles."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

HEADING = r"^(#{1,6}[^\S\n]+\S.*)$"  # of Markdown
UNDERLINED = r"(?:\A|^[^\S\n]*\n)[^\S\n]*((?![-=*]{3})\S.{,79})\n(?:={3,}|-{3,})[^\S\n]*$"  # headings too
FRONT_MATTER = (
    r"\A---[^\S\n]*\n[\w-]+:(?:[^\S\n].*)?\n(?:(?:[\w-]+:|[^\S\n]|-[^\S\n]).*\n)*---[^\S\n]*(?:\n|\Z)"  # YAML
)
WIDE_GAP = r"\n(?:[^\S\n]*\n){2,}"
GAP = r"\n(?:[^\S\n]*\n)+"
MARKER = (
    r"^[^\S\n]*(?:-{3,}|={3,}|\*{3,}|#{3,}|_{3,}|~{3,}|\*(?:[^\S\n]+\*){2,}|-(?:[^\S\n]+-){2,}|<\|endoftext\|>|\f)"
    r"[^\S\n]*$"
)
NUMBER = r"(?:[IVXLCDM]+|\d{1,4})[.):]?"
LONGEST_TITLE = 80  # characters
OTHERWISE = "put lines of --- between the poems to part it otherwise"
UNDERLINES = "underlined titles; blank lines above the lines of --- or === make these part it instead"
STANZAS = "blank lines; if these part stanzas, put lines of --- between the poems"


def parted(text: str, path: Path) -> list[Any]:
    """Poems of plain text, parted by the first of these that is there; the log says which, and how to change it.

    - Underlined titles, a line of ``===`` or ``---`` under each, if the text begins with one and has another, a blank
      line before it and a text behind it.
    - Lines of markers: ``---``, ``***``, ``===``, ``###``, ``___``, ``~~~`` or longer, ``* * *``, ``- - -``,
      ``<|endoftext|>`` or a form feed. One before the first or after the last poem parts nothing.
    - Headings of Markdown, ``# Title``, if the text begins with one and has another.
    - Two or more blank lines.
    - Title lines, if the text begins with one and has another: a number, a Roman numeral or words in capitals, alone
      between blank lines. Among pieces that two or more blank lines part, such a line is the title of the next piece.
    - Every blank line; this is a warning, for these may part stanzas.

    Front matter in YAML at the start of the file is left out.

    Returns:
        A text, or an object with a title and a text, a poem.
    """
    text = re.sub(r"\A\s*\n", "", text.rstrip())
    if front := re.match(FRONT_MATTER, text):
        log.info("%s: the front matter at the start of the file is left out", path)
        text = re.sub(r"\A\s*\n", "", text[front.end() :])
    records, parting = _records(text)
    if len(records) == 1:
        log.info("%s: plain text of one poem; lines of --- would part several", path)
    else:
        tell = log.warning if parting == STANZAS else log.info
        tell("%s: plain text of %d poems, parted by %s", path, len(records), parting)
    return records


def _records(text: str) -> tuple[list[Any], str]:
    """The poems, and what parts them, in words."""
    pieces = re.split(UNDERLINED, text, flags=re.MULTILINE)
    texts = [re.sub(rf"(?m:{MARKER})\s*\Z", "", piece) for piece in pieces[2::2]]
    if not pieces[0] and len(texts) > 1 and all(map(str.strip, texts)):
        titled = zip(pieces[1::2], texts, strict=True)
        return [{"title": title.strip(), "text": piece} for title, piece in titled], UNDERLINES
    if re.search(MARKER, text, re.MULTILINE):
        pieces = re.split(MARKER, text, flags=re.MULTILINE)
        first, last = (int(not pieces[end].strip()) for end in (0, -1))
        return pieces[first : len(pieces) - last], "lines of markers"
    pieces = re.split(HEADING, text, flags=re.MULTILINE)
    if not pieces[0] and len(pieces) > 3:
        return _titled(pieces, lambda piece: bool(re.fullmatch(HEADING, piece)), True), f"headings; {OTHERWISE}"
    is_wide = len(pieces := re.split(WIDE_GAP, text)) > 1
    pieces = pieces if is_wide else re.split(GAP, text)
    titles = sum(map(_is_title, pieces))
    if not (_is_title(pieces[0]) and 1 < titles < len(pieces)):
        return pieces, f"two or more blank lines; {OTHERWISE}" if is_wide else STANZAS
    how = "two or more blank lines, with title lines" if is_wide else "title lines"
    return _titled(pieces, _is_title, not is_wide), f"{how}; {OTHERWISE}"


def _is_title(piece: str) -> bool:
    """Is a piece between blank lines a number, a Roman numeral or a line in capitals?"""
    line = piece.strip()
    is_short = "\n" not in line and len(line) <= LONGEST_TITLE
    return is_short and (line.isupper() or re.fullmatch(NUMBER, line) is not None)


def _titled(pieces: Iterable[str], is_title: Callable[[str], bool], up_to_next: bool) -> list[Any]:
    """Poems with titles; titles that follow each other are one, and behind the last poem a text of their own.

    Args:
        pieces: titles and texts, blank ones among them.
        is_title: tells them apart.
        up_to_next: all texts up to the next title are one poem, else every text.
    """
    poems: list[dict[str, str]] = []
    titles: list[str] = []
    for piece in filter(str.strip, pieces):
        if is_title(piece):
            titles.append(piece.strip().lstrip("#").strip())
        elif titles or not up_to_next:
            poems.append({"title": ", ".join(titles), "text": piece})
            titles = []
        else:
            poems[-1]["text"] += f"\n\n{piece}"
    return [*poems, *["\n".join(titles)][: len(titles)]]
