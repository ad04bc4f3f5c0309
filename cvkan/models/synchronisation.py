"""Timing and phase of frames of digital modulation, estimated in closed form and taken out.

No gradient flows through an estimate: it is taken as the truth about the frame.

Legend: B frames, T samples, N tokens, S complex numbers a token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvkan.core.norm import mean_over_tokens
from cvkan.core.polar import Planes, relative_phase, squared_magnitude, unit_phase

NYQUIST_SHARE = 1.5  # of the symbol rate that holds the signal for roll-offs up to 0.5; the rest is noise


@torch.no_grad()
def on_time(frames: Tensor, samples_per_symbol: int) -> Tensor:
    """Frames shifted, by a part of a symbol at most, so that a symbol stands on sample 0.

    The power of a filtered frame y has a line at the symbol rate whose phase is the timing,
    tau = -sps/(2 pi) arg sum_n |y_n|^2 exp(-2 pi i n/sps). The shift is one in frequency, cyclic: at most half a symbol
    comes in from the other end. Source: Oerder and Meyr, "Digital filter and square timing recovery", IEEE Transactions
    on Communications 36(5), 1988.

    Args:
        frames: planes (B, 2, T).
        samples_per_symbol: sps, at least 2.

    Returns:
        Tensor (B, 2, T), float32.
    """
    spectrum = torch.fft.fft(torch.complex(*frames.float().unbind(1)))  # (B, T)
    frequency = torch.fft.fftfreq(frames.shape[-1], device=frames.device)  # (T,), cycles/sample
    in_band = frequency.abs() <= NYQUIST_SHARE / (2 * samples_per_symbol)
    power = torch.fft.ifft(spectrum * in_band).abs().square()  # (B, T)
    n = torch.arange(frames.shape[-1], device=frames.device)
    beat = 2 * math.pi / samples_per_symbol * (n % samples_per_symbol)
    tau = torch.atan2((power * beat.sin()).sum(-1), (power * beat.cos()).sum(-1)) / (2 * math.pi)  # (B,), symbols
    ahead = 2 * math.pi * samples_per_symbol * tau.unsqueeze(-1) * frequency  # (B, T)
    shifted = torch.fft.ifft(spectrum * torch.polar(torch.ones_like(ahead), ahead))
    return torch.view_as_real(shifted).transpose(1, 2).contiguous()  # (B, 2, T)


def upright(s: Planes, mask: Tensor | None) -> Planes:
    """Symbols turned back by the phase of the frame, estimated up to quarter turns: arg(sum_n s_n^4) becomes pi.

    That is the phase of square QAM as it is sent. Source: Viterbi and Viterbi, "Nonlinear estimation of PSK-modulated
    carrier phase", IEEE Transactions on Information Theory 29(4), 1983, with the fourth power of s itself.

    Args:
        s: planes (B, N, S), 0 at padded tokens.
        mask: (B, N), 1 = valid, or None.

    Returns:
        Planes (B, N, S).
    """
    with torch.no_grad():
        square = complex_product(s, s)
        re, im = (mean_over_tokens(plane, mask) for plane in complex_product(square, square))  # (B, 1, S) each
        angle = torch.atan2(-im, -re) / 4
        turn = angle.cos(), angle.sin()
    return relative_phase(s, turn)


def in_phase(u: Planes, weight: Tensor, mask: Tensor | None) -> Planes:
    """Numbers turned by one angle a frame, so that their weighted mean is real and positive.

    Args:
        u: planes (B, N, S), 0 at padded tokens.
        weight: (B, N, S).
        mask: (B, N), 1 = valid, or None.

    Returns:
        Planes (B, N, S).
    """
    with torch.no_grad():
        re, im = (mean_over_tokens(weight * plane, mask) for plane in u)  # (B, 1, S) each
        turn = unit_phase((re, im), squared_magnitude((re, im)))
    return relative_phase(u, turn)


def complex_product(a: Planes, b: Planes) -> Planes:
    """a b of planes, each (...) after broadcasting."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]
