"""The words that have numbers: those of the training sentences, frequent ones first.

Legend: V raw ids of all words, of any part; W words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cvkan.errors import UserError

PADDING, UNKNOWN = "", "<unk>"
PADDING_ID, UNKNOWN_ID = 0, 1
MARKS = (PADDING, UNKNOWN)  # in the order of their ids, in any numbering


def make_vocabulary(
    words: Sequence[str], counts: Tensor, min_count: int, max_words: int | None
) -> tuple[tuple[str, ...], Tensor]:
    """The vocabulary of counted words, and how raw ids become ids in it.

    Words are ordered by how often they occur, equally frequent ones by the alphabet, so that the ids depend on the
    sentences alone and not on their order.

    Args:
        words: word of each raw id; begins with :data:`MARKS`.
        counts: (V,) how often each occurs in the training sentences; those of the marks do not matter.
        min_count: a rarer word is unknown; at least 1.
        max_words: at most so many words beside the marks, the most frequent ones; None keeps all.

    Returns:
        The words of the vocabulary (W,), :data:`MARKS` first, and the id in it of each raw id (V,), int64.

    Raises:
        UserError: no word is frequent enough.
    """
    frequency = counts.tolist()
    known = [raw for raw in range(len(MARKS), len(words)) if frequency[raw] >= min_count]
    known = sorted(known, key=lambda raw: (-frequency[raw], words[raw]))[:max_words]
    if not known:
        raise UserError(
            f"no word of the training sentences occurs {min_count} times", "data.min_count", "Set a lower number."
        )
    ids = torch.full((len(words),), UNKNOWN_ID)
    ids[PADDING_ID] = PADDING_ID
    ids[known] = torch.arange(len(MARKS), len(MARKS) + len(known))
    return (*MARKS, *(words[raw] for raw in known)), ids
