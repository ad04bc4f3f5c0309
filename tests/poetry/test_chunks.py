"""Chunks lose no token; the parts of a data set hold whole poems and stay as they are when poems are added."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cvkan.errors import UserError
from cvkan.poetry.chunks import PARTS, Chunk, coverage, cut, duplication, identity, split_poems
from cvkan.poetry.poems_file import embedded_poems
from cvkan.poetry.tokens import LINE_BREAK, POEM_END, POEM_START, STANZA_BREAK, tokenize

SHARED = Path(__file__).parents[3] / "shared" / "data"
POEMS = st.lists(
    st.lists(
        st.sampled_from(["sea", "wind", ",", ".", " !", "...", LINE_BREAK, STANZA_BREAK]), min_size=1, max_size=90
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def lengths(draw: st.DrawFn) -> tuple[int, int]:
    room = draw(st.integers(1, 30))
    return room + 2, draw(st.integers(0, room - 1))


@given(POEMS, lengths())
def test_chunks_cover_every_token_in_order(poems: list[list[str]], length: tuple[int, int]) -> None:
    max_length, overlap = length
    chunks = cut(poems, max_length, overlap)
    assert coverage(chunks, poems) == 1.0
    for number, tokens in enumerate(poems):
        own = [chunk for chunk in chunks if chunk.poem == number]
        assert own[0].start == 0
        assert own[-1].end == len(tokens)
        assert all(after.start == max(0, before.end - overlap) for before, after in pairwise(own))
        assert all(after.end > before.end for before, after in pairwise(own))
        for chunk in own:
            assert chunk.tokens == (POEM_START, *tokens[chunk.start : chunk.end], POEM_END)
            assert 2 < len(chunk.tokens) <= max_length
    assert [chunk.poem for chunk in chunks] == sorted(chunk.poem for chunk in chunks)


@given(POEMS, lengths())
def test_measures_agree_with_counting(poems: list[list[str]], length: tuple[int, int]) -> None:
    chunks = cut(poems, *length)[::2]  # some are missing
    counts = [[0] * len(tokens) for tokens in poems]
    for chunk in chunks:
        for place in range(chunk.start, chunk.end):
            counts[chunk.poem][place] += 1
    flat = [count for row in counts for count in row]
    assert coverage(chunks, poems) == pytest.approx(sum(count > 0 for count in flat) / len(flat))
    assert duplication(chunks, poems) == pytest.approx(sum(flat) / len(flat))


def test_a_chunk_ends_after_a_line_or_sentence_of_its_second_half() -> None:
    words = [f"w{i}" for i in range(40)]
    words[14], words[6] = LINE_BREAK, "."
    chunks = cut([words], max_length=22, overlap=3)
    assert [(chunk.start, chunk.end) for chunk in chunks] == [(0, 15), (12, 32), (29, 40)]
    words[14], words[17] = "w14", " ?!"  # a gap before the mark changes nothing
    assert cut([words], max_length=22, overlap=3)[0].end == 18
    words[17] = "w17"  # the full stop at 6 lies in the first half
    assert cut([words], max_length=22, overlap=3)[0].end == 20


def test_chunks_of_known_size() -> None:
    tokens = ["w"] * 100
    chunks = cut([tokens, ["one"]], max_length=50, overlap=10)
    assert [(chunk.start, chunk.end) for chunk in chunks] == [(0, 48), (38, 86), (76, 100), (0, 1)]
    assert chunks[-1] == Chunk(1, 0, 1, (POEM_START, "one", POEM_END))
    assert duplication(chunks, [tokens, ["one"]]) == 121 / 101


@pytest.mark.parametrize(
    ("poems", "max_length", "overlap", "message"),
    [
        ([["a"]], 2, 0, "max_length must be 3 or more"),
        ([["a"]], 50, 48, "overlap must be 0 or more and below max_length - 2 = 48, got 48"),
        ([["a"]], 50, -1, "overlap must be 0 or more"),
        ([["a"], []], 50, 10, "poem 1 has no tokens"),
    ],
)
def test_wrong_arguments(poems: list[list[str]], max_length: int, overlap: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut(poems, max_length, overlap)


TEXTS = st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=3, max_size=30)


def home_of(text: str) -> str:
    """The part that a poem of small letters belongs in, whatever other poems there are."""
    value = int.from_bytes(hashlib.sha256(text.replace(" ", "").encode()).digest()[:6]) / 2**48
    return "train" if value < 0.8 else "val" if value < 0.9 else "test"


@given(TEXTS, st.randoms())
def test_split_has_no_empty_part_and_does_not_depend_on_order(texts: list[str], random) -> None:
    assume(len(set(texts)) >= 3)
    parts = split_poems(texts)
    assert set(parts) == set(PARTS)
    of_text = dict(zip(texts, parts, strict=True))
    assert [of_text[text] for text in texts] == parts  # copies fall together
    shuffled = random.sample(texts, len(texts))
    assert split_poems(shuffled) == [of_text[text] for text in shuffled]


@given(TEXTS, TEXTS)
def test_added_poems_move_at_most_those_that_were_lent(texts: list[str], added: list[str]) -> None:
    assume(len(set(texts)) >= 3)
    before = split_poems(texts)
    homes = [home_of(text) for text in texts]
    missing = set(PARTS) - set(homes)
    lent = {text for text, part, home in zip(texts, before, homes, strict=True) if part != home}
    assert len(lent) == len(missing)
    if not missing:
        assert before == homes
        assert split_poems([*added, *texts])[len(added) :] == before


def test_a_part_without_poems_borrows_the_one_nearest_to_it() -> None:
    texts = [f"poem {i}" for i in range(200)]
    trained = [text for text in texts if home_of(text) == "train"][:20]
    parts = dict(zip(trained, split_poems(trained), strict=True))
    assert list(parts.values()).count("val") == list(parts.values()).count("test") == 1
    tested = next(text for text in texts if home_of(text) == "test")
    with_test = dict(zip(trained, split_poems([*trained, tested])[:-1], strict=True))
    assert sum(with_test[text] != "train" for text in trained) == 1  # the borrowed test poem is back


def test_shares_of_many_poems_and_a_fixed_hash() -> None:
    parts = split_poems([f"poem {i}" for i in range(4000)])
    for part, share in {"train": 0.8, "val": 0.1, "test": 0.1}.items():
        assert parts.count(part) / 4000 == pytest.approx(share, abs=0.02)
    # Another hash would divide everybody's poems anew.
    assert split_poems(["low tide", "oak", "ferry"]) == ["train", "val", "test"]


def test_copies_that_differ_in_layout_case_or_punctuation_fall_together() -> None:
    texts = ["The sea,\r\nthe sea!", "the sea the sea", "THE  SEA\n\nTHE SEA.", "\ufeffThe sea... the sea"]
    assert len({identity(text) for text in texts}) == 1
    assert len({identity(text) for text in [*texts, "🌊", "🌟", "the sea"]}) == 4
    parts = split_poems([*texts, "🌊", "🌟", "oak"])
    assert len(set(parts[:4])) == 1


def test_fewer_than_three_different_poems_are_too_few() -> None:
    with pytest.raises(UserError, match=r"2 different poems, fewer than the 3 parts train, val, test"):
        split_poems(["sea", "sky", "sky!", "Sea"])


def test_embedded_poems_fill_all_parts_and_each_has_all_authors() -> None:
    poems = embedded_poems()
    parts = split_poems([poem.text for poem in poems])
    for part in PARTS:
        authors = {poem.author for poem, own in zip(poems, parts, strict=True) if own == part}
        assert len(authors) == 4


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "poems264").is_dir(), reason="needs the shared data folder")
def test_real_poems_are_covered_and_rarely_cut_inside_a_line() -> None:
    texts = [poem["text"] for poem in json.loads((SHARED / "poems264" / "poems.json").read_text(encoding="utf-8"))]
    poems = [tokenize(text) for text in texts]
    chunks = cut(poems, 50, 10)
    assert coverage(chunks, poems) == 1.0
    assert 1.1 < duplication(chunks, poems) < 1.3
    inner = [chunk for chunk in chunks if chunk.end < len(poems[chunk.poem])]
    at_a_line = sum(chunk.tokens[-2] in (LINE_BREAK, STANZA_BREAK, ".", "?", "!") for chunk in inner)
    assert at_a_line / len(inner) > 0.99
