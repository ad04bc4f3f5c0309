"""Sentences with words left out, to train on.

Legend: B batch, N words.
"""

from __future__ import annotations

import torch
from torch import nn

from cvkan.domains.text.vocabulary import UNKNOWN_ID
from cvkan.spec import Batch


class WordDropout(nn.Module):
    """Puts the unknown word in the place of some words, each independently with probability p.

    No network can rest on one word then, and the unknown word, which a vocabulary of all training words never shows in
    training, gets a vector that means "any word".

    Args:
        probability: p.

    Raises:
        ValueError: it is not between 0 and 1.

    Source: M. Iyyer et al., "Deep unordered composition rivals syntactic methods for text classification", 2015,
    section 3; there the word is taken out, which would move its neighbours together.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 < probability < 1:
            raise ValueError(f"word_dropout must be from 0 to below 1, got {probability}; set data.word_dropout=0.1")
        self.probability = probability

    def forward(self, batch: Batch) -> Batch:
        """``x`` (B, N) with unknown words in it; padding stays."""
        x = batch["x"]
        dropped = (torch.rand(x.shape) < self.probability).to(x.device) & (batch["mask"] > 0)  # (B, N)
        return {**batch, "x": x.masked_fill(dropped, UNKNOWN_ID)}
