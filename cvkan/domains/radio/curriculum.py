"""Easy frames first: how often an epoch draws the samples of each signal-to-noise ratio.

Legend: n samples, S levels of the SNR.
"""

from __future__ import annotations

import torch
from torch import Tensor

REACH = 3  # levels ahead of the current one that are drawn at half the weight of the one before each
FLOOR = 0.1  # weight of all levels beyond


class SnrCurriculum:
    """Weights that start at the highest SNR and take in one level more every ``epochs_per_shift`` epochs.

    Levels i = 0, 1, … run from the highest SNR to the lowest and p = epoch // epochs_per_shift is the level reached:
    weight 1 where i <= p, 0.5^(i - p) for the next three, 0.1 beyond. Labels alone decide, no frame is looked at.

    Args:
        epochs_per_shift: epochs until the next lower level counts in full, at least 1.

    Raises:
        ValueError: it is less.
    """

    def __init__(self, epochs_per_shift: int) -> None:
        if epochs_per_shift < 1:
            raise ValueError(f"epochs_per_shift must be at least 1, got {epochs_per_shift}; set a positive number")
        self.epochs_per_shift = epochs_per_shift

    def weights(self, epoch: int, snr_index: Tensor, n_snrs: int) -> Tensor:
        """Weight of every sample in this epoch.

        Args:
            epoch: from 0.
            snr_index: (n,) int64, 0 = lowest SNR.
            n_snrs: S.

        Returns:
            (n,) float32, to draw with replacement by.
        """
        ahead = (torch.arange(n_snrs - 1, -1, -1) - epoch // self.epochs_per_shift).clamp(min=0)  # (S,)
        by_level = torch.where(ahead <= REACH, 0.5**ahead, FLOOR)  # (S,)
        return by_level[snr_index]
