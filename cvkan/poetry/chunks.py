"""Poems cut into chunks of limited length, and divided into training, validation and test part."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from cvkan.errors import UserError
from cvkan.poetry.tokens import BREAKS, POEM_END, POEM_START, bare

MARKS = 2  # tokens of a chunk that are not the poem's: its start and its end
SENTENCE_ENDS = frozenset(".!?…")
# Share of all poems; each part holds the poems whose hash lies between its borders.
PARTS = {"train": (0.0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1.0)}


@dataclass(frozen=True)
class Chunk:
    """A part of a poem.

    Attributes:
        poem: number of the poem.
        start: its first token of the poem.
        end: one after its last token of the poem.
        tokens: the poem's tokens ``[start:end]`` between ``<POEM_START>`` and ``<POEM_END>``.
    """

    poem: int
    start: int
    end: int
    tokens: tuple[str, ...]


def cut(poems: Sequence[Sequence[str]], max_length: int, overlap: int) -> list[Chunk]:
    """Cut poems into chunks that leave no token out.

    A chunk ends after a line, stanza or sentence if one ends in its second half, else where it is full. The next one
    starts ``overlap`` tokens before that end, wherever it came to lie: so nothing is lost between two chunks.

    Args:
        poems: tokens of each poem, without marks of start and end.
        max_length: tokens of a chunk at most, its two marks included.
        overlap: tokens that a chunk shares with the next one of its poem.

    Returns:
        The chunks of the first poem in their order, then those of the second, and so on.

    Raises:
        ValueError: ``max_length`` or ``overlap`` is out of range, or a poem has no tokens.
    """
    room = max_length - MARKS
    if room < 1:
        raise ValueError(f"max_length must be 3 or more, as two tokens are marks, got {max_length}; raise it")
    if not 0 <= overlap < room:
        raise ValueError(f"overlap must be 0 or more and below max_length - 2 = {room}, got {overlap}; lower it")
    chunks = []
    for number, tokens in enumerate(poems):
        if not tokens:
            raise ValueError(f"poem {number} has no tokens; leave it out")
        start = end = 0
        while end < len(tokens):
            start = max(0, end - overlap)
            # An end beyond start + overlap brings the next start forward.
            end = _end(tokens, start + max(overlap, room // 2) + 1, start + room)
            chunks.append(Chunk(number, start, end, (POEM_START, *tokens[start:end], POEM_END)))
    return chunks


def _end(tokens: Sequence[str], earliest: int, latest: int) -> int:
    """The last place from ``earliest`` to ``latest`` with the end of a line or sentence before it, else ``latest``."""
    if latest >= len(tokens):
        return len(tokens)
    ends = (end for end in range(latest, earliest - 1, -1) if _closes(tokens[end - 1]))
    return next(ends, latest)


def _closes(token: str) -> bool:
    return token in BREAKS or SENTENCE_ENDS.issuperset(bare(token))


def coverage(chunks: Sequence[Chunk], poems: Sequence[Sequence[str]]) -> float:
    """Share of the poems' tokens that are in some chunk; 1.0 for all that :func:`cut` makes."""
    covered = {(chunk.poem, place) for chunk in chunks for place in range(chunk.start, chunk.end)}
    return len(covered) / sum(map(len, poems))


def duplication(chunks: Sequence[Chunk], poems: Sequence[Sequence[str]]) -> float:
    """Tokens of all chunks, without their marks, for each token of the poems; 1.0 without overlap."""
    return sum(chunk.end - chunk.start for chunk in chunks) / sum(map(len, poems))


def split_poems(texts: Sequence[str]) -> list[str]:
    """The part of each poem: ``train``, ``val`` or ``test``, 80 : 10 : 10 on average.

    A poem's part follows from its own letters, by :func:`identity`: it stays when poems are added, taken away or put
    in another order, and texts that differ in punctuation, case or layout alone fall together. Of few poems none may
    belong in a part. Such a part borrows the poem whose hash comes nearest to its borders from a part with two or
    more, until it has one of its own: the only case in which added poems move another.

    Args:
        texts: of all poems.

    Raises:
        UserError: there are fewer than three different poems.
    """
    keys = [identity(text) for text in texts]
    place = {key: int(key[:12], 16) / 2**48 for key in keys}  # in [0, 1), evenly spread
    if len(place) < len(PARTS):
        raise UserError(
            f"{len(place)} different poems, fewer than the {len(PARTS)} parts {', '.join(PARTS)}",
            "data",
            "Add poems.",
        )
    part_of = {key: _part(value) for key, value in place.items()}
    for part, (low, high) in PARTS.items():
        sizes = {name: list(part_of.values()).count(name) for name in PARTS}
        if not sizes[part]:
            lenders = [key for key in place if sizes[part_of[key]] > 1]
            nearest = min(lenders, key=lambda key: (max(low - place[key], place[key] - high), place[key]))
            part_of[nearest] = part
    return [part_of[key] for key in keys]


def identity(text: str) -> str:
    """The same for all copies of a poem, which may differ in layout, case or punctuation, and on every machine.

    It is the SHA-256, in hexadecimal digits, of the letters and digits in one case; of a text without any, of the text.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(filter(str.isalnum, folded)) or "".join(text.split())
    return hashlib.sha256(letters.encode()).hexdigest()


def _part(value: float) -> str:
    return next(part for part, (_, high) in PARTS.items() if value < high)
