"""What a frame of a linear modulation tells about its class and SNR: sufficient statistics and their likelihood.

Phase, timing, pulse and roll-off are known, and white Gaussian noise is the only impairment. The pulse g is a root
raised cosine, whose shifts g_k by whole symbols are orthonormal. So a frame x tells no more than

    r_k = <x, g_k> = A a_k + n_k,   n_k ~ CN(0, N0),   and   |x|^2, the energy of all n samples,

where the n - N dimensions without signal tell the noise power. The Q rail of OQPSK stands on the shifts g_(k+1/2). Both
projections of that rail are drawn, from their exact joint distribution, and each class is judged by its own:

    log p(x | class, SNR) = -n log N0 - (|x|^2 - sum_k |r_k|^2) / N0 + sum_k log mean_a exp(-|r_k - A a|^2 / N0)

up to a term that all hypotheses share.

Legend: B frames, N symbols a frame, n samples a frame, F frequencies, C classes, H hypotheses of the SNR, M points of a
constellation, I and J distinct real and imaginary parts among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cvkan.radio.constellations import constellation

SNR_DEFINITIONS = ("es_n0", "sample")
ROLLOFF = (0.1, 0.4)  # drawn uniformly for each frame, as the generator's default is
# Least exponent of a rail. The product of two rails then is a normal float32: no logarithm of 0, and no subnormal
# numbers, which take processors ten times as long. Where it acts, a symbol refutes its hypothesis by 35 nats or more.
_LEAST = -40.0


@dataclass(frozen=True)
class Setting:
    """How long a frame is, and what its SNR label means.

    Attributes:
        n_symbols: N, at least 1.
        samples_per_symbol: at 1 there is no excess bandwidth: the pulse is a sinc, and OQPSK is told from QPSK by what
            its Q rail is between the samples.
        snr_definition: ``es_n0``: the label is Es/N0; ``sample``: it is the SNR of a sample, Es/N0 = label + 10 log10
            samples_per_symbol.

    Raises:
        ValueError: a value out of range.
    """

    n_symbols: int
    samples_per_symbol: int
    snr_definition: str

    def __post_init__(self) -> None:
        if self.n_symbols < 1 or self.samples_per_symbol < 1:
            raise ValueError(
                f"a frame of {self.n_symbols} symbols with {self.samples_per_symbol} samples each is too short; "
                "give at least 1 of each"
            )
        if self.snr_definition not in SNR_DEFINITIONS:
            raise ValueError(f"snr_definition is {self.snr_definition!r}; choose {' or '.join(SNR_DEFINITIONS)}")

    @property
    def n_samples(self) -> int:
        """Samples a frame."""
        return self.n_symbols * self.samples_per_symbol

    def symbol_snr(self, snr_db: float) -> float:
        """Es/N0 of a label in dB, linear."""
        samples = {"es_n0": 1, "sample": self.samples_per_symbol}[self.snr_definition]
        return samples * 10 ** (snr_db / 10)

    def amplitude_and_noise(self, snr_db: float) -> tuple[float, float]:
        """A and N0 of a frame whose expected power is 1 a sample: A^2 (N + n / (Es/N0)) = n, N0 = A^2 / (Es/N0)."""
        snr = self.symbol_snr(snr_db)
        energy = self.n_samples / (self.n_symbols + self.n_samples / snr)
        return math.sqrt(energy), energy / snr


SETTINGS = {
    "N1": Setting(1024, 1, "es_n0"),
    "E8": Setting(128, 8, "es_n0"),
    "S8": Setting(128, 8, "sample"),
}


class Mixture(NamedTuple):
    """A constellation as a grid: at (re_i, im_j) a point of probability ``weights[j, i]``, 0 where there is none.

    exp(-|r - a|^2) is a product over the two rails. So a mixture of M points costs I + J exponentials and a small
    matrix product: 32 in place of 256 for 256QAM.
    """

    points: Tensor  # (M,) complex64
    re: Tensor  # (I, 1)
    im: Tensor  # (J, 1)
    weights: Tensor  # (J, I)
    late: bool  # its Q rail comes half a symbol later

    @classmethod
    def of(cls, name: str) -> Mixture:
        points = constellation(name)
        digits = 9  # parts that differ by rounding alone are one
        re, i = torch.unique(points.real.round(decimals=digits), return_inverse=True)
        im, j = torch.unique(points.imag.round(decimals=digits), return_inverse=True)
        weights = torch.zeros(len(im), len(re))
        weights[j, i] = 1 / len(points)
        return cls(points.to(torch.complex64), re.float()[:, None], im.float()[:, None], weights, name == "OQPSK")


class FrameStatistics(NamedTuple):
    """Sufficient statistics of B frames."""

    in_phase: Tensor  # (B, N), projections of the I rail
    quadrature: Tensor  # (B, N), of the Q rail, at the instants of the I rail
    late: Tensor  # (B, N), of the Q rail, half a symbol later
    energy: Tensor  # (B,) float64, of all samples


def draw_statistics(
    mixtures: Sequence[Mixture], repeats: int, setting: Setting, snr_db: float, generator: torch.Generator
) -> FrameStatistics:
    """``repeats`` frames of each class, B = C repeats in all.

    Frames are circular. At a frequency of f cycles a symbol, the projections of the Q rail half a symbol later are
    rho(f) exp(j pi f) times those on time, with rho = 2 |G(f)|^2 - 1, plus sqrt(1 - rho^2) w. The noise w is what the
    second set of pulses sees and the first does not: rho is below 1 where the spectrum rolls off.

    Source: own derivation; a test compares it with projections of waveforms.
    """
    amplitude, noise_power = setting.amplitude_and_noise(snr_db)
    n_frames, n_symbols = len(mixtures) * repeats, setting.n_symbols

    def noise(*shape: int) -> Tensor:
        return math.sqrt(noise_power / 2) * torch.randn(*shape, generator=generator)

    symbols = torch.cat(
        [m.points[torch.randint(len(m.points), (repeats, n_symbols), generator=generator)] for m in mixtures]
    )  # (B, N) complex64
    in_phase = amplitude * symbols.real + noise(n_frames, n_symbols)
    own = amplitude * symbols.imag + noise(n_frames, n_symbols)  # (B, N), the Q rail at its own instants
    energy = _energy(in_phase) + _energy(own)  # (B,)
    frequency = torch.arange(n_symbols // 2 + 1) / n_symbols  # (F,), cycles a symbol
    is_late = torch.tensor([m.late for m in mixtures]).repeat_interleave(repeats)[:, None]  # (B, 1)
    shift = torch.exp(1j * math.pi * torch.where(is_late, -frequency, frequency))  # (B, F)
    spectrum = shift * torch.fft.rfft(own)  # (B, F)
    if setting.samples_per_symbol > 1:
        rolloff = ROLLOFF[0] + (ROLLOFF[1] - ROLLOFF[0]) * torch.rand(n_frames, 1, generator=generator)
        folded = math.pi * ((frequency - (1 - rolloff) / 2) / rolloff).clamp(0, 1)  # (B, F)
        unseen = noise(n_frames, n_symbols)  # w
        spectrum = folded.cos() * spectrum + folded.sin() * torch.fft.rfft(unseen)
        # Of 2n real dimensions, I rail, Q rail and w are N each.
        rest = noise(n_frames, 2 * setting.n_samples - 3 * n_symbols)
        energy = energy + _energy(unseen) + _energy(rest)
    other = torch.fft.irfft(spectrum, n=n_symbols)  # (B, N)
    return FrameStatistics(in_phase, torch.where(is_late, other, own), torch.where(is_late, own, other), energy)


def _energy(rail: Tensor) -> Tensor:
    """Sum of squares of each frame (B, N), in float64: at 30 dB what is left of a difference of two is the noise."""
    return rail.double().square().sum(dim=1)


def log_likelihoods(
    frames: FrameStatistics, mixtures: Sequence[Mixture], hypotheses: Sequence[float], setting: Setting
) -> Tensor:
    """log p(frame | class, SNR) of every pair, (B, C, H) float64; see the equation at the top."""
    without_q = frames.energy - _energy(frames.in_phase)
    rest = {False: without_q - _energy(frames.quadrature), True: without_q - _energy(frames.late)}
    rails = {False: frames.quadrature.reshape(-1), True: frames.late.reshape(-1)}  # (B N,)
    in_phase = frames.in_phase.reshape(-1)
    table = torch.empty(len(frames.energy), len(mixtures), len(hypotheses), dtype=torch.float64)
    for h, snr_db in enumerate(hypotheses):
        amplitude, noise_power = setting.amplitude_and_noise(snr_db)
        unit = math.sqrt(noise_power)
        for c, mixture in enumerate(mixtures):
            i_terms, i_nearest = _rail_terms(in_phase / unit, amplitude / unit * mixture.re)
            q_terms, q_nearest = _rail_terms(rails[mixture.late] / unit, amplitude / unit * mixture.im)
            log_mean = (mixture.weights @ i_terms).mul_(q_terms).sum(dim=0).log_() - i_nearest - q_nearest  # (B N,)
            symbols = log_mean.view_as(frames.in_phase).sum(dim=1, dtype=torch.float64)  # (B,)
            table[:, c, h] = symbols - rest[mixture.late] / noise_power
        table[:, :, h] -= setting.n_samples * math.log(noise_power)
    return table


def _rail_terms(rail: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
    """exp(-(r - a)^2 + m) for every part a, (I, B N), and m (B N,), the least square: the largest term is 1."""
    squares = (rail - parts).square_()  # (I, B N)
    nearest = squares.amin(dim=0)
    return (nearest - squares).clamp_min_(_LEAST).exp_(), nearest
