"""Sentences of a part, and drawing parts that share none.

Legend: n sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from cvkan.domains.labels import stratified_split


@dataclass(frozen=True)
class Part:
    """Sentences of one part.

    Attributes:
        sentences: words of each; none is empty.
        labels: number of the class of each.
    """

    sentences: list[list[str]]
    labels: list[int]

    def rows(self, numbers: Iterable[int]) -> Part:
        """Some of them, by their numbers."""
        chosen = list(numbers)
        return Part([self.sentences[number] for number in chosen], [self.labels[number] for number in chosen])


def number_labels(labels: Iterable[str], class_names: Sequence[str]) -> list[int]:
    """Number of the class of each label, all of which are among the names."""
    numbers = {name: number for number, name in enumerate(class_names)}
    return [numbers[label] for label in labels]


def draw_parts(whole: Part, shares: dict[str, float], seed: int) -> dict[str, Part]:
    """Cut sentences into parts at random, in equal shares of each class; sentences of the same words stay together.

    Args:
        whole: n sentences.
        shares: of each part, in order; they add up to 1. With equal sentences the parts are of these sizes only nearly.
        seed: of the data, not of a run.
    """
    numbers: dict[str, int] = {}  # of each different sentence
    different = [numbers.setdefault(" ".join(words), len(numbers)) for words in whole.sentences]  # (n,)
    label_of = dict(zip(different, whole.labels, strict=True))
    labels = torch.tensor([label_of[number] for number in range(len(numbers))])
    parts = {}
    for name, rows in stratified_split(labels, shares, seed).items():
        members = set(rows.tolist())
        parts[name] = whole.rows(row for row, number in enumerate(different) if number in members)
    return parts
