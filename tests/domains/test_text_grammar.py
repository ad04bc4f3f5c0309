"""The embedded sentences: a rule of their own tells the class, their words without the order do not."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import vstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from cvkan.analysis.bag_of_words import bag_of_words_accuracy, word_counts
from cvkan.domains.text.grammar import Grammar
from cvkan.errors import UserError

READING = {"max_length": 32, "min_count": 1, "max_words": None, "word_dropout": 0.0}
LOADING = {"batch_size": 64, "num_workers": 0, "seed": 0, "limit_train": None}
SIZES = {"n_train": 8000, "n_val": 1000, "n_test": 2000, "simple_share": 0.25, "data_seed": 0}

# Written down apart from the source: what a reader of the sentences has to know.
# fmt: off
PRAISE = {
    "bright", "charming", "clever", "elegant", "fresh", "funny", "good", "graceful", "great", "lively", "moving",
    "warm",
}
BLAME = {"awful", "bad", "boring", "clumsy", "cold", "dull", "flat", "hollow", "messy", "silly", "stale", "tedious"}
# fmt: on
WEIGHT = {"slightly": 1, "somewhat": 1, "very": 3, "truly": 3}


def clause_value(clause: str) -> int:
    """Above 0 for praise, below for blame, by how much it counts."""
    words = clause.split()
    (opinion,) = [word for word in words if word in PRAISE | BLAME]
    weight = next((WEIGHT[word] for word in words if word in WEIGHT), 2)
    value = weight if opinion in PRAISE else -weight
    if {"not", "never"} & set(words):
        value = -4 + weight if value > 0 else 4 - weight
    return value


def label_of(text: str) -> int:
    """The class of a sentence by the rules of the English connectives, 1 for praise."""
    text = re.sub(r"^(honestly ,|i think|they say|in the end|once again) ", "", text.removesuffix(" ."))
    if found := re.fullmatch(r"(?:although|though) (.*) , (.*)", text):
        value = clause_value(found[2])
    elif found := re.fullmatch(r"(.*) (?:although|though) (.*)", text):
        value = clause_value(found[1])
    elif found := re.fullmatch(r"(.*) (?:but|yet) (.*)", text):
        value = clause_value(found[2])
    elif found := re.fullmatch(r"(.*) (?:and|while) (.*)", text):
        value = clause_value(found[1]) + clause_value(found[2])
    else:
        value = clause_value(text)
    assert value != 0, text
    return int(value > 0)


def grammar(**options: Any) -> Grammar:
    data = Grammar(**{**SIZES, **READING, **LOADING, **options})
    data.setup()
    return data


@pytest.fixture(scope="module")
def data() -> Grammar:
    return grammar()


def texts_of(data: Grammar, name: str) -> list[str]:
    words = data.spec.vocabulary
    return [" ".join(words[number] for number in row if number) for row in data.splits[name].tensors["x"].tolist()]


def test_the_rules_of_english_tell_the_class_of_every_sentence(data: Grammar) -> None:
    for name, split in data.splits.items():
        assert [label_of(text) for text in texts_of(data, name)] == split.tensors["y"].tolist()


def test_no_sentence_is_drawn_twice_and_the_classes_are_balanced(data: Grammar) -> None:
    texts = [text for name in data.splits for text in texts_of(data, name)]
    assert len(set(texts)) == len(texts) == 11_000
    assert float(data.splits["train"].tensors["y"].float().mean()) == pytest.approx(0.5, abs=0.02)
    assert max(len(text.split()) for text in texts) <= 24
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8000, "val": 1000, "test": 2000}


def test_words_without_their_order_do_not_tell_the_class(data: Grammar) -> None:
    assert 0.4 < data.baselines()["baseline/bag_of_words_accuracy"] < 0.65


@pytest.mark.parametrize(("simple_share", "lowest", "highest"), [(0.25, 0.5, 0.66), (1.0, 0.97, 1.0)])
def test_a_network_of_the_bag_gets_no_further_than_sentences_of_one_clause(
    simple_share: float, lowest: float, highest: float
) -> None:
    """It sees that "not" and "good" are both there: enough for one clause, a coin for two. The limit is 0.625."""
    data = grammar(simple_share=simple_share)
    train, test = (data.splits[name].tensors for name in ("train", "test"))
    n_ids = len(data.spec.vocabulary)
    model = MLPClassifier((32,), learning_rate_init=0.01, max_iter=15, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(word_counts(train["x"], n_ids), train["y"].numpy())
    assert lowest <= model.score(word_counts(test["x"], n_ids), test["y"].numpy()) <= highest


def test_equal_bags_of_two_clauses_have_both_classes_equally_often() -> None:
    """Swapping praise and blame in a sentence of two clauses turns its class round: the bag is then the same."""
    data = grammar(n_train=2000, n_val=1, n_test=1, simple_share=0.0)
    for text in texts_of(data, "train"):
        praise, blame = (next(word for word in text.split() if word in words) for words in (PRAISE, BLAME))
        swap = {praise: blame, blame: praise}
        swapped = " ".join(swap.get(word, word) for word in text.split())
        assert Counter(swapped.split()) == Counter(text.split())
        assert label_of(swapped) == 1 - label_of(text)


def test_sentences_of_one_clause_alone_can_be_told_by_their_bag() -> None:
    """The limit is that of the order of words: without it the share of simple sentences is what a bag can learn."""
    data = grammar(simple_share=1.0, n_train=6000)
    texts = [text for name in data.splits for text in texts_of(data, name)]
    labels = torch.cat([split.tensors["y"] for split in data.splits.values()]).tolist()
    seen: dict[frozenset, int] = {}
    for text, label in zip(texts, labels, strict=True):
        assert seen.setdefault(frozenset(Counter(text.split()).items()), label) == label


def test_the_data_seed_alone_chooses_the_sentences() -> None:
    sizes = {"n_train": 50, "n_val": 5, "n_test": 5}
    prints = [grammar(**sizes, **options).fingerprint() for options in ({}, {"seed": 3}, {"data_seed": 1})]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_val": 0}, r"n_val must be at least 1, got 0 \(data.n_val\)"),
        ({"simple_share": 1.5}, r"simple_share must be from 0 to 1, got 1.5"),
        pytest.param(
            {"simple_share": 1.0, "n_train": 150_000},
            r"too few sentences for 153000 different ones",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_impossible_sizes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        grammar(**options)


def test_the_baseline_does_find_words_that_tell_the_class(data: Grammar) -> None:
    """A control: labels that follow one word are told by the same method."""
    word = data.spec.vocabulary.index("not")
    splits = {name: data.splits[name].tensors["x"] for name in ("train", "test")}
    labels = {name: (x == word).any(1).long() for name, x in splits.items()}
    n_ids = len(data.spec.vocabulary)
    found = bag_of_words_accuracy(splits["train"], labels["train"], splits["test"], labels["test"], n_ids)
    assert found == 1.0
    both = vstack([word_counts(x, n_ids) for x in splits.values()])
    assert np.array_equal(np.asarray(both.sum(1)).ravel(), torch.cat([(x > 0).sum(1) for x in splits.values()]))
