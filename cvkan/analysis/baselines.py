"""What a trivial method reaches on the same data: the floor under every classification result.

Legend: n samples, F features.
"""

from __future__ import annotations

import warnings

from torch import Tensor


def majority_accuracy(train_labels: Tensor, test_labels: Tensor) -> float:
    """Accuracy of always naming the most frequent training class; labels (n,)."""
    return float((test_labels == train_labels.bincount().argmax()).float().mean())


def logistic_accuracy(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Test accuracy of a logistic regression on standardised features.

    Args:
        train: (n, F).
        train_labels: (n,).
        test: (m, F).
        test_labels: (m,).
    """
    if len(train_labels.unique()) < 2:  # there is nothing to fit
        return majority_accuracy(train_labels, test_labels)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 200 steps are enough for a floor
        model.fit(train.numpy(), train_labels.numpy())
    return float(model.score(test.numpy(), test_labels.numpy()))
