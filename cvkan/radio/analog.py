"""Waveforms of analog modulations, each from a band-limited random message.

A message fills the frequencies from W/10 to W, W = 1/(2 sps): a sideband is as wide as half the symbol rate, so the
double-sideband classes take the band of the digital ones. It is drawn in the frequency domain, with a period longer
than the frame, and so is stationary from the first sample on.

Legend: B frames, n samples of a frame, N samples of a period, F frequencies of the message.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from cvkan.radio.random import FrameRandom

LOWEST = 0.1  # lowest frequency over the highest: speech has no more of 3.4 kHz below 300 Hz
# Message over carrier, root mean square: the Gaussian message exceeds the carrier, and folds the envelope of AM-DSB-WC,
# for one sample in 700.
AM_INDEX = 1 / 3
FM_DEVIATION = 0.5  # root mean square of the frequency deviation over W; 99 % of the power lies within 2.5 symbol rates


def analytic_message(random: FrameRandom, *, n_samples: int, samples_per_symbol: int) -> Tensor:
    """A Gaussian message and its Hilbert transform, m + j H(m): positive frequencies alone, flat in the message's band.

    Args:
        random: of the frames; its stream ``message`` is used.
        n_samples: n.
        samples_per_symbol: sps.

    Returns:
        (B, n) complex64, mean E|.|^2 = 2, so that m has variance 1.
    """
    period = 2 ** math.ceil(math.log2(2 * n_samples))  # N: the frame holds half of it at most
    highest = period // (2 * samples_per_symbol)
    lowest = max(1, round(LOWEST * highest))
    n_frequencies = highest - lowest + 1
    spectrum = torch.zeros(len(random.index), period, dtype=torch.complex64, device=random.index.device)
    spectrum[:, lowest : highest + 1] = random.complex_normal("message", n_frequencies)
    return torch.fft.ifft(spectrum, norm="forward")[:, :n_samples] * math.sqrt(2 / n_frequencies)  # (B, n)


def am_ssb_wc(message: Tensor) -> Tensor:
    """Carrier and upper sideband: (1 + k (m + j H m)) / sqrt(1 + 2 k^2)."""
    return (1 + AM_INDEX * message) / math.sqrt(1 + 2 * AM_INDEX**2)


def am_ssb_sc(message: Tensor) -> Tensor:
    """Upper sideband alone: (m + j H m) / sqrt 2."""
    return message / math.sqrt(2)


def am_dsb_wc(message: Tensor) -> Tensor:
    """Carrier and both sidebands: (1 + k m) / sqrt(1 + k^2)."""
    return ((1 + AM_INDEX * message.real) / math.sqrt(1 + AM_INDEX**2)).to(message.dtype)


def am_dsb_sc(message: Tensor) -> Tensor:
    """Both sidebands without carrier: m."""
    return message.real.to(message.dtype)


def fm(message: Tensor, *, samples_per_symbol: int) -> Tensor:
    """Frequency modulation: exp(j 2 pi d sum m), d = FM_DEVIATION W cycles a sample."""
    turns = FM_DEVIATION / (2 * samples_per_symbol) * message.real.cumsum(dim=1)
    phase = 2 * math.pi * turns
    return torch.complex(torch.cos(phase), torch.sin(phase))


def modulators(samples_per_symbol: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """From the name of an analog class to its function of the message (B, n), mean power 1."""
    return {
        "AM-SSB-WC": am_ssb_wc,
        "AM-SSB-SC": am_ssb_sc,
        "AM-DSB-WC": am_dsb_wc,
        "AM-DSB-SC": am_dsb_sc,
        "FM": lambda message: fm(message, samples_per_symbol=samples_per_symbol),
    }
