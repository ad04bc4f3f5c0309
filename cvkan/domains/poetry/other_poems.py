"""Poems that a trained network is judged on, other than those of its run.

Legend: n chunks, N tokens of a chunk at most, V ids.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cvkan.domains.datamodule import TensorSplit
from cvkan.domains.poetry.base import Reading
from cvkan.domains.poetry.lexicon import Lexicon
from cvkan.domains.poetry.sources import PoemsFile
from cvkan.poetry.chunks import cut
from cvkan.spec import Batch


class OtherPoems(PoemsFile):
    """All poems of a file as the test part; the training part is that of the network's run, for the baselines.

    Args:
        lexicon: vectors of all words.
        train: ids (n, N) of the run's training chunks in the lexicon's table.
        path: the file.
        reading: as in the run.
    """

    def __init__(self, lexicon: Lexicon, train: Tensor, *, path: str, **reading: Unpack[Reading]) -> None:
        super().__init__(path=path, **reading)
        self.lexicon, self.train = lexicon, train

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
