"""Vectors made from poems: the formula against a plain one, what counts as a word, what small data gives."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from cvkan.errors import UserError
from cvkan.poetry.ppmi import MEDIAN_NORM, WINDOW, ppmi_vectors
from cvkan.poetry.tokens import GLUE, LINE_BREAK, POEM_END, POEM_START, STANZA_BREAK
from cvkan.poetry.vectors import WordVectors, hash_vectors


def random_poems(n_words: int, n_poems: int, length: int) -> list[list[str]]:
    generator = np.random.default_rng(0)
    # Zipf's law, as in any text
    share = 1 / np.arange(1, n_words + 1)
    return [[f"w{i}" for i in generator.choice(n_words, length, p=share / share.sum())] for _ in range(n_poems)]


def plain_ppmi(poems: list[list[str]]) -> tuple[list[str], np.ndarray]:
    """The matrix as the definition reads, pair by pair."""
    near: Counter[tuple[str, str]] = Counter()
    for poem in poems:
        for i, word in enumerate(poem):
            for j in range(max(0, i - WINDOW), min(len(poem), i + WINDOW + 1)):
                if i != j:
                    near[word, poem[j]] += 1 / abs(i - j)  # type: ignore[assignment]
    words = sorted({word for poem in poems for word in poem})
    total = sum(near.values())
    of_word = {word: sum(near[word, other] for other in words) for word in words}
    smoothed = {word: of_word[word] ** 0.75 for word in words}
    matrix = np.zeros((len(words), len(words)))
    for a, word in enumerate(words):
        for b, context in enumerate(words):
            if near[word, context]:
                p_word, p_context = of_word[word] / total, smoothed[context] / sum(smoothed.values())
                matrix[a, b] = max(0.0, math.log(near[word, context] / total / (p_word * p_context)))
    return words, matrix


@pytest.mark.parametrize("dimension", [10, 40, 60])
def test_vectors_follow_the_formula(dimension: int) -> None:
    poems = random_poems(n_words=40, n_poems=6, length=40)
    found = ppmi_vectors(poems, dimension)
    words, matrix = plain_ppmi(poems)
    u, s, _ = np.linalg.svd(matrix)
    rows = (u * np.sqrt(s))[:, :dimension]
    rows *= MEDIAN_NORM / np.median(np.linalg.norm(rows, axis=1))
    assert found.words == tuple(words)
    assert found.matrix.shape == (len(words), dimension)
    # All that does not depend on the signs of the axes.
    np.testing.assert_allclose(found.matrix @ found.matrix.T, rows @ rows.T, atol=2e-2 * MEDIAN_NORM**2)
    # The signs do not depend on anything but the data: the largest entry of an axis is positive.
    axes = found.matrix[:, : min(dimension, 30)]
    assert (axes.gather(0, axes.abs().argmax(dim=0)[None]) > 0).all()


def test_norm_and_mean_are_those_of_the_vectors() -> None:
    found = ppmi_vectors(random_poems(50, 10, 60), 300)
    assert float(found.matrix.norm(dim=1).median()) == pytest.approx(MEDIAN_NORM, rel=0.05)  # torch takes the lower one
    assert found.median_norm == MEDIAN_NORM
    torch.testing.assert_close(found.mean, found.matrix.mean(dim=0))


def test_a_small_vocabulary_leaves_the_last_numbers_zero() -> None:
    found = ppmi_vectors(random_poems(30, 5, 60), 300)
    assert found.matrix[:, : len(found.words)].any()
    assert not found.matrix[:, len(found.words) :].any()


def test_same_poems_give_the_same_vectors_and_no_random_state_is_touched() -> None:
    poems = random_poems(60, 8, 50)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    first, state = ppmi_vectors(poems, 20), torch.get_rng_state()
    np.random.seed(2)  # noqa: NPY002
    assert torch.equal(ppmi_vectors(poems, 20).matrix, first.matrix)
    assert torch.equal(torch.get_rng_state(), state)


def test_case_gaps_and_marks_are_passed_over() -> None:
    plain = [["the", "sea", ",", "the", "moon"], ["sea", "of", "the", "moon"]]
    written = [
        [POEM_START, "The", f"{GLUE}sea", " ,", LINE_BREAK, "THE", STANZA_BREAK, "Moon", POEM_END],
        ["   sea", "of", "the", "moon"],
    ]
    one, other = ppmi_vectors(plain, 8), ppmi_vectors(written, 8)
    assert one.words == other.words == (",", "moon", "of", "sea", "the")
    assert torch.equal(one.matrix, other.matrix)


def cosine(vectors: WordVectors, one: str, other: str) -> float:
    a, b = (vectors.matrix[vectors.words.index(word)] for word in (one, other))
    return float(torch.cosine_similarity(a, b, dim=0))


def test_words_of_like_neighbours_are_alike_and_poems_do_not_touch() -> None:
    frames = [["the", "{}", "sleeps", "by", "fire"], ["a", "{}", "hunts", "small", "mice"], ["my", "{}", "is", "old"]]
    poems = [[word.format(animal) for word in frame] for frame in frames for animal in ("cat", "dog")]
    poems.append(["stars", "wheel", "above", "dark", "hills"])
    found = ppmi_vectors(poems, 300)
    assert cosine(found, "cat", "dog") > 0.9
    assert cosine(found, "cat", "mice") < 0.5
    assert cosine(found, "cat", "stars") == pytest.approx(0, abs=1e-4)


def test_a_word_without_neighbours_has_the_direction_of_its_hash() -> None:
    for poems in ([["Alone"]], [["alone"], ["far"]], [["sea", "and", "moon"], ["alone"]]):
        found = ppmi_vectors(poems, 300)
        row = found.matrix[found.words.index("alone")]
        torch.testing.assert_close(row, hash_vectors(["alone"], 300, MEDIAN_NORM)[0])
        assert found.matrix.isfinite().all()
        assert (found.matrix.norm(dim=1) > 1).all()


def test_poems_without_a_word_are_refused() -> None:
    with pytest.raises(UserError, match="no word"):
        ppmi_vectors([[LINE_BREAK], []], 300)
