"""What a word does to the one after it: gains of words behind some words, against those of the same words elsewhere.

Legend: B batch, L layers, N words of a sample, T places of words, V words of the vocabulary, W words compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cvkan.analysis.polarization import Polarization


@dataclass(frozen=True)
class GainAfter:
    """Gains of the words that stand behind certain words and elsewhere, both.

    Attributes:
        ids: (W,) of these words, those most often behind them first.
        n_after: (W,) how often each stands behind them.
        after: (L, W) mean gain there, a layer.
        elsewhere: (L, W) mean gain at the other places.
    """

    ids: Tensor
    n_after: Tensor
    after: Tensor
    elsewhere: Tensor

    @property
    def ratio(self) -> Tensor:
        """(L,) sum_w n_w after_w / sum_w n_w elsewhere_w: above 1, words are louder behind them; NaN for W = 0."""
        return (self.n_after * self.after).sum(dim=1) / (self.n_after * self.elsewhere).sum(dim=1)


def relative_gain(found: Polarization) -> Tensor:
    """(B, L, N) gains over their mean over the valid tokens of the sample and layer; NaN where padded."""
    gain = found.gain.masked_fill(~found.mask[:, None], torch.nan)
    return gain / gain.nanmean(dim=-1, keepdim=True)


def gain_after(founds: Iterable[Polarization], leading: Tensor) -> GainAfter:
    """Compare the relative gains of words behind ``leading`` ones with those of the same words elsewhere.

    Args:
        founds: what a network did to batches of ids (B, N), one token a word.
        leading: ids of the words that the places after are looked at.
    """
    parts = [_places(found, leading) for found in founds]
    ids, gain, after = (torch.cat(pieces, dim=-1) for pieces in zip(*parts, strict=True))  # (T,), (L, T), (T,)
    n_words = int(ids.max()) + 1
    n_after, n_elsewhere = (torch.bincount(ids[where], minlength=n_words) for where in (after, ~after))  # (V,)
    sums = (torch.zeros(len(gain), n_words).index_add_(1, ids[where], gain[:, where]) for where in (after, ~after))
    both = ((n_after > 0) & (n_elsewhere > 0)).nonzero().squeeze(1)
    both = both[n_after[both].argsort(descending=True, stable=True)]  # (W,)
    mean_after, mean_elsewhere = (
        total[:, both] / n[both] for total, n in zip(sums, (n_after, n_elsewhere), strict=True)
    )
    return GainAfter(both, n_after[both], mean_after, mean_elsewhere)


def _places(found: Polarization, leading: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ids (T,), relative gains (L, T) and "behind a leading word" (T,) of the valid places of a batch."""
    before = F.pad(found.x[:, :-1], (1, 0), value=-1)  # (B, N)
    after = torch.isin(before, leading)
    gain = relative_gain(found).transpose(0, 1)  # (L, B, N)
    return found.x[found.mask], gain[:, found.mask], after[found.mask]
