"""What the comparison networks of sentences share: words as real vectors, and sums over the words there are.

They read their words through the embedding that the complex network has, its two planes side by side: the same table,
the same dropout, the same word vectors to start from.

Legend: B batch, N words, D complex channels of the embedding, M = 2 D real features of a word.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cvkan.models.embedding import Embedding
from cvkan.models.words import check_words
from cvkan.spec import Spec


class Words(nn.Module):
    """Ids (B, N) to real vectors (B, N, M), 0 in the place of padding, and the mask (B, N), True = valid.

    Args:
        spec: samples of ids (N,) with a vocabulary, one target a sample.
        embedding: constructor, ``embedding(spec, d_complex)``.
        d_model: features M of a word.
        user: the choice that needs words, for messages.

    Raises:
        ValueError: the samples are no words, the data asks for one output a token, or ``d_model`` is odd or below 2.
    """

    def __init__(self, spec: Spec, embedding: Callable[..., Embedding], d_model: int, user: str) -> None:
        super().__init__()
        check_words(spec, user)
        if spec.per_token:
            raise ValueError(f"{user} gives one output a sample, the data asks for one a token; choose model=cvkan")
        if d_model < 2 or d_model % 2:
            raise ValueError(
                f"d_model must be even and positive, as a word is two planes, got {d_model}; set model.d_model"
            )
        self.embedding = embedding(spec=spec, d_complex=d_model // 2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Ids (B, N) and mask (B, N), 1 = valid, or None where all are."""
        planes, mask = self.embedding(x, mask)
        valid = torch.ones_like(x, dtype=torch.bool) if mask is None else mask.bool()
        return torch.cat(planes, dim=-1).masked_fill(~valid.unsqueeze(-1), 0.0), valid  # (B, N, M), (B, N)


def mean_of_valid(features: Tensor, valid: Tensor) -> Tensor:
    """Mean (B, M) over the valid ones of features (B, N, M); 0 where none of valid (B, N) is."""
    total = features.masked_fill(~valid.unsqueeze(-1), 0.0).sum(dim=1)  # (B, M)
    return total / valid.sum(dim=1, keepdim=True).clamp(min=1)


def check_positive(**sizes: int) -> None:
    """Refuse sizes of a network that are not positive, by their names."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}; set model.{name}")
