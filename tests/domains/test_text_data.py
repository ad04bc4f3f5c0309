"""Sentences as batches of ids: vocabulary, padding, cuts, word dropout."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkan.domains.text.augment import WordDropout
from cvkan.domains.text.base import TextData
from cvkan.domains.text.parts import Part, draw_parts
from cvkan.domains.text.vocabulary import MARKS, PADDING_ID, UNKNOWN_ID, make_vocabulary
from cvkan.domains.text.words import split_words
from cvkan.errors import UserError

SENTENCES = {
    "train": ["a b b c", "c b", "b d a a", "e"],
    "val": ["b zebra"],
    "test": ["a yak yak c", "b"],
}
LOADING = {"batch_size": 2, "num_workers": 0, "seed": 0, "limit_train": None}
READING = {"max_length": 10, "min_count": 1, "max_words": None, "word_dropout": 0.0}


class Given(TextData):
    """Sentences that a test gives, of two classes in turn."""

    def __init__(self, sentences: dict[str, list[str]], **options: Any) -> None:
        super().__init__(class_names=("even", "odd"), **{**READING, **LOADING, **options})
        self.given = sentences

    def read_parts(self) -> dict[str, Part]:
        return {
            name: Part([text.split() for text in texts], [number % 2 for number in range(len(texts))])
            for name, texts in self.given.items()
        }


def loaded(sentences: dict[str, list[str]] = SENTENCES, **options: Any) -> Given:
    data = Given(sentences, **options)
    data.prepare_data()
    data.setup()
    return data


def read_back(data: TextData, batch: dict[str, torch.Tensor]) -> list[str]:
    """The sentences of a batch, as far as its mask goes."""
    rows = zip(batch["x"].tolist(), batch["mask"].bool().tolist(), strict=True)
    words = data.spec.vocabulary
    return [" ".join(words[number] for number, valid in zip(ids, mask, strict=True) if valid) for ids, mask in rows]


def test_words_are_numbered_by_frequency_then_alphabet_of_the_training_part() -> None:
    assert loaded().spec.vocabulary == ("", "<unk>", "b", "a", "c", "d", "e")


def test_min_count_and_max_words_leave_the_frequent_words() -> None:
    assert loaded(min_count=2).spec.vocabulary == (*MARKS, "b", "a", "c")
    assert loaded(max_words=2).spec.vocabulary == (*MARKS, "b", "a")
    with pytest.raises(UserError, match=r"no word .* occurs 9 times \(data.min_count\)"):
        loaded(min_count=9)


def test_words_of_training_sentences_left_out_are_unknown() -> None:
    data = loaded(limit_train=1)
    (kept,) = read_back(data, data.preprocess(data.splits["train"].__getitems__([0])))
    assert set(data.spec.vocabulary) == {*MARKS, *kept.split()}
    assert loaded(limit_train=3).fingerprint() != loaded().fingerprint()


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6), min_size=1, max_size=6))
def test_vocabulary_agrees_with_a_counter(sentences: list[list[str]]) -> None:
    texts = [" ".join(words) for words in sentences]
    counts = Counter(word for words in sentences for word in words)
    expected = sorted(counts, key=lambda word: (-counts[word], word))
    data = loaded({"train": texts, "val": texts[:1], "test": texts[:1]})
    assert data.spec.vocabulary == (*MARKS, *expected)


def test_ids_do_not_depend_on_the_order_of_the_raw_words() -> None:
    words, counts = (*MARKS, "x", "y", "z"), torch.tensor([50, 9, 1, 3, 1])
    swapped, swapped_counts = (*MARKS, "z", "x", "y"), torch.tensor([0, 0, 1, 1, 3])
    vocabulary, ids = make_vocabulary(words, counts, 1, None)
    other, other_ids = make_vocabulary(swapped, swapped_counts, 1, None)
    assert vocabulary == other == (*MARKS, "y", "x", "z")
    assert ids.tolist() == [PADDING_ID, UNKNOWN_ID, 3, 2, 4]
    assert other_ids.tolist() == [PADDING_ID, UNKNOWN_ID, 4, 3, 2]


def test_batches_are_as_long_as_their_longest_sentence_and_read_back() -> None:
    data = loaded()
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    assert [tuple(batch["x"].shape) for batch in batches] == [(2, 4)]
    (batch,) = batches
    assert read_back(data, batch) == ["a <unk> <unk> c", "b"]
    assert batch["x"].dtype == torch.int64
    assert batch["mask"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert batch["x"][1].tolist()[1:] == [PADDING_ID] * 3
    assert batch["y"].tolist() == [0, 1]
    short = data.preprocess(data.splits["train"].__getitems__([3]))
    assert tuple(short["x"].shape) == (1, 1)


def test_longer_sentences_are_cut_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    endless = " ".join(f"w{number % 50}" for number in range(10_000))
    with caplog.at_level(logging.WARNING):
        data = loaded({**SENTENCES, "test": [endless, "a"]}, max_length=3)
    assert read_back(data, data.preprocess(data.splits["test"].__getitems__([0, 1]))) == ["<unk> <unk> <unk>", "a"]
    (record,) = [record for record in caplog.records if "max_length" in record.message]
    assert "3 sentences have more than data.max_length=3 words, up to 10000" in record.message


def test_a_sentence_of_ten_thousand_words_is_read_whole_where_that_is_allowed() -> None:
    endless = " ".join(f"w{number % 50}" for number in range(10_000))
    data = loaded({**SENTENCES, "train": [endless, "a"]}, max_length=20_000)
    batch = data.preprocess(data.splits["train"].__getitems__([1, 0]))
    assert tuple(batch["x"].shape) == (2, 10_000)
    assert read_back(data, batch) == ["a", endless]


def test_share_of_unknown_words_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        data = loaded()
        data.setup("fit")
    assert data.unknown_share("test") == pytest.approx(2 / 5)
    assert data.baselines()["data/unknown_words"] == pytest.approx(2 / 5)
    told = [record.message for record in caplog.records if "are known" in record.message]
    assert told == ["5 words are known; unknown are 0.0 % of train, 50.0 % of val, 40.0 % of test"]


def test_fingerprint_tells_words_order_labels_and_nothing_else() -> None:
    prints = {
        loaded().fingerprint(),
        loaded({**SENTENCES, "test": ["yak a yak c", "b"]}).fingerprint(),
        loaded({**SENTENCES, "test": ["b", "a yak yak c"]}).fingerprint(),
        loaded({**SENTENCES, "train": ["a b b c", "c b", "b d a a", "f"]}).fingerprint(),
    }
    assert len(prints) == 4
    assert loaded(seed=7, batch_size=3).fingerprint() in prints


@pytest.mark.parametrize("name", ["max_length", "min_count", "max_words"])
def test_sizes_below_one_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} must be at least 1, got 0 \(data.{name}\)"):
        Given(SENTENCES, **{name: 0})


@pytest.mark.parametrize("share", [-0.1, 1.0, 3])
def test_word_dropout_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="word_dropout must be from 0 to below 1"):
        Given(SENTENCES, word_dropout=share)


def test_word_dropout_replaces_its_share_of_words_and_leaves_padding() -> None:
    x = torch.randint(2, 100, (400, 30), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(30) < torch.arange(400)[:, None] % 30 + 1).float()
    x = x * mask.long()
    torch.manual_seed(0)
    batch = {"x": x, "mask": mask, "y": torch.zeros(400)}
    augmented = WordDropout(0.3)(batch)
    changed = augmented["x"] != x
    assert bool((augmented["x"][changed] == UNKNOWN_ID).all())
    assert not bool(changed[mask == 0].any())
    assert float(changed[mask > 0].float().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(batch["x"], x)
    assert not torch.equal(WordDropout(0.3)(batch)["x"], augmented["x"])


def test_word_dropout_is_the_augmentation_of_training_alone() -> None:
    assert loaded().augment is None
    assert isinstance(loaded(word_dropout=0.2).augment, WordDropout)


def test_words_of_a_text() -> None:
    text = "It's NOT good -\n\nnot at all, 3.5 of 10 :("
    expected = ["it's", "not", "good", "-", "not", "at", "all", ",", "3.5", "of", "10", ":", "("]
    assert split_words(text, lowercase=True) == expected
    assert split_words("Very  Good!", lowercase=False) == ["Very", "Good", "!"]


@given(
    st.lists(st.tuples(st.text("ab", min_size=1, max_size=3), st.integers(0, 1)), min_size=4, max_size=60),
    st.integers(0, 5),
)
def test_drawn_parts_hold_every_sentence_once_and_share_no_words(rows: list[tuple[str, int]], seed: int) -> None:
    whole = Part([list(text) for text, _ in rows], [label for _, label in rows])
    parts = draw_parts(whole, {"train": 0.6, "val": 0.2, "test": 0.2}, seed)
    back = [
        (tuple(words), label)
        for part in parts.values()
        for words, label in zip(part.sentences, part.labels, strict=True)
    ]
    assert Counter(back) == Counter((tuple(text), label) for text, label in rows)
    texts = [{tuple(words) for words in part.sentences} for part in parts.values()]
    assert sum(map(len, texts)) == len(set().union(*texts))
    assert parts == draw_parts(whole, {"train": 0.6, "val": 0.2, "test": 0.2}, seed)
