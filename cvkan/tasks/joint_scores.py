"""Counts of right and wrong answers to two questions at once, modulation and SNR, and what follows from them.

Legend: B batch, M modulations, S levels of the SNR.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric


class JointCounts(Metric):
    """Counts that all figures of the task follow from; :meth:`compute` returns them.

    Args:
        n_classes: M.
        n_levels: S.

    Attributes:
        modulation: (S, M, M) int64: true level, true modulation, predicted modulation.
        snr: (S, S): true level, predicted level.
        combined: (S,): frames of a level of which both were right.
    """

    modulation: Tensor
    snr: Tensor
    combined: Tensor

    def __init__(self, n_classes: int, n_levels: int) -> None:
        super().__init__()
        sizes = {"modulation": (n_levels, n_classes, n_classes), "snr": (n_levels, n_levels), "combined": (n_levels,)}
        for name, size in sizes.items():
            self.add_state(name, torch.zeros(size, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, logits: Tensor, y: Tensor) -> None:
        """Count a batch: logits (B, M + S), labels (B, 2)."""
        n_classes = self.modulation.shape[1]
        found, level = logits[:, :n_classes].argmax(dim=1), logits[:, n_classes:].argmax(dim=1)
        true, true_level = y.unbind(dim=1)
        both = (found == true) & (level == true_level)
        one = torch.ones_like(true)
        self.modulation = self.modulation.index_put((true_level, true, found), one, accumulate=True)
        self.snr = self.snr.index_put((true_level, level), one, accumulate=True)
        self.combined = self.combined.index_put((true_level,), both.long(), accumulate=True)

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.modulation, self.snr, self.combined


@dataclass(frozen=True)
class JointScores:
    """Figures of merit out of counts; what no sample speaks of is NaN.

    Attributes:
        snr_db: (S,) levels.
        modulation, snr, combined: as in :class:`JointCounts`.
    """

    snr_db: Tensor
    modulation: Tensor
    snr: Tensor
    combined: Tensor

    @property
    def count(self) -> Tensor:
        """Samples of every level (S,)."""
        return self.snr.sum(dim=1)

    @property
    def right(self) -> dict[str, Tensor]:
        """Right answers of every level (S,), by what was asked."""
        modulation = self.modulation.diagonal(dim1=1, dim2=2).sum(dim=1)
        return {"modulation": modulation, "snr": self.snr.diagonal(), "combined": self.combined}

    @property
    def accuracy(self) -> dict[str, Tensor]:
        """Share of right answers of every level (S,), by what was asked."""
        return {name: right / self.count for name, right in self.right.items()}

    @property
    def f1(self) -> Tensor:
        """F1 of every modulation (M,): 2 hits / (times it was there + times it was named)."""
        counts = self.modulation.sum(dim=0)  # (M, M)
        return 2 * counts.diagonal() / (counts.sum(dim=0) + counts.sum(dim=1))

    @property
    def recall(self) -> Tensor:
        """Share of right answers of every modulation (M,)."""
        counts = self.modulation.sum(dim=0)  # (M, M)
        return counts.diagonal() / counts.sum(dim=1)

    def figures(self, stage: str) -> dict[str, Tensor]:
        """Scalars over all samples, to be logged."""
        total = self.count.sum()
        scores = {f"{stage}/{name}_accuracy": right.sum() / total for name, right in self.right.items()}
        off_db = (self.snr_db[:, None] - self.snr_db).abs()  # (S, S)
        return {
            **scores,
            f"{stage}/f1_macro": self.f1.nanmean(),
            f"{stage}/snr_mae_db": (self.snr * off_db).sum() / total,
        }
