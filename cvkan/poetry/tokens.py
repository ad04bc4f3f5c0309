"""Text as tokens, and back without a loss.

A token is a word, a number, a punctuation mark, an emoji, or the end of a line or stanza. Between two tokens of a line
stands the gap that is usual there (:func:`usual_gap`): a space before a word, none before a comma. A token after
another gap begins with that gap: ``" ,"`` after a space, ``"    word"`` in an indented line. One that touches its
neighbour where a space is usual begins with :data:`GLUE`. So nearly all tokens of ordinary text are bare words, and the
others say themselves how they were written. Vectors are looked up for :func:`bare` words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

VERSION = 1  # of the tokens: raise it with any change that alters them

PAD = "<PAD>"
UNK = "<UNK>"
POEM_START = "<POEM_START>"
POEM_END = "<POEM_END>"
LINE_BREAK = "<LINE_BREAK>"
STANZA_BREAK = "<STANZA_BREAK>"
# In the order of their ids. Text never becomes one of them: its "<" is a token of its own.
SPECIAL = (PAD, UNK, POEM_START, POEM_END, LINE_BREAK, STANZA_BREAK)

BREAKS = {LINE_BREAK: "\n", STANZA_BREAK: "\n\n"}
SILENT = frozenset((PAD, POEM_START, POEM_END))  # marks that stand for no text
GLUE = "\u2060"  # WORD JOINER, "no break here"; one in the text is a token of its own, so that none is taken for a mark

CLOSING = frozenset(",.;:!?)]}…%\u2019”»")  # usually touch what is before them
OPENING = frozenset("([{“\u2018«¿¡#$£€")  # usually touch what is after them
JOINING = frozenset("-/")  # usually touch both


def normalize(text: str) -> str:
    """The part of a text's layout that its tokens keep.

    Lines end in ``\\n`` and not in white space, stanzas are parted by one empty line, and none stands at either end of
    the text. Everything else stays as it is: every visible character, its case, indents, and spaces inside a line.
    """
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", lines).strip("\n")


def tokenize(text: str) -> list[str]:
    """The tokens of a text; ``detokenize(tokenize(text)) == normalize(text)`` for every text.

    - A word is letters and digits with the accents on them, and may hold apostrophes: ``don't`` is one token.
      Compounds are not: ``moss-rose`` is ``moss``, ``-``, ``rose``.
    - A number may hold ``.``, ``,`` and ``:``: ``8,000``, ``3.5``, ``5:12``.
    - An emoji is one token with all of its parts, and so is a run of full stops, hyphens or asterisks.
    - Every other character is a token.
    """
    tokens: list[str] = []
    previous = None
    for match in _pattern().finditer(normalize(text)):
        gap, word, line_ends = match.groups()
        if line_ends:
            tokens.append(STANZA_BREAK if len(line_ends) == 2 else LINE_BREAK)
            previous = None
        else:
            tokens.append(word if gap == usual_gap(previous, word) else (gap or GLUE) + word)
            previous = word
    return tokens


def detokenize(tokens: Sequence[str]) -> str:
    """The text of tokens, also of tokens that a model has chosen or of a part of a poem.

    Padding and the marks of a poem's start and end give no text; ``<UNK>`` stands as it is.
    """
    text: list[str] = []
    previous = None
    for token in tokens:
        if token in BREAKS:
            text.append(BREAKS[token])
            previous = None
        elif token not in SILENT:
            word = bare(token)
            gap = token.removesuffix(word)
            text += [usual_gap(previous, word) if not gap else gap.strip(GLUE), word]
            previous = word
    return "".join(text)


def bare(token: str) -> str:
    """A token without the gap before it: what is looked up among word vectors."""
    return token[1:] if len(token) > 1 and token[0] == GLUE else token.lstrip()


def usual_gap(previous: str | None, word: str) -> str:
    """What stands between two neighbours of a line unless a token says otherwise.

    It depends on these two alone, so that a part of a poem reads as it does inside the poem.

    Args:
        previous: bare token before ``word``; None at the start of a line.
        word: bare token.
    """
    if previous is None or previous in OPENING or word[0] in CLOSING or JOINING & {previous, word}:
        return ""
    return " "


@cache
def _pattern() -> re.Pattern[str]:
    """Gap and token, or the ends of lines."""
    # Accents, vowel signs, joiners, skin tones and flag tags: they belong to the character before them.
    planes = (range(0x20000), range(0xE0100, 0xE01F0))
    marks = "".join(chr(code) for plane in planes for code in plane if unicodedata.category(chr(code))[0] == "M")
    attached = rf"[\u200c\u200d\U0001F3FB-\U0001F3FF\U000E0020-\U000E007F{marks}]"
    letters = rf"[^\W_](?:[^\W_]|{attached})*"
    token = "|".join(
        (
            GLUE,
            r"\d+(?:[.,:]\d+)+",
            rf"{letters}(?:['\u2019]{letters})*",
            r"\.{2,}|-{2,}|\*{2,}",
            r"[\U0001F1E6-\U0001F1FF]{2}",  # a flag is two letters
            rf"\S{attached}*(?:(?<=\u200d)[^\w\s]{attached}*)*",  # a zero width joiner makes one emoji of several
        )
    )
    return re.compile(rf"([^\S\n]*)({token})|(\n+)")
