"""The features of the linear baseline."""

from __future__ import annotations

import torch

from cvkan.domains.audio.base import AudioData


def audio() -> AudioData:
    return AudioData(batch_size=1, num_workers=0, seed=0, limit_train=None)


def test_summary_of_a_tone_peaks_at_its_frequency() -> None:
    time = torch.arange(1000) / 256  # bin k = k cycles a window
    summary = audio().summary({"x": torch.sin(2 * torch.pi * torch.tensor([[20.0], [90.0]]) * time)})
    assert summary.shape == (2, 129)
    assert summary.argmax(1).tolist() == [20, 90]


def test_clip_shorter_than_a_window_counts_as_ending_in_zeros() -> None:
    x = torch.randn(3, 100, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (0, 156))
    assert torch.equal(audio().summary({"x": x}), audio().summary({"x": padded}))
    assert audio().summary({"x": x}).shape == (3, 129)
