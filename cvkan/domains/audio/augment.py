"""Changes of a waveform that do not change the word, drawn anew for every clip of a training batch.

Legend: B clips, T samples.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvkan.errors import UserError
from cvkan.spec import Batch


class WaveformAugment(nn.Module):
    """Random shift in time, loudness and added noise; draws from torch's global generator.

    Args:
        duration_s: duration of a clip, s; turns ``max_shift_s`` into samples.
        max_shift_s: clips are moved by up to this much either way, s; zeros come in.
        max_gain_db: loudness changes by up to this much either way, dB.
        noise_probability: share of the clips that get noise, half of them white, half pink.
        noise_snr_db: range of the ratio of clip to noise, dB; a silent clip gets none.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        *,
        duration_s: float,
        max_shift_s: float,
        max_gain_db: float,
        noise_probability: float,
        noise_snr_db: tuple[float, float],
    ) -> None:
        super().__init__()
        if not 0 <= max_shift_s < duration_s:
            raise UserError(
                f"max_shift_s must be 0 or more and below duration_s = {duration_s}, got {max_shift_s}",
                "data.augment.max_shift_s",
                "Shorten it.",
            )
        if max_gain_db < 0:
            raise UserError(
                f"max_gain_db must not be negative, got {max_gain_db}",
                "data.augment.max_gain_db",
                "Set 0 or more.",
            )
        if not 0 <= noise_probability <= 1:
            raise UserError(
                f"noise_probability must be in [0, 1], got {noise_probability}",
                "data.augment.noise_probability",
                "Correct it.",
            )
        if len(noise_snr_db) != 2 or noise_snr_db[0] > noise_snr_db[1]:
            raise UserError(
                f"noise_snr_db must be [low, high], got {list(noise_snr_db)}",
                "data.augment.noise_snr_db",
                "Give two numbers.",
            )
        self.max_shift = max_shift_s / duration_s
        self.max_gain_db, self.noise_probability = max_gain_db, noise_probability
        self.noise_snr_db = (float(noise_snr_db[0]), float(noise_snr_db[1]))

    def forward(self, batch: Batch) -> Batch:
        """Change ``x`` (B, T) of a batch; the other entries pass."""
        x = batch["x"]
        x = self.shift(x)
        x = x * 10 ** (_uniform(x, -self.max_gain_db, self.max_gain_db) / 20)
        return {**batch, "x": self.add_noise(x)}

    def shift(self, x: Tensor) -> Tensor:
        """Move each clip by its own number of samples, (B, T) to (B, T)."""
        limit = round(self.max_shift * x.shape[1])
        offset = torch.randint(-limit, limit + 1, (len(x), 1), device=x.device)
        source = torch.arange(x.shape[1], device=x.device) - offset  # (B, T)
        inside = (source >= 0) & (source < x.shape[1])
        return x.gather(1, source.clamp(0, x.shape[1] - 1)) * inside

    def add_noise(self, x: Tensor) -> Tensor:
        """Add white or pink noise to some of the clips, (B, T) to (B, T)."""
        noise = torch.randn_like(x)
        spectrum = torch.fft.rfft(noise)
        tilt = torch.arange(spectrum.shape[1], device=x.device).clamp_min(1).rsqrt()  # pink: power falls as 1/f
        pink = torch.fft.irfft(spectrum * tilt, x.shape[1])  # (B, T)
        noise = torch.where(torch.rand_like(x[:, :1]) < 0.5, noise, pink)
        power = x.square().mean(1, keepdim=True) * 10 ** (-_uniform(x, *self.noise_snr_db) / 10)
        scale = (power / noise.square().mean(1, keepdim=True)).sqrt()
        chosen = torch.rand_like(x[:, :1]) < self.noise_probability
        return x + noise * scale * chosen


def _uniform(x: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand_like(x[:, :1])  # (B, 1)
