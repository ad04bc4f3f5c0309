"""Chunks of random words, to train on beside those of poems.

Legend: B batch, N tokens, D numbers a vector, F words.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cvkan.spec import Batch


class RandomChunks(nn.Module):
    """Adds chunks of random words to a batch: where every token has a code, the whole vocabulary is to be learned.

    The training poems hold a few hundred words, most of the held-out poems' words are among the first thousands of any
    file of vectors.

    Args:
        words: gives the vectors (F, D) that are drawn from, all equally often; asked at first use.
        share: chunks for each one of the batch.

    Raises:
        ValueError: ``share`` is not positive.
    """

    def __init__(self, words: Callable[[], Tensor], share: float) -> None:
        super().__init__()
        if not share > 0:
            raise ValueError(f"random_chunks must not be negative, got {share}; set data.random_chunks=0 for none")
        self.words, self.share = words, share

    def forward(self, batch: Batch) -> Batch:
        """``x`` and ``mask`` with (1 + share) B chunks, the others left out."""
        x, mask = batch["x"], batch["mask"]
        n = max(1, round(self.share * len(x)))
        words = self.words().to(x.device)
        drawn = words[torch.randint(len(words), (n, x.shape[1])).to(x.device)]  # (n, N, D)
        return {"x": torch.cat([x, drawn]), "mask": torch.cat([mask, torch.ones_like(drawn[..., 0])])}
