"""Tokens: nothing of a text is lost, and words are bare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cvkan.poetry.tokens import (
    GLUE,
    LINE_BREAK,
    PAD,
    POEM_END,
    POEM_START,
    SPECIAL,
    STANZA_BREAK,
    UNK,
    bare,
    detokenize,
    normalize,
    tokenize,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"
# Any characters, and often those that a tokenizer stumbles over.
PIECES = [
    *SPECIAL,
    GLUE,
    "\n",
    "\n\n",
    "\r\n",
    "\u2028",
    "\x0b",
    "\x1f",
    " ",
    "   ",
    "\t",
    "\u00a0",
    "\u200d",
    "\u0301",
]
PIECES += [
    "sea",
    "Don't",
    "don\u2019t",
    "'Tis",
    "moss-rose",
    "8,000",
    "5:12",
    "7",
    "...",
    "--",
    "_",
    '"',
    "(",
    "!",
    "👍🏽",
    "🇩🇪",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.characters(), max_size=20).map("".join) | st.text()


def kept_layout(text: str) -> str:
    """What ``normalize`` says, line by line."""
    kept: list[str] = []
    for line in text.splitlines():
        line = line.rstrip()
        if line or (kept and kept[-1]):
            kept.append(line)
    return "\n".join(kept[:-1] if kept and not kept[-1] else kept)


@given(TEXTS)
@example("<LINE_BREAK>")
@example(f"a{GLUE}b {GLUE}\u0301 {GLUE}{GLUE}")
@example("\n\n  indented\n\n\n\nlast \n")
def test_text_comes_back_from_its_tokens(text: str) -> None:
    tokens = tokenize(text)
    assert detokenize(tokens) == kept_layout(text)
    assert normalize(text) == kept_layout(text)
    assert tokenize(detokenize(tokens)) == tokens


@given(TEXTS)
def test_bare_tokens_hold_every_visible_character_once(text: str) -> None:
    tokens = tokenize(text)
    words = [bare(token) for token in tokens if token not in (LINE_BREAK, STANZA_BREAK)]
    assert "".join(words) == "".join(text.split())
    assert not any(character.isspace() for word in words for character in word)
    assert [bare(word) for word in words] == words
    assert all(bare(mark) == mark for mark in SPECIAL)


@given(TEXTS)
def test_text_never_becomes_a_special_token(text: str) -> None:
    lines = kept_layout(text).split("\n") if kept_layout(text) else []
    breaks = [token for token in tokenize(text) if token in SPECIAL]
    assert breaks.count(STANZA_BREAK) == lines.count("")
    assert breaks.count(LINE_BREAK) == len(lines) - 1 - 2 * lines.count("") if lines else not breaks
    assert len(breaks) == breaks.count(STANZA_BREAK) + breaks.count(LINE_BREAK)


@given(TEXTS, st.data())
def test_a_part_of_a_poem_reads_as_it_does_inside_the_poem(text: str, data: st.DataObject) -> None:
    tokens = tokenize(text)
    start = data.draw(st.integers(0, len(tokens)))
    end = data.draw(st.integers(start, len(tokens)))
    assert detokenize([POEM_START, *tokens[start:end], POEM_END, PAD]) in kept_layout(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The sea, the SEA.", ["The", "sea", ",", "the", "SEA", "."]),
        ("one\ntwo\n\nthree", ["one", LINE_BREAK, "two", STANZA_BREAK, "three"]),
        ("Don't; the sailors\u2019 day", ["Don't", ";", "the", "sailors", "\u2019", "day"]),
        ("Bus 48 at 5:12, 8,000 loaves, 3.5", ["Bus", "48", "at", "5:12", ",", "8,000", "loaves", ",", "3.5"]),
        ("1 moon (shared)", ["1", "moon", "(", "shared", ")"]),
        ("moss-rose and/or", ["moss", "-", "rose", "and", "/", "or"]),
        ("wait... -- ***", ["wait", "...", "--", "***"]),
        ("home 🏠 👍🏽 🇩🇪🇫🇷 👩\u200d👩\u200d👧 1\ufe0f\u20e3",
         ["home", "🏠", "👍🏽", "🇩🇪", f"{GLUE}🇫🇷", "👩\u200d👩\u200d👧", "1\ufe0f\u20e3"]),
        ("cafe\u0301 नमस्ते", ["cafe\u0301", "नमस्ते"]),
        ("    deep , \tsea--wide", ["    deep", " ,", " \tsea", f"{GLUE}--", f"{GLUE}wide"]),
        ('"Go," she said', ['"', f"{GLUE}Go", ",", f'{GLUE}"', "she", "said"]),
        ("_love_ <UNK>", ["_", f"{GLUE}love", f"{GLUE}_", "<", f"{GLUE}UNK", f"{GLUE}>"]),
        (" \n \n", []),
    ],
)  # fmt: skip
def test_examples(text: str, tokens: list[str]) -> None:
    assert tokenize(text) == tokens


def test_chosen_words_are_written_as_text() -> None:
    chosen = [POEM_START, "the", "sea", ",", UNK, "-", "blue", LINE_BREAK, "(", "no", ")", "end", POEM_END, PAD, PAD]
    assert detokenize(chosen) == "the sea, <UNK>-blue\n(no) end"
    assert detokenize([STANZA_BREAK, LINE_BREAK, LINE_BREAK]) == "\n" * 4
    assert detokenize([PAD, POEM_END]) == detokenize([]) == ""


def test_special_tokens_have_padding_first_and_are_distinct() -> None:
    assert SPECIAL[0] == PAD == "<PAD>"
    assert len(set(SPECIAL)) == len(SPECIAL) == 6


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "poems264").is_dir(), reason="needs the shared data folder")
def test_real_poems_come_back_and_are_nearly_all_bare_words() -> None:
    texts = [poem["text"] for poem in json.loads((SHARED / "poems264" / "poems.json").read_text(encoding="utf-8"))]
    poems = [tokenize(text) for text in texts]
    assert [detokenize(tokens) for tokens in poems] == texts
    all_tokens = [token for tokens in poems for token in tokens]
    assert sum(token != bare(token) for token in all_tokens) / len(all_tokens) < 0.02
