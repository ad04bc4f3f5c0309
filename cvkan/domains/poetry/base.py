"""What both sources of poems share: chunks, the table of vectors, the split by poem.

Legend: B batch, n chunks, N tokens of a chunk at most, V ids, D numbers a vector.
"""

from __future__ import annotations

import hashlib
import logging
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack, cast

import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from cvkan.domains.datamodule import SPLITS, DataModule, Loading, TensorSplit
from cvkan.domains.poetry.augment import RandomChunks
from cvkan.domains.poetry.vector_sources import PoemVectors, RandomVectors, VectorFile, VectorSource
from cvkan.errors import UserError
from cvkan.poetry.baselines import padded, poetry_baselines
from cvkan.poetry.chunks import Chunk, coverage, cut, duplication, split_poems
from cvkan.poetry.poems_file import Poem
from cvkan.poetry.tokens import tokenize
from cvkan.poetry.vectors import Kind, Table, build_table, needed_words
from cvkan.spec import Batch, Spec

log = logging.getLogger(__name__)

N_COMMON = 5000
EMBEDDINGS = ("file", "embedded", "random")


class Reading(Loading):
    """Arguments that both sources take and hand on to :class:`PoetryData`.

    Attributes:
        embeddings: ``file``, ``embedded`` (vectors made from these poems) or ``random``.
        vectors: file of word vectors, for ``file`` alone; else None.
        dimension: numbers D of a vector.
        oov: what stands for a word without a vector: ``hash``, ``zero``, ``mean`` or ``unk``.
        max_length: tokens N of a chunk, the marks of a poem's start and end among them.
        overlap: tokens that two chunks of a poem share.
        random_chunks: chunks of random words, out of the first 5000 of the vectors, that training adds for each one of
            the poems.
        d_latent: numbers of a code, for the baselines.
        code: ``sequence`` or ``token``, for the baselines.
    """

    embeddings: str
    vectors: str | None
    dimension: int
    oov: str
    max_length: int
    overlap: int
    random_chunks: float
    d_latent: int
    code: str


class PoetryData(DataModule):
    """Base of the sources of poems: ``y`` (N,) int64, ids into :attr:`table`, and ``id``, the number of the chunk.

    Memory holds ids alone. On the model's device a batch gets ``x`` (B, N, D) float32, the vectors of its tokens, and
    ``mask`` (B, N) float32, 1 = token; behind a chunk's end are id 0, vectors of zeros and mask 0. A poem is in one
    part with all its chunks, and so are equal poems.

    Args:
        reading: see :class:`Reading`.

    Attributes:
        table: vectors and words of all tokens of the poems; after :meth:`setup`, as the others.
        chunks: n chunks of all poems; ``id`` counts them.
        parts: ``train``, ``val`` or ``test`` of each poem.

    Raises:
        UserError: an argument is out of range, or two do not fit together.
        ValueError: ``max_length`` or ``overlap`` is out of range.
    """

    table: Table
    chunks: list[Chunk]
    parts: list[str]

    def __init__(
        self,
        *,
        embeddings: str,
        vectors: str | None,
        dimension: int,
        oov: str,
        max_length: int,
        overlap: int,
        random_chunks: float,
        d_latent: int,
        code: str,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        if embeddings not in EMBEDDINGS:
            raise UserError(
                f"embeddings={embeddings} is not known", "data.embeddings", f"Choose one of: {', '.join(EMBEDDINGS)}."
            )
        if embeddings == "file" and vectors is None:
            raise UserError(
                "no file of word vectors is given",
                "data.vectors",
                "Set data.vectors=FILE, or data.embeddings=embedded for vectors made from the poems.",
            )
        if embeddings != "file" and vectors is not None:
            raise UserError(
                f"the file is not read with embeddings={embeddings}", "data.vectors", "Set data.embeddings=file."
            )
        if dimension < 1:
            raise UserError(f"dimension must be at least 1, got {dimension}", "data.dimension", "Set that of the file.")
        cut([], max_length, overlap)  # refuses wrong sizes now, not when the poems are read
        self.embeddings, self.vectors, self.dimension, self.oov = embeddings, vectors, dimension, oov
        self.max_length, self.overlap = max_length, overlap
        self.d_latent, self.code = d_latent, code
        if random_chunks:
            self.augment = RandomChunks(lambda: self.common_vectors, random_chunks)
        self.spec = Spec(input_shape=(max_length, dimension), target="vectors", n_outputs=dimension)

    def read_poems(self) -> list[Poem]:
        """The poems of the source; called once."""
        raise NotImplementedError

    @cached_property
    def poems(self) -> list[Poem]:
        """All of them; chunks name a poem by its place here."""
        return self.read_poems()

    @cached_property
    def tokens(self) -> list[list[str]]:
        """Tokens of each poem, marks of its start and end not among them."""
        return [tokenize(poem.text) for poem in self.poems]

    @cached_property
    def vector_source(self) -> VectorSource:
        """What ``data.embeddings`` chose; it has vectors for other words as well."""
        if self.embeddings == "file":
            return VectorFile(Path(cast(str, self.vectors)).expanduser(), self.dimension)
        if self.embeddings == "embedded":
            return PoemVectors(self.tokens, self.dimension)
        return RandomVectors(self.dimension)

    @cached_property
    def common_vectors(self) -> Tensor:
        """Vectors (F, D) that chunks of random words are made of, marks among them."""
        marks = self.table.matrix[self.table.kind == Kind.SPECIAL]
        return torch.cat([marks, self.vector_source.first(N_COMMON)])

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        self.chunks = cut(self.tokens, self.max_length, self.overlap)
        self.parts = split_poems([poem.text for poem in self.poems])
        tokens = {token for chunk in self.chunks for token in chunk.tokens}
        vectors = self.vector_source.load(needed_words(tokens))
        self.n_malformed = vectors.n_malformed
        self.table = build_table(tokens, vectors, self.oov)
        self._matrix = self.table.matrix
        ids = self.chunk_ids()
        numbers = {name: self._numbers(name) for name in SPLITS}
        return {name: TensorSplit(y=ids[rows], id=rows) for name, rows in numbers.items()}

    def chunk_ids(self) -> Tensor:
        """Ids (n, N) of all chunks in :attr:`table`, 0 behind their ends."""
        return padded([self.table.encode(chunk.tokens) for chunk in self.chunks], self.max_length)

    def setup(self, stage: str | None = None) -> None:
        """Load the splits and tell what share of the words has vectors."""
        is_first = not self.splits
        super().setup(stage)
        if is_first:
            shares = ", ".join(
                f"{name.removeprefix('data/tokens_')} {100 * share:.1f} %"
                for name, share in self.measures().items()
                if name.startswith("data/tokens_")
            )
            log.info(
                "%d poems, %d chunks; words found: %s; %d candidate words",
                *(len(self.poems), len(self.chunks), shares, len(self.table.candidates)),
            )

    def preprocess(self, batch: Batch) -> Batch:
        """Ids to vectors: adds ``x`` (B, N, D) and ``mask`` (B, N)."""
        y = batch["y"]
        if self._matrix.device != y.device:
            self._matrix = self.table.matrix.to(y.device)
        return {**batch, "x": F.embedding(y, self._matrix), "mask": (y != 0).float()}

    def measures(self) -> dict[str, float]:
        """Facts of the loaded data for ``metrics.json``.

        Returns:
            Shares of the poems' words that were found ``data/tokens_exact``, ``…_lower``, ``…_stripped`` and not at
            all, ``…_oov``; ``data/candidate_words``; ``data/malformed_lines`` of the file of vectors;
            ``data/coverage``, the share of tokens that are in some chunk, and ``data/duplication``, tokens of all
            chunks for one of the poems.
        """
        ids = torch.cat([self.table.encode(tokens) for tokens in self.tokens])
        return {
            **{f"data/tokens_{name}": share for name, share in self.table.shares(ids).items()},
            "data/candidate_words": len(self.table.candidates),
            "data/malformed_lines": self.n_malformed,
            "data/coverage": coverage(self.chunks, self.tokens),
            "data/duplication": duplication(self.chunks, self.tokens),
        }

    def baselines(self) -> dict[str, float]:
        """Simple codecs fitted on the training chunks and tried on the test chunks, and :meth:`measures`."""
        train, test = ([y[y != 0] for y in self._split(name).tensors["y"]] for name in ("train", "test"))
        found = poetry_baselines(train, test, self.table, self.d_latent, self.code, self.max_length)
        return self.measures() | found

    def facts(self, drawing: dict[str, Any] | None) -> dict[str, Any]:
        """With ``vectors``: where they come from, and what stands for words without one."""
        vectors = f"{self.vector_source.identity()}, oov={self.oov}"
        return {**super().facts(drawing), "vectors": vectors}

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.vector_source.identity()}, oov={self.oov}, {super().fingerprint()}".encode())
        digest.update("\n".join(self.table.words).encode())
        return digest.hexdigest()

    def state_dict(self) -> dict[str, Any]:
        """Which poems are in which part."""
        return {"split": self._split_digest()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on training with other poems, or others in a part.

        Raises:
            UserError: they differ.
        """
        training = self.trainer is not None and self.trainer.state.fn is TrainerFn.FITTING
        if training and state_dict["split"] != self._split_digest():
            raise UserError(
                "the poems are not those that the run was started with",
                "data",
                "Resume with the same poems, or start a new run.",
            )

    def _split_digest(self) -> str:
        lines = sorted(f"{part} {poem.text!r}" for part, poem in zip(self.parts, self.poems, strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _numbers(self, part: str) -> Tensor:
        """Numbers (k,) of the chunks of a part."""
        return torch.tensor([i for i, chunk in enumerate(self.chunks) if self.parts[chunk.poem] == part])

    def _split(self, name: str) -> TensorSplit:
        return cast(TensorSplit, self.splits[name])
