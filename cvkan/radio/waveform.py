"""Waveforms of digital modulations: root-raised-cosine pulses and GMSK, each frame with its own roll-off and timing.

In symbol periods, sample n of a frame lies at n/sps + timing, and symbol k of the frame's ``K`` at k - span. So the
first samples already see ``span`` symbols on both sides: there is no transient to cut away.

Legend: B frames, n samples of a frame, sps samples a symbol, R = ceil(n / sps) rows of sps samples, W taps: the
symbols that a row of samples sees, K = R + W - 1 symbols.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GMSK_BT = 0.3  # 3 dB bandwidth of the Gaussian filter times the symbol period, as in GSM
GMSK_SPAN = 3  # symbols each side after which the frequency pulse is below 1e-8 of its peak


def n_taps(span: int) -> int:
    """Taps W: the symbols nearer than ``span`` periods to a sample of a row, which is a period long and starts up to
    another one late. A rail that is late by half a period sees no symbol more."""
    return 2 * span + 2


def n_symbols(n_samples: int, samples_per_symbol: int, span: int) -> int:
    """Symbols K that ``n_samples`` samples depend on: pulse tails at both ends included."""
    return -(-n_samples // samples_per_symbol) + n_taps(span) - 1


def tap_times(timing: Tensor, samples_per_symbol: int, span: int) -> Tensor:
    """Time from symbol to sample for every tap and every sample of a row.

    Args:
        timing: how late the symbols' grid is sampled, in symbol periods, (B,) in [0, 1).
        samples_per_symbol: sps.
        span: length of the pulse each side, in symbols.

    Returns:
        Times in symbol periods, (B, W, sps), each tap one symbol later than the tap before.
    """
    phase = torch.arange(samples_per_symbol, device=timing.device) / samples_per_symbol + timing[:, None]  # (B, sps)
    taps = torch.arange(n_taps(span), device=timing.device)
    return phase[:, None, :] + (span - taps)[:, None]  # (B, W, sps)


def root_raised_cosine(t: Tensor, rolloff: Tensor) -> Tensor:
    """Pulse of unit energy whose square in frequency is a raised cosine.

        g(t) = [sin(pi t (1 - b)) + 4 b t cos(pi t (1 + b))] / [pi t (1 - (4 b t)^2)]

    This form is 0/0 at t = 0 and at 4 b t = 1, and loses its digits around them. With x = |4 b t| and
    c = pi x / 4 it is

        g(t) = sinc(t) (cos c - x sin c)/(1 - x^2) + (4 b / pi) cos(pi t) (cos c - sin(c)/x)/(1 - x^2).

    Both fractions are regular: with e = x - 1 they are written in sinc(e / 4) near x = 1, the second one in sinc(x / 4)
    near 0. So float32 suffices, and no time needs a case of its own.

    Args:
        t: times in symbol periods, float.
        rolloff: b in [0, 1], broadcast against ``t``.

    Returns:
        Values of g, as broadcast. Integral of g^2 over t: 1.

    Source: the closed form is in every textbook, e.g. Proakis, Digital Communications, 9.2; the split is our own.
    """
    x = 4 * rolloff * t.abs()
    e = x - 1
    c = math.pi / 4 * x
    cos_c, sin_c = torch.cos(c), torch.sin(c)
    ripple = math.pi / 4 * math.sqrt(2) * sinc(e / 4)  # sqrt(2) sin(pi e / 4) / e
    even = (ripple + sin_c) / (2 + e)
    near_zero = x < 0.5
    odd_above = torch.where(near_zero, cos_c - math.pi / 4 * sinc(x / 4), ripple - cos_c)
    odd = odd_above / torch.where(near_zero, 1 - x * x, (2 + e) * x)
    return sinc(t) * even + 4 / math.pi * rolloff * torch.cos(math.pi * t) * odd


def sinc(x: Tensor) -> Tensor:
    """sin(pi x)/(pi x), 1 at 0. That of torch is not vectorised on a CPU: it takes ten times as long."""
    turn = math.pi * x.abs().clamp_min(1e-20)
    return torch.sin(turn) / turn


def linear_frames(
    symbols: Tensor,
    rolloff: Tensor,
    timing: Tensor,
    rail_delay: Tensor,
    *,
    n_samples: int,
    samples_per_symbol: int,
    span: int,
) -> Tensor:
    """x(t) = sum_k Re(a_k) g(t - k) + j Im(a_k) g(t - k - d), with g the root raised cosine cut to |t| <= span.

    One batched product of windows of symbols, the I rail beside the Q rail, with the taps of both rails; its rows are
    the samples, real and imaginary parts in turns.

    Args:
        symbols: a, (B, K) complex64 with K as by :func:`n_symbols`.
        rolloff: b, (B,) float32 in [0, 1].
        timing: see :func:`tap_times`.
        rail_delay: d in symbol periods, (B,) float32 in [0, 0.5]: 0.5 for OQPSK, else 0.
        n_samples: n.
        samples_per_symbol: sps.
        span: length of the pulse each side, in symbols.

    Returns:
        Frames (B, n) complex64, of mean power 1 where E|a|^2 = 1.
    """
    n_frames, width = len(symbols), n_taps(span)
    n_rows = symbols.shape[1] - width + 1  # R
    t = tap_times(timing, samples_per_symbol, span)  # (B, W, sps)
    pulse = _cut_pulse(t, rolloff, span)
    taps = torch.zeros(n_frames, 2, width, samples_per_symbol, 2, device=symbols.device)
    taps[:, 0, :, :, 0] = pulse  # the I rail makes the real part
    taps[:, 1, :, :, 1] = pulse
    late = rail_delay.nonzero().squeeze(1)
    if len(late):
        taps[late, 1, :, :, 1] = _cut_pulse(t[late] - rail_delay[late, None, None], rolloff[late], span)
    planes = torch.view_as_real(symbols).transpose(1, 2).contiguous()  # (B, 2, K)
    windows = planes.unfold(-1, n_rows, 1).reshape(n_frames, 2 * width, n_rows)  # (B, 2 W, R)
    rows = torch.bmm(windows.transpose(1, 2), taps.view(n_frames, 2 * width, 2 * samples_per_symbol))  # (B, R, sps 2)
    return torch.view_as_complex(rows.view(n_frames, n_rows * samples_per_symbol, 2))[:, :n_samples]


def _cut_pulse(t: Tensor, rolloff: Tensor, span: int) -> Tensor:
    """g at times (B, W, sps), with roll-offs (B,); 0 beyond ``span``."""
    return root_raised_cosine(t, rolloff[:, None, None]) * (t.abs() <= span)


def gmsk_frames(bits: Tensor, timing: Tensor, *, n_samples: int, samples_per_symbol: int) -> Tensor:
    """x(t) = exp(j pi sum_k a_k q(t - k)): Gaussian minimum-shift keying, modulation index 1/2, BT = 0.3.

    The phase pulse q rises from 0 to 1/2 as the integral of a Gaussian-filtered rectangle, in closed form
    q(t) = [F(t + 1/2) - F(t - 1/2)]/2 with F the second integral of the Gaussian.

    Args:
        bits: a, -1 or 1, (B, K) float32 with K as by :func:`n_symbols` for a span of :data:`GMSK_SPAN`.
        timing: see :func:`tap_times`.
        n_samples: n.
        samples_per_symbol: sps.

    Returns:
        Frames (B, n) complex64 of magnitude 1.

    Source: Murota and Hirade, "GMSK modulation for digital mobile radio telephony", IEEE Trans. Commun. 1981.
    """
    width = n_taps(GMSK_SPAN)
    t = tap_times(timing, samples_per_symbol, GMSK_SPAN)
    steps = _gaussian_ramp(t + 0.5) - _gaussian_ramp(t - 0.5)  # (B, W, sps), 2 q
    windows = bits.unfold(-1, width, 1)  # (B, R, W)
    # Symbols older than the window have turned the phase by a quarter each; whole turns are taken out, as float32 would
    # lose digits of a phase that grows.
    older = (bits.cumsum(dim=1) - bits)[:, : windows.shape[1], None].remainder(4)  # (B, R, 1)
    quarters = torch.bmm(windows.contiguous(), steps) + older  # (B, R, sps)
    phase = math.pi / 2 * quarters.flatten(1)[:, :n_samples]
    return torch.complex(torch.cos(phase), torch.sin(phase))


def _gaussian_ramp(t: Tensor) -> Tensor:
    """F(t) = t Phi(c t) + phi(c t)/c, c = 2 pi BT / sqrt(ln 2): the normal distribution function, integrated."""
    c = 2 * math.pi * GMSK_BT / math.sqrt(math.log(2))
    return t * torch.special.ndtr(c * t) + torch.exp(-0.5 * (c * t).square()) / (c * math.sqrt(2 * math.pi))
