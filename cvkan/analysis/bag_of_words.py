"""What the words of a sentence tell without their order: the floor under every network that reads sentences.

Legend: n sentences, N words of the longest, V ids.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from cvkan.analysis.baselines import majority_accuracy

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def word_counts(x: Tensor, n_ids: int) -> csr_matrix:
    """How often each id occurs in each sentence, sparse (n, V) float32; padding is not counted.

    Args:
        x: ids (n, N), 0 behind the end of a sentence.
        n_ids: V.
    """
    from scipy.sparse import coo_matrix

    rows, places = x.numpy().nonzero()
    ids = x.numpy()[rows, places]
    # Entries of one place add up.
    return coo_matrix((np.ones(len(ids), np.float32), (rows, ids)), shape=(len(x), n_ids)).tocsr()


def bag_of_words_accuracy(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, n_ids: int) -> float:
    """Test accuracy of a logistic regression on :func:`word_counts`.

    Counts are not standardised: a rare word would count for as much as a frequent one.

    Args:
        train: ids (n, N), 0 behind the end of a sentence.
        train_labels: (n,).
        test: ids (m, N').
        test_labels: (m,).
        n_ids: V.
    """
    if len(train_labels.unique()) < 2:  # there is nothing to fit
        return majority_accuracy(train_labels, test_labels)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are enough for a floor
        model.fit(word_counts(train, n_ids), train_labels.numpy())
    return float(model.score(word_counts(test, n_ids), test_labels.numpy()))
