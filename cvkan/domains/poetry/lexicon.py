"""The words that a trained network knows, and what stands for those of new texts.

Legend: W words with a vector, V ids, n tokens of a text, D numbers a vector.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from cvkan.domains.poetry.vector_sources import VectorFile
from cvkan.errors import DataUnavailableError
from cvkan.poetry.vectors import Table, WordVectors, build_table, needed_words

log = logging.getLogger(__name__)


class Lexicon:
    """Vectors of the words of a run, and of other words while its file of vectors is there.

    A token is looked up as in training (:func:`~cvkan.poetry.vectors.build_table`): among the words kept, then in the
    file. What is found there is kept too; what is not, or is asked for when the file is gone or has become another
    one, is an unknown word and gets the vector that ``oov`` says, by default that of its hash.

    Args:
        vectors: words kept, with their vectors.
        tokens: those of the run's poems, the marks among them.
        oov: see :func:`~cvkan.poetry.vectors.build_table`.
        source: identity of the source of the vectors.
        file: the file, there or not; None if the vectors are of none.
    """

    def __init__(
        self, vectors: WordVectors, tokens: Collection[str], oov: str, source: str, file: VectorFile | None
    ) -> None:
        self.vectors, self.oov, self.source, self.file = vectors, oov, source, file
        self.table = build_table(tokens, vectors, oov)
        self._row = {word: row for row, word in enumerate(vectors.words)}
        self._absent: set[str] = set()  # asked for in vain
        # Any word that is known: a table of none but unknown words is refused.
        self._anchor = self.table.words[int(self.table.candidates[0])]

    def vectors_of(self, tokens: Sequence[str]) -> Tensor:
        """(n, D) float32 of any tokens."""
        table = build_table({*tokens, self._anchor}, self._known(tokens), self.oov)
        return table.matrix[table.encode(tokens)]

    def table_with(self, tokens: Iterable[str]) -> Table:
        """A table of the run's tokens and others."""
        together = {*self.table.words, *tokens}
        return build_table(together, self._known(together), self.oov)

    def state(self) -> dict[str, Any]:
        """All but the file, in plain values and tensors."""
        return {
            "words": list(self.vectors.words),
            "matrix": self.vectors.matrix,
            "median_norm": self.vectors.median_norm,
            "mean": self.vectors.mean,
            "n_malformed": self.vectors.n_malformed,
            "tokens": list(self.table.words),
            "oov": self.oov,
            "source": self.source,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], file: VectorFile | None) -> Self:
        """The inverse of :meth:`state`."""
        names = ("matrix", "median_norm", "mean", "n_malformed")
        vectors = WordVectors(tuple(state["words"]), *(state[name] for name in names))
        return cls(vectors, state["tokens"], state["oov"], state["source"], file)

    def _known(self, tokens: Iterable[str]) -> WordVectors:
        """Vectors of the words that some tokens are looked up as, and of the anchor."""
        wanted = needed_words({*tokens, self._anchor})
        missing = wanted - self._row.keys() - self._absent
        if missing and self.file is not None:
            self._look_up(missing)
        words = sorted(wanted & self._row.keys())
        matrix = self.vectors.matrix[[self._row[word] for word in words]]
        return WordVectors(tuple(words), matrix, self.vectors.median_norm, self.vectors.mean, self.vectors.n_malformed)

    def _look_up(self, words: set[str]) -> None:
        """Keep what the file has of some words; one that is gone or another is not asked again."""
        assert self.file is not None
        file = VectorFile(self.file.path, self.file.dimension)  # it may have changed since it was asked last
        try:
            found = file.load(words) if file.identity() == self.source else None
        except DataUnavailableError:
            found = None
        if found is None:
            log.warning("%s is not there as the run had it: words that are new get no vector of it", file.path)
            self.file = None
            return
        self._absent |= words - set(found.words)
        for word in found.words:
            self._row[word] = len(self._row)
        kept = self.vectors
        matrix = torch.cat([kept.matrix, found.matrix])
        words_kept = (*kept.words, *found.words)
        self.vectors = WordVectors(words_kept, matrix, kept.median_norm, kept.mean, kept.n_malformed)
