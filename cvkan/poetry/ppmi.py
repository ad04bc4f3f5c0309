"""Word vectors out of the poems themselves: which words stand near each other, and its principal directions.

Legend: n words of all poems, W different words, D numbers a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from cvkan.errors import UserError
from cvkan.poetry.tokens import SPECIAL, bare
from cvkan.poetry.vectors import WordVectors, hash_vectors

if TYPE_CHECKING:
    from scipy.sparse import csr_array

VERSION = 1  # of the vectors: raise it with any change that alters them
WINDOW = 5  # words to each side
SMOOTHING = 0.75  # exponent of the contexts' counts
EIGENVALUE_POWER = 0.5
ROUNDING = 1e-9  # of the largest singular value or vector: what is smaller is zero
MEDIAN_NORM = 6.0  # near that of GloVe, so that the squared error weighs in a loss as it does with those vectors


def ppmi_vectors(poems: Sequence[Sequence[str]], dimension: int) -> WordVectors:
    """Positive pointwise mutual information of words, reduced to D numbers by a truncated SVD.

    ::

        X_wc = sum of 1 / distance over the pairs of words w and c of one poem, 5 words apart or fewer
        M_wc = max(0, log (X_wc / sum X) - log (X_w / sum X) - log (X_c^0.75 / sum_c X_c^0.75)),  M = U S V^T
        vectors = U_D S_D^0.5, times a constant that gives them the median norm 6

    Words are compared in lower case, punctuation marks count as words, line breaks and other marks are passed over.
    With fewer than D words the last numbers are zero. A word without neighbours has the direction of its hash.

    All poems are counted, held-out ones too: the vectors are what a network is given, not what it is to learn, and
    every word that is to be named needs one. It is as with vectors made elsewhere, of texts that nobody lists.

    Args:
        poems: tokens of each poem.
        dimension: D.

    Returns:
        All different words in lower case, sorted.

    Raises:
        UserError: there is no word.

    Source: Levy, Goldberg and Dagan, "Improving distributional similarity with lessons learned from word embeddings",
    2015: PPMI and SVD (section 2), context distribution smoothing 0.75, eigenvalue weighting 0.5 (section 3); the
    weights 1 / distance are those of Pennington, Socher and Manning, "GloVe", 2014.
    """
    marks = set(SPECIAL)
    lowered = [[bare(token).lower() for token in poem if token not in marks] for poem in poems]
    words = sorted(set(chain.from_iterable(lowered)))
    if not words:
        raise UserError("the poems hold no word", "data", "Give poems of one word or more.")
    number = {word: i for i, word in enumerate(words)}
    ids = np.array([number[word] for poem in lowered for word in poem])  # (n,)
    poem_of = np.repeat(np.arange(len(lowered)), [len(poem) for poem in lowered])  # (n,)
    rows = _reduced(_ppmi(_counts(ids, poem_of, len(words))), dimension)  # (W, D)
    norms = np.linalg.norm(rows, axis=1)
    alone = norms <= ROUNDING * norms.max()  # (W,)
    scale = 1.0 if alone.all() else MEDIAN_NORM / np.median(norms[~alone])
    matrix = torch.from_numpy((scale * rows).astype(np.float32))
    matrix[alone] = hash_vectors([words[i] for i in alone.nonzero()[0]], dimension, MEDIAN_NORM)
    return WordVectors(tuple(words), matrix, MEDIAN_NORM, matrix.mean(dim=0))


def _counts(ids: np.ndarray, poem_of: np.ndarray, n_words: int) -> csr_array:
    """X (W, W): how often words (n,) stand near each other in one poem, a pair at distance k counting 1 / k."""
    from scipy.sparse import coo_array

    pairs, weights = [], []
    for distance in range(1, WINDOW + 1):
        near = poem_of[distance:] == poem_of[:-distance]
        left, right = ids[:-distance][near], ids[distance:][near]
        pairs += [(left, right), (right, left)]
        weights += [np.full(2 * len(left), 1 / distance)]
    w, c = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return coo_array((np.concatenate(weights), (w, c)), shape=(n_words, n_words)).tocsr()


def _ppmi(counts: csr_array) -> csr_array:
    """M (W, W) of the counts X; what never met has 0."""
    of_word = counts.sum(axis=1)  # (W,)
    smoothed = of_word**SMOOTHING  # X is symmetric: a word's count as a context is its count
    found = counts.tocoo()
    information = np.log(found.data * smoothed.sum() / (of_word[found.row] * smoothed[found.col]))
    found.data = np.maximum(information, 0.0)
    return found.tocsr()


def _reduced(matrix: csr_array, dimension: int) -> np.ndarray:
    """U_D S_D^0.5 (W, D); the randomized SVD has a seed, and fixes signs by the largest entry of a column of U."""
    from sklearn.utils.extmath import randomized_svd

    d = min(dimension, matrix.shape[0])
    u, s, _ = randomized_svd(matrix, n_components=d, random_state=0)
    s[s < ROUNDING * s.max()] = 0
    return np.pad(u * s**EIGENVALUE_POWER, ((0, 0), (0, dimension - d)))
