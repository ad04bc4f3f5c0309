"""From texts to codes, and codes as a decoder takes them.

Legend: B chunks at a time, N tokens of a chunk at most, n tokens of one, k chunks, d numbers of a code, F numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from cvkan.domains.poetry.lexicon import Lexicon
from cvkan.errors import UserError
from cvkan.models.autoencoder import Autoencoder, Code
from cvkan.poetry.chunks import cut
from cvkan.poetry.tokens import tokenize
from cvkan.reconstruction_loss import HybridCosine

AT_ONCE = 64  # chunks of a long text

Coded = tuple[Code, Tensor]  # codes of B chunks, and a mask (B, N), 1 = a token may stand here


class Coder:
    """What an autoencoder's encoder makes of texts.

    Args:
        autoencoder: in evaluation mode.
        lexicon: vectors of words.
        loss: says how long the network sees vectors.
        device: of the network.
    """

    def __init__(self, autoencoder: Autoencoder, lexicon: Lexicon, loss: HybridCosine, device: torch.device) -> None:
        self.autoencoder, self.lexicon, self.loss, self.device = autoencoder, lexicon, loss, device
        self.n_tokens, self.per_token = autoencoder.decoder.n_tokens, autoencoder.decoder.per_token

    def encoded(self, text: str) -> Iterator[Coded]:
        """Codes of the chunks of a text, which do not overlap; tokens may stand where :meth:`coded` says."""
        chunks = [chunk.tokens for chunk in cut([tokenize(text)], self.n_tokens, overlap=0)]
        vectors = self.lexicon.vectors_of([*chain.from_iterable(chunks)]).split([*map(len, chunks)])
        for first in range(0, len(chunks), AT_ONCE):
            x, mask = self._padded(vectors[first : first + AT_ONCE])
            code = self.autoencoder.encode(self.loss.in_space(x), mask)
            yield code, mask if self.per_token else torch.ones_like(mask)

    def coded(self, z: Tensor | Sequence[Tensor]) -> Coded:
        """Codes as :meth:`~cvkan.poetry_api.model.PoetryAutoencoder.decode` takes them.

        A code says nothing of how long its chunk is: tokens may stand anywhere. Codes of tokens are as many as these.

        Raises:
            UserError: they have another shape.
        """
        parts: list[Any] = [*z] if isinstance(z, (list, tuple)) else [z]
        d, most = self.autoencoder.d_latent, self.n_tokens if self.per_token else math.inf
        dims = (2,) if self.per_token else (1, 2)
        if not parts or not all(
            isinstance(part, Tensor) and part.ndim in dims and part.shape[-1] == d and 1 <= len(part) <= most
            for part in parts
        ):
            wanted = f"(n, {d}) with n from 1 to {most}, or a list of such" if self.per_token else f"({d},) or (k, {d})"
            found = [tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__ for part in parts]
            raise UserError(f"z must be a tensor {wanted}, got {found}", "z", "Give what encode(text) gives.")
        if self.per_token:
            codes, mask = self._padded(parts)
            return Code(codes.float()), mask
        codes = torch.cat([part.reshape(-1, d) for part in parts]).float().to(self.device)
        return Code(codes), torch.ones(len(codes), self.n_tokens, device=self.device)

    def _padded(self, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Tensors (n, F) of B chunks as one (B, N, F), and the mask (B, N) of what is of them."""
        x = pad_sequence([*rows], batch_first=True).to(self.device)
        sizes = torch.tensor([len(row) for row in rows], device=self.device)
        mask = torch.arange(self.n_tokens, device=self.device) < sizes[:, None]
        return F.pad(x, (0, 0, 0, self.n_tokens - x.shape[1])), mask.float()
