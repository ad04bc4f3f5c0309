"""Waveforms against sums written out symbol by symbol in float64, and against what pulses promise."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import integrate, special
from torch import Tensor

from cvkan.radio import analog
from cvkan.radio.random import FrameRandom
from cvkan.radio.waveform import GMSK_SPAN, gmsk_frames, linear_frames, n_symbols, root_raised_cosine

SPS = 8


def textbook_pulse(t: np.ndarray, b: float) -> np.ndarray:
    """The root raised cosine as it stands in books; not defined at t = 0 and 4 b |t| = 1."""
    x = 4 * b * t
    return (np.sin(np.pi * t * (1 - b)) + x * np.cos(np.pi * t * (1 + b))) / (np.pi * t * (1 - x * x))


def pulse(t: np.ndarray, b: float) -> np.ndarray:
    return root_raised_cosine(torch.from_numpy(t).float(), torch.tensor(b)).double().numpy()


@pytest.mark.parametrize("b", [0.0, 0.1, 0.25, 0.4, 1.0])
def test_pulse_is_the_textbook_formula(b: float) -> None:
    t = np.linspace(-12, 12, 4001) + 0.00123
    np.testing.assert_allclose(pulse(t, b), textbook_pulse(t.astype(np.float32).astype(float), b), atol=2e-6)


@pytest.mark.parametrize("b", [0.1, 0.25, 0.4, 1.0])
def test_pulse_has_its_limits_where_the_formula_is_0_over_0(b: float) -> None:
    at_zero = 1 - b + 4 * b / np.pi
    angle = np.pi / (4 * b)
    at_pole = b / np.sqrt(2) * ((1 + 2 / np.pi) * np.sin(angle) + (1 - 2 / np.pi) * np.cos(angle))
    for offset in (0.0, 1e-7, 1e-5, 1e-4):  # beside the gaps, float32 must not lose its digits either
        t = np.array([-offset, offset, 1 / (4 * b) - offset, -1 / (4 * b) + offset])
        np.testing.assert_allclose(pulse(t, b), [at_zero, at_zero, at_pole, at_pole], atol=2e-6 + 3 * offset)


@pytest.mark.parametrize("b", [0.1, 0.4, 1.0])
def test_matched_filtered_pulse_has_unit_energy_and_no_intersymbol_interference(b: float) -> None:
    t = np.arange(-400 * SPS, 400 * SPS + 1) / SPS
    g = pulse(t, b)
    energy = [g[k * SPS :] @ g[: len(g) - k * SPS] / SPS for k in range(9)]
    np.testing.assert_allclose(energy, [1] + [0] * 8, atol=1e-4)


def draw(n_frames: int, k: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Symbols (B, k), roll-offs and timings (B,)."""
    random = FrameRandom(seed, torch.arange(n_frames))
    symbols = random.complex_normal("a", k)
    return symbols, 0.1 + 0.3 * random.uniform("b"), random.uniform("c")


@pytest.mark.parametrize(("n", "sps", "span"), [(96, 8, 8), (50, 8, 3), (41, 2, 5), (37, 5, 1)])
def test_linear_frames_are_the_sum_over_symbols(n: int, sps: int, span: int) -> None:
    symbols, rolloff, timing = draw(4, n_symbols(n, sps, span))
    rail_delay = torch.tensor([0.0, 0.5, 0.0, 0.5])
    timing[0] = 0.0
    frames = linear_frames(symbols, rolloff, timing, rail_delay, n_samples=n, samples_per_symbol=sps, span=span).numpy()
    assert frames.shape == (4, n)
    for frame, a, b, start, delay in zip(frames, symbols.numpy(), rolloff, timing, rail_delay, strict=True):
        t = np.arange(n)[:, None] / sps + float(start) - (np.arange(len(a)) - span)
        for part, rail, late in ((frame.real, a.real, 0.0), (frame.imag, a.imag, float(delay))):
            taps = pulse(t - late, float(b)) * (np.abs(t - late) <= span)
            np.testing.assert_allclose(part, taps @ rail, atol=3e-5)


def test_first_and_last_samples_are_no_transients() -> None:
    symbols, rolloff, timing = draw(2000, n_symbols(64, SPS, 8))
    x = linear_frames(symbols, rolloff, timing, torch.zeros(2000), n_samples=64, samples_per_symbol=SPS, span=8)
    power = x.abs().square().mean(dim=0)  # (n,); its standard error is 1/sqrt(2000)
    assert (power - 1).abs().max() < 5 / 2000**0.5
    assert abs(power.mean() - 1) < 0.015


@pytest.mark.parametrize("b", [0.1, 0.35])
def test_spectrum_ends_at_half_the_symbol_rate_times_one_plus_rolloff(b: float) -> None:
    n, span, frames = 4096, 32, 8
    symbols, _, timing = draw(frames, n_symbols(n, SPS, span))
    x = linear_frames(
        symbols, torch.full((frames,), b), timing, torch.zeros(frames), n_samples=n, samples_per_symbol=SPS, span=span
    )
    density = torch.fft.fft(x * torch.blackman_window(n)).abs().square().mean(dim=0)
    frequency = torch.fft.fftfreq(n).abs() * SPS  # in symbol rates
    outside = frequency > (1 + b) / 2 + 0.01
    assert density[outside].sum() / density.sum() < 1e-4
    assert density[(frequency > 0.5 * (1 + b) - 0.1) & ~outside].sum() / density.sum() > 1e-3


def test_gmsk_phase_is_the_integral_of_gaussian_filtered_bits() -> None:
    n, sps = 80, 8
    k = n_symbols(n, sps, GMSK_SPAN)
    bits = 2.0 * (torch.arange(3)[:, None] * 7 + torch.arange(k).square() % 11).remainder(2) - 1
    timing = torch.tensor([0.0, 0.3, 0.9])
    x = gmsk_frames(bits, timing, n_samples=n, samples_per_symbol=sps)
    torch.testing.assert_close(x.abs(), torch.ones(3, n))
    fine = 64  # steps a symbol of the reference
    t = np.arange(-(GMSK_SPAN + 5) * fine, (k + 5) * fine) / fine
    c = 2 * np.pi * 0.3 / np.sqrt(np.log(2))
    for frame, a, start in zip(x, bits.numpy(), timing, strict=True):
        shift = t[:, None] - (np.arange(k) - GMSK_SPAN)
        frequency = (special.ndtr(c * (shift + 0.5)) - special.ndtr(c * (shift - 0.5))) @ a / 4  # turns a symbol
        turns = integrate.cumulative_trapezoid(frequency, t, initial=0)
        expected = np.exp(2j * np.pi * np.interp(np.arange(n) / sps + float(start), t, turns))
        np.testing.assert_allclose(frame.numpy(), expected, atol=3e-3)


def test_gmsk_does_not_lose_its_phase_over_a_long_frame() -> None:
    n = 40_000
    bits = torch.ones(1, n_symbols(n, SPS, GMSK_SPAN))
    x = gmsk_frames(bits, torch.zeros(1), n_samples=n, samples_per_symbol=SPS)[0]
    turn = x[1:] * x[:-1].conj()
    torch.testing.assert_close(turn, torch.full_like(turn, np.exp(0.5j * np.pi / SPS)), atol=1e-5, rtol=0)


N_FRAMES, N = 300, 1000


def message(seed: int = 0) -> Tensor:
    random = FrameRandom(seed, torch.arange(N_FRAMES))
    return analog.analytic_message(random, n_samples=N, samples_per_symbol=SPS)


def spectrum(x: Tensor) -> tuple[Tensor, Tensor]:
    """Frequencies in cycles a sample and the mean power density, of sum 1."""
    density = torch.fft.fft(x * torch.blackman_window(x.shape[1])).abs().square().mean(dim=0)
    return torch.fft.fftfreq(x.shape[1]), density / density.sum()


def test_message_fills_its_band_and_no_negative_frequency() -> None:
    frequency, density = spectrum(message())
    highest = 1 / (2 * SPS)
    inside = (frequency > 0.1 * highest - 0.004) & (frequency < highest + 0.004)
    assert density[inside].sum() > 0.99999
    flat = density[(frequency > 0.2 * highest) & (frequency < 0.9 * highest)]
    assert flat.max() / flat.min() < 1.6  # 300 frames: 6 % a bin


def test_message_is_new_in_every_frame_and_stationary() -> None:
    m = message().real
    power = m.square().mean(dim=0)
    assert (power - 1).abs().max() < 6 * math.sqrt(2 / N_FRAMES)
    assert abs(power.mean() - 1) < 0.02
    assert abs((m[:-1] * m[1:]).mean()) < 0.02


@pytest.mark.parametrize("name", analog.modulators(SPS))
def test_analog_classes_have_mean_power_1(name: str) -> None:
    x = analog.modulators(SPS)[name](message())
    assert x.dtype == torch.complex64
    assert abs(x.abs().square().mean() - 1) < 0.02


def test_sidebands_and_carriers_are_where_they_belong() -> None:
    make = analog.modulators(SPS)
    share = {}
    for name, modulate in make.items():
        frequency, density = spectrum(modulate(message()))
        carrier = frequency.abs() < 3.5 / N
        share[name] = [float(density[part].sum()) for part in (~carrier & (frequency > 0), ~carrier & (frequency < 0))]
        share[name].append(float(density[carrier].sum()))
    k2 = analog.AM_INDEX**2
    expected = {
        "AM-SSB-SC": [1, 0, 0],
        "AM-SSB-WC": [2 * k2 / (1 + 2 * k2), 0, 1 / (1 + 2 * k2)],
        "AM-DSB-SC": [0.5, 0.5, 0],
        "AM-DSB-WC": [k2 / (1 + k2) / 2, k2 / (1 + k2) / 2, 1 / (1 + k2)],
    }
    for name, parts in expected.items():
        np.testing.assert_allclose(share[name], parts, atol=0.02, err_msg=name)


def test_fm_has_constant_magnitude_and_the_message_as_its_frequency() -> None:
    m = message()
    x = partial(analog.fm, samples_per_symbol=SPS)(m)
    torch.testing.assert_close(x.abs(), torch.ones(N_FRAMES, N))
    turns = (x[:, 1:] * x[:, :-1].conj()).angle() / (2 * math.pi)
    torch.testing.assert_close(turns, analog.FM_DEVIATION / (2 * SPS) * m.real[:, 1:], atol=1e-5, rtol=0)
    frequency, density = spectrum(x)
    assert density[frequency.abs() < 1.25 / SPS].sum() > 0.99
