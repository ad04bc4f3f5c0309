"""What every audio source shares: the summary for the linear baseline.

Legend: B clips, T samples, S frames, F frequency bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cvkan.domains.datamodule import Batch, DataModule


class AudioData(DataModule):
    """Base of the audio sources: ``x`` (B, T) float32, one waveform a clip."""

    def summary(self, batch: Batch) -> Tensor:
        """Mean over time of the log power spectrum, windows of 256 samples: (B, 129)."""
        frames = batch["x"].unfold(1, 256, 128) * torch.hann_window(256)  # (B, S, 256)
        return torch.log(torch.fft.rfft(frames).abs().square() + 1e-6).mean(dim=1)  # (B, F)
