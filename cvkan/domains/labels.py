"""Class labels of any source: their order, and cutting samples into parts that hold every class in proportion.

Legend: n samples.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from cvkan.errors import UserError


def sort_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels in order; by value where all are whole numbers, so that 10 follows 9."""
    names = set(labels)
    return tuple(sorted(names, key=lambda s: (int(s), s) if all(n.isdecimal() for n in names) else (0, s)))


def stratified_split(labels: Tensor, fractions: dict[str, float], seed: int) -> dict[str, Tensor]:
    """Cut rows into parts that each hold every class in proportion, as far as whole samples allow.

    The samples of a class are shuffled and laid evenly on (0, 1); each part takes an interval. Unlike
    scikit-learn's ``train_test_split`` this accepts classes of one or two samples: they go to the first part.

    Args:
        labels: (n,) int64.
        fractions: share of each part, in order; they must add up to 1.
        seed: a seed of the data's own: the split must not change with the seed of a run.

    Returns:
        Sorted rows (int64) of each part.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = order[labels[order].argsort(stable=True)]  # classes one after another, shuffled within
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    grouped = labels[order]
    position = (torch.arange(len(labels)) - first[grouped] + 0.5) / counts[grouped]  # (n,) in (0, 1)
    bounds = torch.tensor(list(fractions.values()), dtype=torch.float64).cumsum(0)[:-1]
    part = torch.bucketize(position.double(), bounds, right=True)
    return {name: order[part == i].sort().values for i, name in enumerate(fractions)}


def check_fraction(name: str, value: float) -> None:
    """Raise UserError unless the share ``data.<name>`` of a split is between 0 and 1, both excluded."""
    if not 0 < value < 1:
        raise UserError(f"{name} must be between 0 and 1, got {value}", f"data.{name}", "Set a share such as 0.1.")
