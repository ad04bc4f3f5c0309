"""Poems that a trained network is judged on, other than those of its run.

Legend: n chunks, N tokens of a chunk at most, V ids.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from itertools import islice
from typing import Unpack

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cvkan.domains.datamodule import TensorSplit
from cvkan.domains.poetry.base import Reading
from cvkan.domains.poetry.lexicon import Lexicon
from cvkan.domains.poetry.sources import PoemsFile
from cvkan.errors import UserError
from cvkan.poetry.chunks import cut, identity
from cvkan.poetry.poems_file import Poem
from cvkan.spec import Batch

log = logging.getLogger(__name__)

NAMED = 3  # poems in a message, at most


class OtherPoems(PoemsFile):
    """The poems of a file as the test part; the training part is that of the network's run, for the baselines.

    Poems that the network was trained on are left out, and the log names them: figures of the test are of others.

    Args:
        lexicon: vectors of all words.
        train: ids (n, N) of the run's training chunks in the lexicon's table.
        trained: of the poems that these are of, each as :func:`~cvkan.poetry.chunks.identity` has it.
        path: the file.
        reading: as in the run.

    Raises:
        UserError: on loading, if the network was trained on all poems of the file.
    """

    def __init__(
        self, lexicon: Lexicon, train: Tensor, trained: Collection[str], *, path: str, **reading: Unpack[Reading]
    ) -> None:
        super().__init__(path=path, **reading)
        self.lexicon, self.train, self.trained = lexicon, train, frozenset(trained)
        self.n_left_out = 0

    def read_poems(self) -> list[Poem]:
        poems = super().read_poems()
        names = {
            number: repr(poem.title) if poem.title else f"poem {number}"
            for number, poem in enumerate(poems)
            if identity(poem.text) in self.trained
        }
        if len(names) == len(poems):
            what = f"the network was trained on every one of the {len(poems)} poems"
            raise UserError(what, self.path, "Give other poems; evaluate() has figures of the training, train_eval/….")
        if names:
            shown = ", ".join(islice(names.values(), NAMED)) + (", …" if len(names) > NAMED else "")
            log.warning("Left out %d of %d poems, which training had: %s", len(names), len(poems), shown)
        self.n_left_out = len(names)
        return [poem for number, poem in enumerate(poems) if number not in names]

    def measures(self) -> dict[str, float]:
        """As of any poems, and ``data/training_poems``, how many of the file were left out."""
        return super().measures() | {"data/training_poems": self.n_left_out}

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        self.chunks = cut(self.tokens, self.max_length, self.overlap)
        self.parts = ["test" for _ in self.poems]
        self.table = self.lexicon.table_with(token for chunk in self.chunks for token in chunk.tokens)
        self.n_malformed = self.lexicon.vectors.n_malformed
        self._matrix = self.table.matrix
        here = self.table.encode(self.lexicon.table.words)  # (V,): words have other ids in the larger table
        numbers = torch.arange(len(self.chunks))
        nowhere = torch.full((len(self.train),), -1)  # training chunks are kept as ids alone
        return {
            "train": TensorSplit(y=here[self.train.long()], id=nowhere),
            "test": TensorSplit(y=self.chunk_ids(), id=numbers),
        }
