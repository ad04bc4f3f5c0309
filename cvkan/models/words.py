"""One vector a word: drawn at random, or begun with word vectors of a file.

Legend: B batch, N words of a sample, V words of the vocabulary, n of them with a vector in the file, G numbers of one
there, F features of a word.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from cvkan.errors import DataUnavailableError, UserError
from cvkan.poetry.vector_files import read_dimension, read_vectors
from cvkan.spec import Batch, Spec

log = logging.getLogger(__name__)

PADDING = 0  # its id


def check_words(spec: Spec, user: str) -> None:
    """Refuse data whose samples are no words.

    Args:
        spec: should have samples (N,) of ids, and a vocabulary.
        user: the choice that needs them, for the message.

    Raises:
        ValueError: it does not.
    """
    if not spec.vocabulary or len(spec.input_shape) != 1:
        raise ValueError(
            f"{user} needs ids of words (n_tokens,) and a vocabulary, got samples of shape {spec.input_shape}; "
            "choose what fits the data"
        )


class WordTable(nn.Embedding):
    """Ids (B, N) to vectors (B, N, F), one learned vector a word of the vocabulary.

    With ``vectors``, :meth:`start_from` sets those of the words that the file knows to what is left of its vectors when
    they are brought to F numbers and to the size of the others.

    Args:
        vocabulary: word of each id; V of them.
        n_features: numbers F of a vector.
        std: standard deviation of the numbers at the start.
        vectors: file of word vectors, text as GloVe has it or npz with ``words`` and ``vectors``; None for none.
    """

    def __init__(self, vocabulary: tuple[str, ...], n_features: int, std: float, vectors: str | None) -> None:
        super().__init__(len(vocabulary), n_features)
        nn.init.normal_(self.weight, std=std)
        self.vocabulary, self.std, self.vectors = vocabulary, std, vectors

    def start_from(self, train: Batch) -> None:
        """Begin with the vectors of the file, if there is one; ``train`` plays no part.

        Raises:
            UserError: the file is missing or no table of word vectors, or knows none of the words.
        """
        if self.vectors is None:
            return
        ids, found = pretrained(self.vocabulary, Path(self.vectors))
        brought = brought_to(found, self.embedding_dim)
        with torch.no_grad():
            self.weight[ids] = brought.mul(self.std / brought.square().mean().sqrt()).to(self.weight)
        log.info("%d of the %d words begin with their vector of %s", len(ids), len(self.vocabulary), self.vectors)


def pretrained(vocabulary: tuple[str, ...], path: Path) -> tuple[Tensor, Tensor]:
    """Ids (n,) of the words that a file has a vector for, as they stand or in lower case, and the vectors (n, G).

    Raises:
        UserError: the file is missing or no table of word vectors, or knows none of the words.
    """
    if not path.is_file():
        raise DataUnavailableError("there is no such file of word vectors", path, "Set embedding.vectors=FILE or null.")
    forms = {word: (word, word.lower()) for word in vocabulary if word}
    vectors = read_vectors(path, read_dimension(path), {form for pair in forms.values() for form in pair})
    rows = {word: row for row, word in enumerate(vectors.words)}
    places = {
        number: next(rows[form] for form in forms[word] if form in rows)
        for number, word in enumerate(vocabulary)
        if word and not rows.keys().isdisjoint(forms[word])
    }
    if not places:
        raise UserError("the file has a vector for none of the words", path, "Choose vectors of the data's language.")
    return torch.tensor(list(places)), vectors.matrix[list(places.values())]


def brought_to(vectors: Tensor, n_features: int) -> Tensor:
    """Vectors (n, G) about their mean by one linear map (G, F): their principal components, turned at random.

    No other map to F < G numbers keeps more of the differences between words. The turn gives all F numbers the same
    variance; without it the first ones would be loud and the last ones silent. With F >= G all differences are kept.
    """
    centred = vectors - vectors.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    kept = min(n_features, len(directions))
    turn, _ = torch.linalg.qr(torch.randn(n_features, kept))  # (F, kept), orthonormal columns
    return centred @ directions[:kept].T @ turn.T  # (n, F)
