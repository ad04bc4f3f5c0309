from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from cvkan.radio import likelihood
from cvkan.radio.bayes import BayesAccuracy, bayes_accuracy
from cvkan.radio.constellations import DEFAULT_CLASSES, constellation
from cvkan.radio.likelihood import SETTINGS, FrameStatistics, Mixture, Setting, draw_statistics, log_likelihoods

ROLLOFF = 0.25
SHORT = Setting(16, 4, "es_n0")
NOISE_ONLY_DB, CLEAN_DB = -60.0, 80.0


@pytest.fixture
def fixed_rolloff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "ROLLOFF", (ROLLOFF, ROLLOFF))


def pulses(setting: Setting, delay: float) -> np.ndarray:
    """Root raised cosines of a circular frame, from their spectrum: (n, N), column k at k + ``delay`` symbols."""
    n, f = setting.n_samples, np.fft.fftfreq(setting.n_samples, d=1 / setting.samples_per_symbol)  # cycles a symbol
    rolled = np.clip((np.abs(f) - (1 - ROLLOFF) / 2) / ROLLOFF, 0, 1)
    spectrum = np.sqrt((1 + np.cos(np.pi * rolled)) / 2)  # (n,)
    shifts = np.exp(-2j * np.pi * f[:, None] * (np.arange(setting.n_symbols) + delay))  # (n, N)
    return np.fft.ifft(spectrum[:, None] * shifts, axis=0).real * math.sqrt(n / setting.n_symbols)


def draw(names: list[str], repeats: int, setting: Setting, snr_db: float, seed: int = 0) -> FrameStatistics:
    mixtures = [Mixture.of(name) for name in names]
    return draw_statistics(mixtures, repeats, setting, snr_db, torch.Generator().manual_seed(seed))


def total_variation(difference: Callable[..., float], *limits: float) -> float:
    """Half the integral of |p - q| over a line or, with four limits, a rectangle."""
    if len(limits) == 2:
        return integrate.quad(lambda r: abs(difference(r)), *limits, limit=400)[0] / 2
    x, y = np.linspace(*limits[:2], 1201), np.linspace(*limits[2:], 1201)
    values = np.abs(difference(x[:, None], y[None, :]))
    return integrate.simpson(integrate.simpson(values, x=y), x=x) / 2


def assert_close_to(accuracy: torch.Tensor, expected: float, result: BayesAccuracy) -> None:
    assert abs(accuracy.item() - expected) < 4 * math.sqrt(expected * (1 - expected) / result.n_frames)


def test_pulses_of_the_reference_are_orthonormal_on_either_rail() -> None:
    for delay in (0.0, 0.5):
        g = pulses(SHORT, delay)
        np.testing.assert_allclose(g.T @ g, np.eye(SHORT.n_symbols), atol=1e-12)


@pytest.mark.usefixtures("fixed_rolloff")
def test_projections_half_a_symbol_off_are_those_of_the_waveform() -> None:
    on_time, late = pulses(SHORT, 0.0), pulses(SHORT, 0.5)
    qpsk, oqpsk = (draw([name], 5, SHORT, CLEAN_DB) for name in ("QPSK", "OQPSK"))
    np.testing.assert_allclose(qpsk.late, qpsk.quadrature.numpy() @ (late.T @ on_time).T, atol=2e-3)
    np.testing.assert_allclose(oqpsk.quadrature, oqpsk.late.numpy() @ (on_time.T @ late).T, atol=2e-3)


@pytest.mark.usefixtures("fixed_rolloff")
@pytest.mark.parametrize("name", ["QPSK", "OQPSK"])
def test_noise_of_both_projections_has_the_covariance_of_the_pulses(name: str) -> None:
    n = SHORT.n_symbols
    frames = draw([name], 20_000, SHORT, NOISE_ONLY_DB)
    both = torch.cat([frames.quadrature, frames.late], dim=1).numpy()  # (B, 2 N)
    g = np.concatenate([pulses(SHORT, 0.0), pulses(SHORT, 0.5)], axis=1)  # (n, 2 N)
    variance = SHORT.amplitude_and_noise(NOISE_ONLY_DB)[1] / 2
    np.testing.assert_allclose(both.T @ both / len(both), variance * g.T @ g, atol=6 * variance / math.sqrt(len(both)))
    assert abs((g.T @ g)[:n, n:]).max() > 0.5  # what is compared is no zero matrix


@pytest.mark.parametrize("name", ["64QAM", "OQPSK"])
def test_energy_without_the_projections_is_chi_squared(name: str) -> None:
    frames = draw([name], 4000, SHORT, 10.0)
    quadrature = frames.late if name == "OQPSK" else frames.quadrature
    rest = frames.energy - (frames.in_phase.double() ** 2 + quadrature.double() ** 2).sum(dim=1)
    variance = SHORT.amplitude_and_noise(10.0)[1] / 2
    dimensions = 2 * (SHORT.n_samples - SHORT.n_symbols)
    assert stats.kstest(rest.numpy() / variance, stats.chi2(dimensions).cdf).pvalue > 1e-3


@pytest.mark.parametrize("setting", [SHORT, Setting(64, 1, "es_n0"), Setting(16, 4, "sample")])
def test_frames_have_unit_power_and_the_snr_of_their_label(setting: Setting) -> None:
    frames = draw(list(DEFAULT_CLASSES), 200, setting, 3.0)
    assert frames.energy.mean().item() == pytest.approx(setting.n_samples, rel=0.02)
    amplitude, noise_power = setting.amplitude_and_noise(3.0)
    gain = {"es_n0": 1, "sample": setting.samples_per_symbol}[setting.snr_definition]
    assert amplitude**2 / noise_power == pytest.approx(gain * 10**0.3)


def summed_over_points(frames: FrameStatistics, name: str, setting: Setting, snr_db: float) -> np.ndarray:
    """log p(frame | class, SNR), (B,), by the equation, point by point and in float64."""
    rail = frames.late if name == "OQPSK" else frames.quadrature
    r = frames.in_phase.numpy().astype(float) + 1j * rail.numpy().astype(float)  # (B, N)
    amplitude, noise_power = setting.amplitude_and_noise(snr_db)
    points = constellation(name).numpy()
    squares = np.abs(r[..., None] - amplitude * points) ** 2  # (B, N, M)
    symbols = special.logsumexp(-squares / noise_power, axis=-1) - math.log(len(points))
    rest = frames.energy.numpy() - (np.abs(r) ** 2).sum(axis=1)
    return symbols.sum(axis=1) - rest / noise_power - setting.n_samples * math.log(noise_power)


@pytest.mark.parametrize("snr_db", [-10.0, 8.0, 20.0])
def test_likelihood_equals_a_sum_over_all_points(snr_db: float) -> None:
    setting, classes, levels = Setting(32, 4, "es_n0"), ("OOK", *DEFAULT_CLASSES), [snr_db - 6, snr_db, snr_db + 6]
    frames = draw(["16QAM", "OQPSK", "32PSK", "128APSK"], 3, setting, snr_db)
    table = log_likelihoods(frames, [Mixture.of(name) for name in classes], levels, setting).numpy()  # (B, C, H)
    rows = [[summed_over_points(frames, name, setting, level) for level in levels] for name in classes]
    expected = np.moveaxis(np.array(rows), -1, 0)  # (B, C, H)
    best = expected.max(axis=(1, 2), keepdims=True)
    # What float32 cannot hold only has to stay refuted.
    held = expected > best - 80
    assert held.sum() > len(held)
    np.testing.assert_allclose(table[held], expected[held], rtol=1e-5, atol=5e-3)
    assert ((table < best - 30) | held).all()


@pytest.mark.parametrize("samples_per_symbol", [1, 8])
def test_two_amplitude_classes_reach_the_integral_of_their_densities(samples_per_symbol: int) -> None:
    """One symbol of known SNR: accuracy = (1 + TV) / 2. Samples without signal tell nothing then."""
    setting, sigma = Setting(1, samples_per_symbol, "es_n0"), math.sqrt(10**-0.5 / 2)

    def difference(r: float) -> float:
        bpsk = (stats.norm.pdf(r, 1, sigma) + stats.norm.pdf(r, -1, sigma)) / 2
        on_off = (stats.norm.pdf(r, 0, sigma) + stats.norm.pdf(r, math.sqrt(2), sigma)) / 2
        return bpsk - on_off

    expected = (1 + total_variation(difference, -5, 5)) / 2
    result = bayes_accuracy(["BPSK", "OOK"], [5.0], setting=setting, n_frames=40_000, seed=1, snr_known=True)
    assert_close_to(result.modulation[0], expected, result)


@pytest.mark.parametrize("samples_per_symbol", [1, 4])
def test_two_levels_reach_the_integral_of_their_densities(samples_per_symbol: int) -> None:
    """One BPSK symbol of unknown SNR: the real part and the energy of all other dimensions are sufficient."""
    setting = Setting(1, samples_per_symbol, "es_n0")

    def density(snr_db: float, re: np.ndarray, root: np.ndarray) -> np.ndarray:
        amplitude, noise_power = setting.amplitude_and_noise(snr_db)
        sigma = math.sqrt(noise_power / 2)
        mixture = (stats.norm.pdf(re, amplitude, sigma) + stats.norm.pdf(re, -amplitude, sigma)) / 2
        return mixture * stats.chi.pdf(root, 2 * setting.n_samples - 1, scale=sigma)

    apart = total_variation(lambda re, root: density(0.0, re, root) - density(6.0, re, root), -8, 8, 0, 8)
    result = bayes_accuracy(["BPSK"], [0.0, 6.0], setting=setting, n_frames=20_000, seed=2, snr_known=False)
    both = result.snr.mean()
    assert_close_to(both, (1 + apart) / 2, result)
    torch.testing.assert_close(result.combined, result.snr)
    torch.testing.assert_close(result.modulation, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("snr_known", [True, False])
def test_distinct_classes_are_certain_without_noise_and_chance_without_signal(snr_known: bool) -> None:
    classes = ["BPSK", "QPSK", "8PSK", "16QAM", "OQPSK"]
    result = bayes_accuracy(
        classes, [-60.0, 25.0], setting=Setting(64, 8, "es_n0"), n_frames=2000, seed=3, snr_known=snr_known
    )
    assert result.modulation[1] == result.combined[1] == result.snr[1] == 1
    assert result.rmse_db[1] < 1e-3
    assert abs(result.modulation[0].item() - 1 / 5) < 4 * math.sqrt(0.2 * 0.8 / result.n_frames)


def test_the_sample_definition_shifts_the_label_by_9_db() -> None:
    shift = 10 * math.log10(8)
    levels = [-8.0, -2.0]
    kwargs = {"n_frames": 150, "seed": 4, "snr_known": False}
    per_sample = bayes_accuracy(["BPSK", "8PSK", "64QAM"], levels, setting="S8", **kwargs)
    per_symbol = bayes_accuracy(["BPSK", "8PSK", "64QAM"], [x + shift for x in levels], setting="E8", **kwargs)
    torch.testing.assert_close(per_sample.modulation, per_symbol.modulation)
    torch.testing.assert_close(per_sample.combined, per_symbol.combined)


def test_a_seed_repeats_and_another_one_does_not() -> None:
    first, again, other = (
        bayes_accuracy(["QPSK", "8PSK"], [0.0, 4.0], setting="E8", n_frames=101, seed=seed, snr_known=False)
        for seed in (5, 5, 6)
    )
    assert first.n_frames == 102  # 51 of each class
    assert torch.equal(first.rmse_db, again.rmse_db)
    assert not torch.equal(first.rmse_db, other.rmse_db)


def test_standard_error_is_that_of_a_share() -> None:
    result = bayes_accuracy(["QPSK"], [0.0], setting="E8", n_frames=4, seed=0, snr_known=True)
    assert result.standard_error(torch.tensor([0.2])).item() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": []}, "at least one"),
        ({"classes": ["BPSK", "BPSK"]}, "each of them once"),
        ({"classes": ["FM"]}, "FM has no constellation"),
        ({"snr_db": []}, "at least one level"),
        ({"snr_db": [2.0, 0.0]}, "ascending"),
        ({"n_frames": 0}, "draw at least 1"),
        ({"setting": "E4"}, "choose N1, E8, S8"),
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, object], message: str) -> None:
    arguments = {"classes": ["BPSK"], "snr_db": [0.0], "setting": "E8", "n_frames": 1, "seed": 0, "snr_known": True}
    with pytest.raises(ValueError, match=message):
        bayes_accuracy(**(arguments | change))


@pytest.mark.parametrize(("values", "message"), [((0, 8, "es_n0"), "too short"), ((128, 8, "peak"), "es_n0 or sample")])
def test_impossible_settings_are_refused(values: tuple[int, int, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Setting(*values)


def test_named_settings_have_frames_of_1024_samples() -> None:
    assert {name: setting.n_samples for name, setting in SETTINGS.items()} == {"N1": 1024, "E8": 1024, "S8": 1024}
