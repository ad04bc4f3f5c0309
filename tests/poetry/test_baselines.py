"""Simple codecs of poems: every figure against slow references in numpy and scikit-learn, one token at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from cvkan.poetry import baselines
from cvkan.poetry.baselines import chunk_pca, padded, poetry_baselines, token_pca
from cvkan.poetry.vectors import Table, WordVectors, build_table

N, D, LATENT = 7, 6, 3
WORDS = ("air", "and", "bell", "crow", "dusk", "ember", "field", "grey", "hill", "ivy")
UNKNOWN = ("zyx", "qqq")


def table() -> Table:
    """Ten words with vectors, one of them in two spellings, and two words without."""
    draw = torch.Generator().manual_seed(1)
    matrix = torch.randn(len(WORDS), D, generator=draw) + torch.tensor([2.0, 1, 0, 0, 0, -1])
    vectors = WordVectors(WORDS, matrix, float(matrix.norm(dim=1).median()), matrix.mean(dim=0))
    return build_table([*WORDS, "And", *UNKNOWN], vectors, oov="hash")


TABLE = table()


def chunks(n: int, seed: int, shortest: int = 2) -> list[Tensor]:
    """Chunks of different lengths; frequent and rare tokens, marks and unknown words among them."""
    draw = np.random.default_rng(seed)
    frequency = draw.permutation(np.arange(1, len(TABLE.words), dtype=float)) ** 2
    lengths = draw.integers(shortest, N + 1, n)
    return [
        torch.from_numpy(draw.choice(np.arange(1, len(TABLE.words)), k, p=frequency / frequency.sum())) for k in lengths
    ]


TRAIN, TEST = chunks(40, seed=2), chunks(11, seed=3)
MATRIX = TABLE.matrix.double().numpy()


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def is_right(found: np.ndarray, own: int) -> bool:
    """Is the candidate nearest to a vector the word itself, or its other spelling?"""
    best = max(TABLE.candidates.tolist(), key=lambda k: cosine(found, MATRIX[k]))
    return np.array_equal(MATRIX[best], MATRIX[own])


def judged(decoded: list[np.ndarray]) -> dict[str, float]:
    """Means over the tokens of the test chunks of what was decoded of each, (n_i, D)."""
    cosines, errors, words, right, of_chunks = [], [], [], [], []
    for chunk, found in zip(TEST, decoded, strict=True):
        for own, vector in zip(chunk.tolist(), found, strict=True):
            cosines.append(cosine(vector, MATRIX[own]))
            errors.append(np.mean((vector - MATRIX[own]) ** 2))
            if TABLE.words[own] in (*WORDS, "And"):
                words.append(cosines[-1])
                right.append(is_right(vector, own))
        of_chunks.append(cosine(found.mean(axis=0), MATRIX[chunk].mean(axis=0)))
    lists = {"cosine": cosines, "mse": errors, "words": words, "accuracy": right, "sequence": of_chunks}
    return {name: float(np.mean(values)) for name, values in lists.items()}


def chunk_pca_by_hand() -> list[np.ndarray]:
    """Means of the places from the chunks that have them; components where the others count as these means; codes by
    least squares over the tokens of a chunk."""
    mean = np.stack([np.mean([MATRIX[c[t]] for c in TRAIN if len(c) > t], axis=0) for t in range(N)])
    rows = np.zeros((len(TRAIN), N, D))
    for row, chunk in zip(rows, TRAIN, strict=True):
        row[: len(chunk)] = MATRIX[chunk] - mean[: len(chunk)]
    axes = np.linalg.svd(rows.reshape(len(TRAIN), -1), full_matrices=False)[2][:LATENT].reshape(LATENT, N, D)
    decoded = []
    for chunk in TEST:
        seen = axes[:, : len(chunk)].reshape(LATENT, -1)
        code = np.linalg.lstsq(seen.T, (MATRIX[chunk] - mean[: len(chunk)]).ravel(), rcond=None)[0]
        decoded.append(mean[: len(chunk)] + (code @ seen).reshape(-1, D))
    return decoded


def references() -> dict[str, dict[str, float]]:
    tokens = MATRIX[torch.cat(TRAIN)]
    pca = PCA(LATENT).fit(tokens)
    return {
        "mean": judged([np.repeat(tokens.mean(axis=0)[None], len(chunk), axis=0) for chunk in TEST]),
        "token": judged([pca.inverse_transform(pca.transform(MATRIX[chunk])) for chunk in TEST]),
        "chunk": judged(chunk_pca_by_hand()),
    }


def majority_by_hand() -> float:
    """``and`` and ``And`` share a vector and count as one word."""
    words = [[TABLE.words[k].lower() for k in torch.cat(part).tolist()] for part in (TRAIN, TEST)]
    known = [[word for word in part if word in WORDS] for part in words]
    most = max(WORDS, key=known[0].count)
    return float(np.mean([word == most for word in known[1]]))


@pytest.mark.parametrize("code", ["sequence", "token"])
def test_every_figure_equals_a_slow_reference(code: str) -> None:
    expected = references()
    same = expected["chunk" if code == "sequence" else "token"]
    assert poetry_baselines(TRAIN, TEST, TABLE, LATENT, code, N) == pytest.approx(
        {
            "baseline/mean_vector_cosine": expected["mean"]["cosine"],
            "baseline/mean_vector_mse": expected["mean"]["mse"],
            "baseline/mean_vector_sequence_cosine": expected["mean"]["sequence"],
            "baseline/words_mean_vector_cosine": expected["mean"]["words"],
            "baseline/chunk_pca_cosine": expected["chunk"]["cosine"],
            "baseline/token_pca_cosine": expected["token"]["cosine"],
            "baseline/pca_cosine": same["cosine"],
            "baseline/pca_word_accuracy": same["accuracy"],
            "baseline/words_pca_cosine": same["words"],
            "baseline/majority_word_accuracy": majority_by_hand(),
        },
        rel=1e-4,
    )


def test_the_test_chunks_have_no_part_in_the_fit() -> None:
    alone = poetry_baselines(TRAIN, TEST[:1], TABLE, LATENT, "sequence", N)
    # A second test chunk of nothing but the first one's tokens leaves all means where they are.
    assert poetry_baselines(TRAIN, TEST[:1] * 2, TABLE, LATENT, "sequence", N) == pytest.approx(alone)


def test_room_behind_the_longest_chunk_changes_nothing() -> None:
    assert poetry_baselines(TRAIN, TEST, TABLE, LATENT, "sequence", N + 5) == pytest.approx(
        poetry_baselines(TRAIN, TEST, TABLE, LATENT, "sequence", N), rel=1e-5
    )


def test_as_many_numbers_as_a_token_has_give_it_back() -> None:
    ids = padded(TEST, N)
    decoded = token_pca(padded(TRAIN, N), TABLE.matrix, D)(ids)
    torch.testing.assert_close(decoded[ids > 0], TABLE.matrix[ids[ids > 0]], rtol=1e-4, atol=1e-4)


def test_components_of_the_training_chunks_give_these_back_where_there_are_enough() -> None:
    few = padded(chunks(5, seed=4, shortest=N), N)
    decoded = chunk_pca(few, TABLE.matrix, d_latent=4)(few)  # five chunks span four dimensions about their mean
    torch.testing.assert_close(decoded, TABLE.matrix[few], rtol=1e-3, atol=1e-3)


def test_places_that_no_training_chunk_reaches_get_the_mean_vector() -> None:
    short, long = padded([chunk[:2] for chunk in TRAIN], N), padded([TRAIN[0][:2].repeat(3)], N)
    decoded = chunk_pca(short, TABLE.matrix, LATENT)(long)
    mean = TABLE.matrix[short[short > 0]].mean(dim=0)
    torch.testing.assert_close(decoded[0, 2:], mean.expand(N - 2, -1), rtol=1e-4, atol=1e-4)


def test_tiny_parts_have_finite_figures() -> None:
    word = TABLE.ids["crow"]
    found = poetry_baselines([torch.tensor([word])], [torch.tensor([word])], TABLE, 16, "sequence", N)
    assert found["baseline/mean_vector_cosine"] == pytest.approx(1)
    assert found["baseline/majority_word_accuracy"] == 1
    assert all(np.isfinite(value) for value in found.values())


def test_many_training_chunks_are_thinned_out_alike_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "FITTED", 20)
    found = [poetry_baselines(TRAIN, TEST, TABLE, LATENT, "sequence", N) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0]["baseline/chunk_pca_cosine"] != pytest.approx(references()["chunk"]["cosine"], rel=1e-4)


def test_no_chunks_or_another_code_are_refused() -> None:
    with pytest.raises(ValueError, match="baselines need chunks, got 40 to fit and 0 to test; give more poems"):
        poetry_baselines(TRAIN, [], TABLE, LATENT, "sequence", N)
    with pytest.raises(ValueError, match="code must be sequence or token, got 'word'; set code=sequence"):
        poetry_baselines(TRAIN, TEST, TABLE, LATENT, "word", N)
