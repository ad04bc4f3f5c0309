"""Waveform augmentation: what may change, by how much, for each clip on its own."""

from __future__ import annotations

import pytest
import torch

from cvkan.domains.audio.augment import WaveformAugment
from cvkan.errors import UserError

NOTHING = {
    "duration_s": 1.0,
    "max_shift_s": 0.0,
    "max_gain_db": 0.0,
    "noise_probability": 0.0,
    "noise_snr_db": [0, 20],
}


def augment(**changes) -> WaveformAugment:
    torch.manual_seed(0)
    return WaveformAugment(**{**NOTHING, **changes})


def test_shift_moves_each_clip_by_its_own_offset_and_fills_zeros() -> None:
    x = torch.arange(1.0, 1001).repeat(300, 1)
    shifted = augment(max_shift_s=0.1).shift(x)
    first = shifted.argmax(1) - 999  # offset to the left, 0 where moved right
    offsets = torch.where(first < 0, first, (shifted == 0).sum(1))
    for row, offset in zip(shifted, offsets.tolist(), strict=True):
        expected = torch.zeros(1000)
        if offset >= 0:
            expected[offset:] = x[0, : 1000 - offset]
        else:
            expected[:offset] = x[0, -offset:]
        assert torch.equal(row, expected)
    assert offsets.min() < -90
    assert offsets.max() > 90
    assert offsets.abs().max() <= 100


def test_gain_stays_in_range_and_differs_between_clips() -> None:
    out = augment(max_gain_db=6.0)({"x": torch.ones(500, 4)})["x"]
    gain_db = 20 * out[:, 0].log10()
    assert torch.equal(out, out[:, :1].expand(-1, 4))
    assert -6 <= gain_db.min() < -5.5
    assert 5.5 < gain_db.max() <= 6


def test_noise_has_the_wanted_share_level_and_colours() -> None:
    x = torch.sin(torch.arange(4000) * 0.3).repeat(400, 1)
    noise = augment(noise_probability=0.75, noise_snr_db=[10, 10]).add_noise(x) - x
    touched = noise.abs().amax(1) > 0
    assert touched.float().mean() == pytest.approx(0.75, abs=0.08)
    snr_db = 10 * (x.square().mean(1) / noise.square().mean(1)).log10()[touched]
    torch.testing.assert_close(snr_db, torch.full_like(snr_db, 10.0), atol=0.05, rtol=0)
    power = torch.fft.rfft(noise[touched]).abs().square()
    low_share = power[:, 1:200].sum(1) / power.sum(1)  # white: a tenth of the band; pink: most of it
    pink = low_share > 0.3
    assert pink.float().mean() == pytest.approx(0.5, abs=0.1)
    assert low_share[~pink].mean() == pytest.approx(0.1, abs=0.02)


def test_silence_stays_silent_and_labels_pass() -> None:
    batch = {"x": torch.zeros(8, 1000), "y": torch.arange(8)}
    out = augment(max_shift_s=0.1, max_gain_db=6.0, noise_probability=1.0)(batch)
    assert torch.equal(out["x"], batch["x"])
    assert out["y"] is batch["y"]


def test_all_off_is_the_identity() -> None:
    x = torch.randn(4, 1000)
    assert torch.equal(augment()({"x": x})["x"], x)


@pytest.mark.parametrize(
    "change",
    [{"max_shift_s": 1.0}, {"max_gain_db": -1.0}, {"noise_probability": 1.5}, {"noise_snr_db": [20, 0]}],
)
def test_values_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        augment(**change)
