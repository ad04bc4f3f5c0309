"""The channel part by part: closed forms for tones, moments and distributions for what is random."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from cvkan.radio import channel
from cvkan.radio.channel import Fading, Multipath
from cvkan.radio.random import FrameRandom

N_FRAMES = 20_000


def frames(n_frames: int = N_FRAMES, seed: int = 0) -> FrameRandom:
    return FrameRandom(seed, torch.arange(n_frames))


def tone(frequency: float, places: Tensor) -> Tensor:
    """exp(j 2 pi f t), computed in float64."""
    return torch.polar(torch.ones(places.shape, dtype=torch.float64), 2 * math.pi * frequency * places.double()).to(
        torch.complex64
    )


@pytest.mark.parametrize("k_factor", [0.0, 1.0, 4.0])
def test_fading_has_unit_mean_power_and_the_magnitude_of_rice(k_factor: float) -> None:
    h = Fading(k_factor).gains(frames())
    assert h.shape == (N_FRAMES, 1)
    power_std = math.sqrt(1 + 2 * k_factor) / (1 + k_factor)
    assert abs(h.abs().square().mean() - 1) < 4 * power_std / N_FRAMES**0.5
    assert abs(h.mean()) < 4 / N_FRAMES**0.5
    scale = math.sqrt(0.5 / (k_factor + 1))
    rice = stats.rice(math.sqrt(2 * k_factor), scale=scale)
    assert stats.kstest(h.abs().flatten().double().numpy(), rice.cdf).pvalue > 1e-3
    assert stats.kstest(h.angle().flatten().numpy() / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3


def test_paths_fade_independently_and_share_a_mean_power_of_1() -> None:
    multipath = Multipath([0.0, 2.0, 5.0], [1.0, 0.8, 0.3], 4.0)
    gains = channel.rician_gains(4.0, frames(), "multipath", 3)
    covariance = (gains.T @ gains.conj()) / N_FRAMES
    torch.testing.assert_close(covariance, torch.eye(3, dtype=torch.complex64), atol=0.03, rtol=0)
    x = frames(seed=1).complex_normal("x", 32 + sum(multipath.margins))
    assert abs(multipath.apply(x, frames()).abs().square().mean() - 1) < 0.02


def test_whole_delays_are_shifts() -> None:
    multipath = Multipath([0.0, 3.0], [2.0, 1.0], 0.0)
    before, after = multipath.margins
    x = frames(5, seed=1).complex_normal("x", before + 100 + after)
    h = channel.rician_gains(0.0, frames(5), "multipath", 2) * torch.tensor([2.0, 1.0]) / math.sqrt(5)
    expected = h[:, :1] * x[:, before : before + 100] + h[:, 1:] * x[:, before - 3 : before + 97]
    torch.testing.assert_close(multipath.apply(x, frames(5)), expected)


@pytest.mark.parametrize("frequency", [0.0, 0.08, -0.2])
def test_fractional_delays_turn_a_tone_by_their_part_of_its_period(frequency: float) -> None:
    multipath = Multipath([0.9, 1.7], [1.0, 1.0], 0.0)
    before, after = multipath.margins
    x = tone(frequency, torch.arange(-before, 100 + after)).expand(5, -1)
    h = channel.rician_gains(0.0, frames(5), "multipath", 2) / math.sqrt(2)
    turns = tone(-frequency, torch.tensor([0.9, 1.7]))
    expected = (h @ turns)[:, None] * tone(frequency, torch.arange(100))
    torch.testing.assert_close(multipath.apply(x, frames(5)), expected, atol=5e-3, rtol=0)


def test_resampling_without_offset_is_the_identity() -> None:
    x = frames(3).complex_normal("x", 60)
    assert torch.equal(channel.resample(x, torch.zeros(3), 5), x[:, 5:-5])


@pytest.mark.parametrize(("frequency", "error_db"), [(0.02, -75), (0.05, -60), (0.1, -46)])
def test_resampling_reads_a_tone_where_the_wrong_clock_does(frequency: float, error_db: float) -> None:
    n, margin = 1001, 12
    offset = torch.tensor([1e-2, -1e-2, 3e-4, -1e-5])
    x = tone(frequency, torch.arange(-margin, n + margin)).expand(4, -1)
    middle = (n - 1) / 2
    places = middle + (1 + offset.double()[:, None]) * (torch.arange(n) - middle)
    error = channel.resample(x, offset, margin) - tone(frequency, places)
    assert 20 * error.abs().max().log10() < error_db


def test_carrier_turns_by_its_frequency_every_sample() -> None:
    frequency = torch.tensor([0.0, 0.01, -0.3, 1e-5])
    expected = torch.stack([tone(float(f), torch.arange(2000)) for f in frequency])
    torch.testing.assert_close(channel.carrier_turn(frequency, 2000), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("samples_per_energy", "snr_db"), [(1, -10.0), (8, 3.0), (8, 30.0)])
def test_noise_is_set_from_the_measured_power_of_each_frame(samples_per_energy: int, snr_db: float) -> None:
    n = 200_000
    x = torch.stack([tone(0.01, torch.arange(n)), 5 * tone(0.2, torch.arange(n))])
    y = channel.add_noise(x, torch.full((2,), snr_db), frames(2).complex_normal("noise", n), samples_per_energy)
    measured = (y - x).abs().square().mean(dim=1)
    expected = torch.tensor([1.0, 25.0]) * samples_per_energy / 10 ** (snr_db / 10)
    torch.testing.assert_close(measured, expected, rtol=5 / n**0.5, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fading(-0.1), "k_factor"),
        (lambda: Fading(math.nan), "k_factor"),
        (lambda: Multipath([], [], 0.0), "one of each a path"),
        (lambda: Multipath([0.0, 1.0], [1.0], 0.0), "one of each a path"),
        (lambda: Multipath([-1.0], [1.0], 0.0), "delays"),
        (lambda: Multipath([0.0], [0.0], 0.0), "magnitudes"),
        (lambda: Multipath([0.0], [1.0], math.inf), "k_factor"),
        (lambda: Fading("much"), "k_factor"),
        (lambda: Multipath(0.9, [1.0], 0.0), "delays .* list"),
        (lambda: Multipath([0.0], "1", 0.0), "magnitudes .* list"),
        (lambda: Multipath([0.0, "late"], [1.0, 1.0], 0.0), "delays"),
        (lambda: Multipath([1e9], [1.0], 0.0), "0 to 1024"),
    ],
)
def test_impossible_channels_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
