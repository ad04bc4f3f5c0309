"""``data.embeddings``: where the vectors of words come from, and what of it is kept in the cache.

Legend: D numbers a vector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from cvkan.domains.cache import cached_arrays
from cvkan.poetry import ppmi
from cvkan.poetry.vector_files import check_exists, read_first, read_vectors
from cvkan.poetry.vectors import WordVectors, hash_vectors


class VectorSource(Protocol):
    """Words with vectors."""

    def identity(self) -> str:
        """Changes with the vectors of the source; the same on every machine."""

    def load(self, words: set[str]) -> WordVectors:
        """The vectors of those of some words that the source has; others may be among them."""

    def first(self, n: int) -> Tensor:
        """Vectors (n or fewer, D) of words that the poems did not choose, frequent ones where that is known."""


class VectorFile:
    """``file``: see :func:`~cvkan.poetry.vector_files.read_vectors`. The cache has what the poems needed of it.

    Args:
        path: the file.
        dimension: numbers D of its vectors.
    """

    def __init__(self, path: Path, dimension: int) -> None:
        self.path, self.dimension = path, dimension

    @cached_property
    def sha256(self) -> str:
        """Of the file's content."""
        check_exists(self.path)
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def identity(self) -> str:
        return f"file {self.sha256[:16]}"

    def load(self, words: set[str]) -> WordVectors:
        # Another tokenizer asks for other words, and so for another entry.
        key = _digest([self.sha256, str(self.dimension), *sorted(words)])
        arrays = cached_arrays(f"word_vectors-{key}", lambda: read_vectors(self.path, self.dimension, words).arrays())
        return WordVectors.from_arrays(arrays)

    def first(self, n: int) -> Tensor:
        return read_first(self.path, self.dimension, n)


class PoemVectors:
    """``embedded``: no file, see :func:`~cvkan.poetry.ppmi.ppmi_vectors`; made at first use, then cached.

    Args:
        poems: tokens of each poem.
        dimension: numbers D of a vector.
    """

    def __init__(self, poems: Sequence[Sequence[str]], dimension: int) -> None:
        self.poems, self.dimension = poems, dimension

    @cached_property
    def key(self) -> str:
        """Of all that the vectors are made from."""
        return _digest([str(ppmi.VERSION), str(self.dimension), *("\n".join(poem) for poem in self.poems)])

    def identity(self) -> str:
        return f"embedded {self.key}"

    def load(self, words: set[str]) -> WordVectors:
        arrays = cached_arrays(
            f"poem_vectors-{self.key}", lambda: ppmi.ppmi_vectors(self.poems, self.dimension).arrays()
        )
        return WordVectors.from_arrays(arrays)

    def first(self, n: int) -> Tensor:
        return self.load(set()).matrix  # all there are: they are of the poems anyway


class RandomVectors:
    """``random``: the direction of its hash for every word, a control in which no two words are alike.

    Args:
        dimension: numbers D of a vector.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    def identity(self) -> str:
        return "random"

    def load(self, words: set[str]) -> WordVectors:
        known = tuple(sorted(words))
        matrix = hash_vectors(known, self.dimension, ppmi.MEDIAN_NORM)
        return WordVectors(known, matrix, ppmi.MEDIAN_NORM, torch.zeros(self.dimension))

    def first(self, n: int) -> Tensor:
        return hash_vectors([f"word {number}" for number in range(n)], self.dimension, ppmi.MEDIAN_NORM)


def _digest(parts: Sequence[str]) -> str:
    """16 hexadecimal digits that change with any part."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:16]
