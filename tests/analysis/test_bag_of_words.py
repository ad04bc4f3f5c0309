"""The logistic regression on counts of words, against scikit-learn's own counting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from cvkan.analysis.bag_of_words import bag_of_words_accuracy, word_counts


def sentences(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids 1 to 29 of sentences of 1 to 12 words; the label follows the low ids, with noise."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 13, (n, 1), generator=generator)
    x = torch.randint(1, 30, (n, 12), generator=generator) * (torch.arange(12) < lengths)
    signal = ((x > 0) & (x < 8)).sum(1) - ((x > 7) & (x < 15)).sum(1) + torch.randn(n, generator=generator)
    return x.int(), (signal > 0).long()


def test_accuracy_is_that_of_an_independent_bag_of_words() -> None:
    (train, train_labels), (test, test_labels) = sentences(600, 0), sentences(300, 1)
    texts = [[" ".join(str(i) for i in row if i) for row in x.tolist()] for x in (train, test)]
    vectorizer = CountVectorizer(tokenizer=str.split, token_pattern=None)
    model = LogisticRegression(C=1.0, max_iter=1000).fit(vectorizer.fit_transform(texts[0]), train_labels)
    expected = model.score(vectorizer.transform(texts[1]), test_labels)
    assert expected > 0.7
    assert bag_of_words_accuracy(train, train_labels, test, test_labels, 30) == pytest.approx(expected, abs=0.01)


def test_order_changes_nothing_and_padding_is_not_counted() -> None:
    x, _ = sentences(50, 2)
    counts = word_counts(x, 30).toarray()
    assert np.array_equal(counts, word_counts(x.flip(1), 30).toarray())
    assert np.array_equal(counts[:, 1:], torch.nn.functional.one_hot(x.long(), 30).sum(1)[:, 1:].numpy())
    assert not counts[:, 0].any()


def test_one_class_has_nothing_to_fit() -> None:
    x, y = sentences(50, 3)
    assert bag_of_words_accuracy(x, torch.ones_like(y), x, y, 30) == pytest.approx(float(y.float().mean()))
