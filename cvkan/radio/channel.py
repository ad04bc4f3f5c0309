"""What happens between transmitter and receiver: clock, multipath, fading, carrier, phase, noise.

Each is a function of its own; :class:`~cvkan.radio.generator.FrameGenerator` applies those that are switched on.

Legend: B frames, n samples of a frame, P paths, L taps of a filter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from cvkan.radio.random import FrameRandom

FILTER_HALF = 8  # samples each side of the fractional-delay filters
MAX_K = 1e12  # of a direct path, beside which nothing is left of the scattered ones
MAX_DELAY = 1024  # samples; every sample of it costs a tap
INTERPOLATION_MARGIN = 2  # samples that the cubic interpolation needs beyond its position, each side


def within(value: object, low: float, high: float) -> bool:
    """Whether something out of a config is a number from ``low`` to ``high``."""
    return isinstance(value, (int, float)) and low <= value <= high


@dataclass(frozen=True)
class Fading:
    """One complex gain a frame, of mean power 1: h = sqrt(K/(K + 1)) e^{j phi} + sqrt(1/(K + 1)) CN(0, 1).

    Args:
        k_factor: K, power of the direct path over that of the scattered ones; 0 is Rayleigh fading.

    Raises:
        ValueError: ``k_factor`` is no number, or out of range.
    """

    k_factor: float

    def __post_init__(self) -> None:
        if not within(self.k_factor, 0, MAX_K):
            raise ValueError(f"the k_factor of fading is {self.k_factor}; give 0 (Rayleigh) or more")

    def gains(self, random: FrameRandom) -> Tensor:
        """h, (B, 1) complex64."""
        return rician_gains(self.k_factor, random, "fading", 1)


@dataclass(frozen=True)
class Multipath:
    """Delayed copies of the signal, each with a Rician gain of its own; their mean powers add up to 1.

    Args:
        delays: of the paths, in samples, 0 or more; need not be whole.
        magnitudes: of the paths, root mean square, in any unit.
        k_factor: K of every path, see :class:`Fading`.

    Raises:
        ValueError: no path, unlike lengths, or a value out of range.
    """

    delays: Sequence[float]
    magnitudes: Sequence[float]
    k_factor: float

    def __post_init__(self) -> None:
        for name, values in {"delays": self.delays, "magnitudes": self.magnitudes}.items():
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise ValueError(f"the {name} of multipath are {values}; give a list, a number a path")
        if not self.delays or len(self.delays) != len(self.magnitudes):
            raise ValueError(
                f"multipath has {len(self.delays)} delays, {len(self.magnitudes)} magnitudes; give one of each a path"
            )
        if not all(within(delay, 0, MAX_DELAY) for delay in self.delays):
            raise ValueError(f"the delays of multipath are {list(self.delays)}; give samples, 0 to {MAX_DELAY}")
        if not all(within(magnitude, 1e-9, 1e9) for magnitude in self.magnitudes):
            raise ValueError(f"the magnitudes of multipath are {list(self.magnitudes)}; give positive numbers")
        if not within(self.k_factor, 0, MAX_K):
            raise ValueError(f"the k_factor of multipath is {self.k_factor}; give 0 (Rayleigh) or more")

    @property
    def margins(self) -> tuple[int, int]:
        """Samples needed before and after a frame."""
        return FILTER_HALF + math.ceil(max(self.delays)), FILTER_HALF

    @cached_property
    def filters(self) -> Tensor:
        """For each path its magnitude times a delay: Hann-windowed sinc, (P, L) float32, tap l delays by l - 8."""
        before, after = self.margins
        delays, magnitudes = (torch.tensor(values, dtype=torch.float64) for values in (self.delays, self.magnitudes))
        t = torch.arange(-after, before + 1, dtype=torch.float64) - delays[:, None]  # (P, L)
        window = (0.5 + 0.5 * torch.cos(math.pi * t / (FILTER_HALF + 1))) * (t.abs() <= FILTER_HALF)
        return (magnitudes[:, None] / magnitudes.norm() * torch.sinc(t) * window).float()

    def apply(self, x: Tensor, random: FrameRandom) -> Tensor:
        """y[n] = sum_p h_p x(n - delay_p).

        Args:
            x: (B, before + n + after) complex64, with the samples of :attr:`margins`.
            random: of the frames; its streams ``multipath`` are used.

        Returns:
            (B, n) complex64.
        """
        filters = self.filters.to(x.device)
        gains = rician_gains(self.k_factor, random, "multipath", len(filters))  # (B, P)
        taps = gains @ filters.to(gains.dtype)  # (B, L)
        n_samples = x.shape[1] - taps.shape[1] + 1
        y = torch.zeros_like(x[:, :n_samples])
        for tap, start in zip(taps.unbind(dim=1), reversed(range(taps.shape[1])), strict=True):
            y.addcmul_(tap[:, None], x[:, start : start + n_samples])
        return y


Made = TypeVar("Made", Fading, Multipath)


def made(kind: type[Made], name: str, options: object) -> Made:
    """Fading or multipath, made of options that all must be given.

    Raises:
        ValueError: they are others, or out of range.
    """
    wanted = [each.name for each in fields(kind)]
    if not isinstance(options, Mapping) or set(options) != set(wanted):
        usage = ", ".join(f"{each}: ..." for each in wanted)
        raise ValueError(f"{name} is {options}; give {{{usage}}}, or null")
    return kind(**options)


def rician_gains(k_factor: float, random: FrameRandom, stream: str, n_paths: int) -> Tensor:
    """Independent gains (B, P) complex64, E|h|^2 = 1; the direct path has a random phase."""
    scattered = random.complex_normal(f"{stream} scattered", n_paths)
    phase = 2 * math.pi * random.uniform(f"{stream} direct", n_paths)
    return math.sqrt(k_factor / (k_factor + 1)) * turn(phase) + math.sqrt(1 / (k_factor + 1)) * scattered


def resample(x: Tensor, clock_offset: Tensor, margin: int) -> Tensor:
    """Sample with a clock that is off by a factor: y[i] = x(c + (1 + d)(i - c)), c the middle of the frame.

    Cubic Lagrange interpolation between the four nearest samples; the error is below -46 dB of a component at a tenth
    of the sampling rate.

    Args:
        x: (B, margin + n + margin) complex64.
        clock_offset: d, (B,) float32, with ``|d| n/2 + INTERPOLATION_MARGIN <= margin``.
        margin: samples before and after the frame.

    Returns:
        (B, n) complex64.
    """
    n_samples = x.shape[1] - 2 * margin
    place = torch.arange(n_samples, device=x.device)
    # The drift alone, not the position, is a float: a position of 1000 would have no digits left for the fraction.
    drift = clock_offset[:, None] * (place - (n_samples - 1) / 2)  # (B, n)
    whole = drift.floor()
    s = drift - whole
    left = place + margin + whole.long()
    weights = (
        -s * (s - 1) * (s - 2) / 6,
        (s + 1) * (s - 1) * (s - 2) / 2,
        -(s + 1) * s * (s - 2) / 2,
        (s + 1) * s * (s - 1) / 6,
    )
    return sum(
        (weight * x.gather(1, left + step) for step, weight in zip(range(-1, 3), weights, strict=True)),
        start=torch.zeros((), dtype=x.dtype, device=x.device),
    )


def carrier_turn(frequency: Tensor, n_samples: int) -> Tensor:
    """exp(j 2 pi f i) for samples i = 0 ... n - 1.

    Args:
        frequency: f in cycles a sample, (B,) float32.
        n_samples: n.

    Returns:
        (B, n) complex64.
    """
    turns = frequency[:, None] * torch.arange(n_samples, device=frequency.device)
    return turn(2 * math.pi * (turns - turns.round()))


def turn(phase: Tensor) -> Tensor:
    """exp(j phase), complex64."""
    return torch.complex(torch.cos(phase), torch.sin(phase))


def mean_power(x: Tensor) -> Tensor:
    """Mean of |x|^2 over the samples (B, n) complex: (B,)."""
    return torch.linalg.vector_norm(torch.view_as_real(x), dim=(1, 2)).square() / x.shape[1]


def add_noise(x: Tensor, snr_db: Tensor, noise: Tensor, samples_per_energy: int) -> Tensor:
    """y = x + sqrt(N0) w, N0 = s P / 10^(snr/10), with P the measured power of x.

    Args:
        x: (B, n) complex64.
        snr_db: (B,).
        noise: w, (B, n) complex64 of E|w|^2 = 1; it is overwritten.
        samples_per_energy: s, samples whose energy the SNR relates to N0: those of a symbol for Es/N0, one for the
            SNR of a sample.

    Returns:
        (B, n) complex64.
    """
    variance = samples_per_energy * mean_power(x) * torch.pow(10.0, -snr_db.float() / 10)  # (B,)
    return noise.mul_(variance.sqrt()[:, None]).add_(x)
