"""Codes of other poems in the place of a chunk's own: what a decoder does then shows whether it uses them.

Legend: B batch, N tokens, n chunks, d numbers of a code.
"""

from __future__ import annotations

import torch
from torch import Tensor


def strangers(poem: Tensor, generator: torch.Generator) -> Tensor | None:
    """For every chunk a chunk of another poem, all of these equally likely.

    Args:
        poem: (n,) int64, the poem of each chunk.
        generator: draws them.

    Returns:
        (n,) int64, places in ``poem``; None if all chunks are of one poem.
    """
    _, group, size = poem.unique(return_inverse=True, return_counts=True)
    if len(size) < 2:
        return None
    by_group = group.argsort(stable=True)  # the chunks of a poem stand side by side
    first = (size.cumsum(dim=0) - size)[group]  # (n,)
    n_others = len(poem) - size[group]  # (n,)
    drawn = (torch.rand(len(poem), generator=generator, dtype=torch.float64) * n_others).long()  # (n,)
    return by_group[torch.where(drawn < first, drawn, drawn + size[group])]


def in_place_of(code: Tensor, mask: Tensor) -> Tensor:
    """Codes of other sequences for any number of tokens: one a sequence as it is, one a token over and over again.

    Args:
        code: (B, d), or (B, N, d) of which only the first are of tokens.
        mask: (B, N) of the sequences that the codes are of, 1 = token.
    """
    if code.ndim == 2:
        return code
    place = torch.arange(code.shape[1], device=code.device) % mask.bool().sum(dim=1, keepdim=True)  # (B, N)
    return code.gather(1, place[..., None].expand_as(code))
