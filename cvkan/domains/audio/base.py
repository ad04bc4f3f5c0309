"""What every audio source shares: the summary for the linear baseline.

Legend: B clips, T samples, S frames, F frequency bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cvkan.domains.datamodule import DataModule
from cvkan.spec import Batch

WINDOW = 256  # samples


class AudioData(DataModule):
    """Base of the audio sources: ``x`` (B, T) float32, one waveform a clip."""

    def summary(self, batch: Batch) -> Tensor:
        """Mean over time of the log power spectrum, windows of 256 samples (shorter clips end in zeros): (B, 129)."""
        x = batch["x"]
        x = torch.nn.functional.pad(x, (0, max(0, WINDOW - x.shape[1])))
        frames = x.unfold(1, WINDOW, WINDOW // 2) * torch.hann_window(WINDOW, device=x.device)  # (B, S, 256)
        return torch.log(torch.fft.rfft(frames).abs().square() + 1e-6).mean(dim=1)  # (B, F)
