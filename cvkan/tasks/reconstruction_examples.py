"""Some chunks of a test, for a person to look at: their words, and where their codes lie.

Legend: B batch, N tokens, D numbers of a vector, d numbers of a code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from cvkan.poetry.chunks import Chunk
from cvkan.poetry.nearest import NearestWord
from cvkan.poetry.poems_file import Poem
from cvkan.poetry.tokens import detokenize
from cvkan.poetry.vectors import Kind, Table
from cvkan.spec import Batch

IN_WORDS = 24  # chunks in the table of reconstructions
AS_POINTS = 1000  # codes in the pictures of the latent space


@runtime_checkable
class PoemSource(Protocol):
    """Data that knows its words, and which poem a chunk is of; a batch's ``id`` is a place in ``chunks``."""

    table: Table
    chunks: list[Chunk]
    poems: Sequence[Poem]
    splits: dict[str, Any]
    batch_size: int

    def preprocess(self, batch: Batch) -> Batch: ...


class Examples:
    """The first chunks of a test, collected batch by batch.

    Args:
        source: tells the words and the authors.
        device: of the batches.

    Attributes:
        reconstructions: rows ``source``, ``decoded`` and ``token_cosine``; lines and stanzas end in ``/`` and ``//``.
        chunks: those whose codes were kept.
    """

    def __init__(self, source: PoemSource, device: torch.device) -> None:
        table = source.table
        marks = (table.kind == Kind.SPECIAL).nonzero().squeeze(1)
        self.choices = torch.cat([marks, table.candidates])  # ids that a decoded vector may mean
        self.nearest = NearestWord(table.matrix[self.choices]).to(device)
        self.source = source
        self.reconstructions: list[dict[str, Any]] = []
        self.chunks: list[Chunk] = []
        self._codes: list[Tensor] = []

    @property
    def codes(self) -> Tensor:
        """(n, d), one a chunk: of codes of tokens their mean."""
        return torch.cat(self._codes)

    @property
    def lengths(self) -> list[int]:
        """Tokens of every kept chunk."""
        return [len(chunk.tokens) for chunk in self.chunks]

    @property
    def authors(self) -> list[str | None]:
        """Of every kept chunk; None where the poem has none."""
        return [self.source.poems[chunk.poem].author for chunk in self.chunks]

    def add(self, batch: Batch, z: Tensor, output: Tensor) -> None:
        """See a batch: its codes (B, d) or (B, N, d), and what was decoded (B, N, D)."""
        if len(self.chunks) < AS_POINTS:
            valid = batch["mask"][..., None]
            self._codes.append((z if z.ndim == 2 else (z * valid).sum(dim=1) / valid.sum(dim=1)).float().cpu())
            self.chunks += [self.source.chunks[number] for number in batch["id"].tolist()]
        missing = IN_WORDS - len(self.reconstructions)
        if missing > 0:
            self.reconstructions += self._in_words({name: part[:missing] for name, part in batch.items()}, output)

    def _in_words(self, batch: Batch, output: Tensor) -> list[dict[str, Any]]:
        """A row for each chunk of the batch."""
        rows = []
        for x, y, mask, found in zip(batch["x"], batch["y"], batch["mask"], output.float(), strict=False):
            valid = mask.bool()
            cosine = F.cosine_similarity(found[valid], x[valid], dim=-1).mean()
            decoded = self.choices[self.nearest(found[valid]).cpu()]
            texts = {"source": self._quoted(y[valid]), "decoded": self._quoted(decoded)}
            rows.append({**texts, "token_cosine": float(cosine)})
        return rows

    def _quoted(self, ids: Tensor) -> str:
        """The text of ids (T,) on one line."""
        text = detokenize([self.source.table.words[k] for k in ids.tolist()])
        return text.replace("\n\n", " // ").replace("\n", " / ").strip()
