"""Which word a vector means: the one whose vector points nearest to it.

Legend: C candidates, T tokens, D numbers of a vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIMILARITIES = 2**24  # held at a time, 64 MiB


class NearestWord(nn.Module):
    """The nearest of some vectors by cosine; of equally near ones the first.

    Args:
        candidates: (C, D), at least one; lengths are of no account.
    """

    directions: Tensor

    def __init__(self, candidates: Tensor) -> None:
        super().__init__()
        self.register_buffer("directions", F.normalize(candidates.float(), dim=-1), persistent=False)

    def __len__(self) -> int:
        """C, how many there are to choose from."""
        return len(self.directions)

    def forward(self, vectors: Tensor) -> Tensor:
        """Places (T,) among the candidates for vectors (T, D); in float32 also under autocast."""
        with torch.autocast(vectors.device.type, enabled=False):
            # The length of the vector asked about changes no order. An empty batch has one empty part.
            parts = vectors.float().split(max(1, SIMILARITIES // len(self)))
            return torch.cat([(part @ self.directions.T).argmax(dim=-1) for part in parts])
