"""From a text to the words that a network reads."""

from __future__ import annotations

from cvkan.poetry.tokens import BREAKS, bare, tokenize


def split_words(text: str, lowercase: bool) -> list[str]:
    """Words, numbers, punctuation marks and emojis of a text, see :func:`~cvkan.poetry.tokens.tokenize`.

    Line ends and the width of gaps are not told.

    Args:
        text: not blank.
        lowercase: capital and small letters are the same.
    """
    tokens = tokenize(text.lower() if lowercase else text)
    return [bare(token) for token in tokens if token not in BREAKS]
