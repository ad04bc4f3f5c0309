"""From words to vectors: how a token is looked up, and what stands for one that has no vector.

Legend: W words with a vector, V ids, D numbers a vector, C candidate words.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from cvkan.errors import UserError
from cvkan.poetry.tokens import PAD, SPECIAL, UNK, bare


class Kind(IntEnum):
    """How the vector of an id was found; in the order in which it is looked for."""

    PAD = 0
    SPECIAL = 1
    EXACT = 2
    LOWER = 3
    STRIPPED = 4
    OOV = 5


FOUND = (Kind.EXACT, Kind.LOWER, Kind.STRIPPED)


@dataclass(frozen=True)
class WordVectors:
    """Words and their vectors, as a source gives them.

    Attributes:
        words: W different words.
        matrix: (W, D) float32, finite; row i belongs to word i.
        median_norm: of the vectors of the whole source, of which ``words`` may be a part. It must not depend on the
            poems: vectors of unknown words are scaled by it, and a network meets other poems later.
        mean: (D,) float32, mean vector of the whole source.
        n_malformed: lines of the source that could not be read.
    """

    words: tuple[str, ...]
    matrix: Tensor
    median_norm: float
    mean: Tensor
    n_malformed: int = 0

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> WordVectors:
        """The inverse of :meth:`arrays`."""
        text = arrays["words"].tobytes().decode()
        return cls(
            words=tuple(text.split("\n")) if text else (),
            matrix=torch.from_numpy(arrays["matrix"]),
            median_norm=float(arrays["median_norm"]),
            mean=torch.from_numpy(arrays["mean"]),
            n_malformed=int(arrays["n_malformed"]),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as arrays of numbers; words hold no line end."""
        return {
            "words": np.frombuffer("\n".join(self.words).encode(), dtype=np.uint8),
            "matrix": self.matrix.numpy(),
            "median_norm": np.array(self.median_norm),
            "mean": self.mean.numpy(),
            "n_malformed": np.array(self.n_malformed),
        }


@dataclass(frozen=True)
class Table:
    """One vector for every token of some poems; a token is the number of its row.

    Attributes:
        words: V tokens: those of :data:`~cvkan.poetry.tokens.SPECIAL`, then the others, sorted.
        ids: from a token to its id.
        matrix: (V, D) float32; row 0, the padding, is zero.
        kind: (V,) uint8, a :class:`Kind` each.
        candidates: (C,) int64, the ids among which a decoded vector's word is looked for: of the words found, one for
            each different vector (``The`` and ``the`` share one where only ``the`` was found): the plainest of them.
        candidate: (V,) int64, place in ``candidates`` of the vector of an id; -1 for special and unknown tokens.
    """

    words: tuple[str, ...]
    ids: dict[str, int]
    matrix: Tensor
    kind: Tensor
    candidates: Tensor
    candidate: Tensor

    def encode(self, tokens: Sequence[str]) -> Tensor:
        """Ids (n,) int64 of tokens that the table was made for."""
        return torch.tensor([self.ids[token] for token in tokens], dtype=torch.int64)

    def shares(self, ids: Tensor) -> dict[str, float]:
        """How tokens were found: shares of ``exact``, ``lower``, ``stripped`` and ``oov``, adding up to 1.

        Args:
            ids: (n,) int64; padding and marks among them do not count.
        """
        counts = self.kind[ids].long().bincount(minlength=len(Kind))[Kind.EXACT :]  # (4,)
        shares = counts / counts.sum().clamp_min(1)
        return {kind.name.lower(): float(share) for kind, share in zip((*FOUND, Kind.OOV), shares, strict=True)}


def forms(token: str) -> Iterator[tuple[Kind, str]]:
    """The words that a token is looked up as, in their order: itself, in lower case, without outer punctuation.

    The gap before a token is no part of its word. Punctuation inside a word stays: ``it's`` is not ``its``.
    """
    word = bare(token)
    yield Kind.EXACT, word
    yield Kind.LOWER, word.lower()
    stripped = _without_outer_punctuation(word)
    if stripped:
        yield Kind.STRIPPED, stripped
        yield Kind.STRIPPED, stripped.lower()


def needed_words(tokens: Iterable[str]) -> set[str]:
    """Every word that :func:`build_table` may ask a source for."""
    return {form for token in set(tokens) - set(SPECIAL) for _, form in forms(token)}


def hash_vectors(words: Sequence[str], dimension: int, norm: float) -> Tensor:
    """Random directions that the words alone decide: uniform on a sphere.

    The bits are SHAKE-256 of a word's UTF-8 bytes, a hash of any length: the same on every machine and for ever, which
    no library promises of its random generators. 32 of them make one normal variate, by its inverse distribution.

    Args:
        words: n of them.
        dimension: D.
        norm: length of every vector.

    Returns:
        (n, D) float32.
    """
    digests = b"".join(hashlib.shake_256(word.encode()).digest(4 * dimension) for word in words)
    bits = np.frombuffer(digests, dtype="<u4").reshape(len(words), dimension)
    # float64, as 32 bits fill more than a float32 holds and 0 and 1 must stay out of reach.
    normal = torch.special.ndtri(torch.from_numpy((bits + 0.5) / 2**32))  # (n, D)
    return (normal * (norm / normal.norm(dim=1, keepdim=True))).float()


# Vectors (n, D) of unknown words.
OOV: dict[str, Callable[[Sequence[str], WordVectors], Tensor]] = {
    "hash": lambda words, vectors: hash_vectors(words, len(vectors.mean), vectors.median_norm),
    "zero": lambda words, vectors: torch.zeros(len(words), len(vectors.mean)),
    "mean": lambda words, vectors: vectors.mean.expand(len(words), -1),
    "unk": lambda words, vectors: hash_vectors([UNK], len(vectors.mean), vectors.median_norm).expand(len(words), -1),
}


def build_table(tokens: Iterable[str], vectors: WordVectors, oov: str) -> Table:
    """Look up every token; see :func:`forms` for the order.

    Marks have vectors from their hash, unknown words as ``oov`` says. Those from a hash are as long as the median
    known vector: vectors ten times shorter weigh fully under the cosine and are never learned under the squared error.

    Args:
        tokens: in any order, repeated or not.
        vectors: words with vectors.
        oov: ``hash``, ``zero``, ``mean`` (the mean of all known vectors) or ``unk`` (all have the one of ``<UNK>``).

    Raises:
        UserError: there is no such ``oov``, or none of the words has a vector.
    """
    if oov not in OOV:
        raise UserError(f"oov={oov} is not known", "data.oov", f"Choose one of: {', '.join(OOV)}.")
    rows = {word: row for row, word in enumerate(vectors.words)}
    words = (*SPECIAL, *sorted(set(tokens) - set(SPECIAL)))
    kind = torch.full((len(words),), Kind.OOV, dtype=torch.uint8)
    row = torch.full((len(words),), -1)  # (V,) of the source, -1: none
    kind[: len(SPECIAL)] = Kind.SPECIAL
    kind[SPECIAL.index(PAD)] = Kind.PAD
    for i in range(len(SPECIAL), len(words)):
        found = next(((how, rows[form]) for how, form in forms(words[i]) if form in rows), None)
        if found is not None:
            kind[i], row[i] = found
    if len(words) > len(SPECIAL) and not (row >= 0).any():
        raise UserError(
            f"none of the {len(words) - len(SPECIAL)} different words of the poems has a vector",
            "data.vectors",
            "Choose vectors of the poems' language.",
        )
    known = (row >= 0).nonzero().squeeze(1)
    unknown = (kind == Kind.OOV).nonzero().squeeze(1)
    matrix = torch.zeros(len(words), len(vectors.mean))
    matrix[: len(SPECIAL)] = hash_vectors(SPECIAL, len(vectors.mean), vectors.median_norm)
    matrix[SPECIAL.index(PAD)] = 0
    matrix[known] = vectors.matrix[row[known]]
    matrix[unknown] = OOV[oov]([bare(words[i]) for i in unknown.tolist()], vectors)
    candidates, candidate = _distinct(words, row, kind)
    return Table(words, {word: i for i, word in enumerate(words)}, matrix, kind, candidates, candidate)


def _distinct(words: Sequence[str], row: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of the source that is in use the plainest of its ids (C,), and the place of each id there (V,)."""
    rows, kinds = row.tolist(), kind.tolist()
    plainest: dict[int, int] = {}
    for i in sorted(range(len(words)), key=lambda i: (kinds[i], words[i] != bare(words[i]))):
        if rows[i] >= 0:
            plainest.setdefault(rows[i], i)
    places = {value: place for place, value in enumerate(plainest)}
    candidates = torch.tensor(list(plainest.values()), dtype=torch.int64)
    return candidates, torch.tensor([places.get(value, -1) for value in rows])


def _without_outer_punctuation(word: str) -> str:
    """``word`` without the punctuation and symbols at its ends, by their Unicode category."""
    return word.strip("".join(character for character in set(word) if unicodedata.category(character)[0] in "PS"))
