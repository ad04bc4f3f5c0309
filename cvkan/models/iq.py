"""Complex baseband samples as complex tokens: a filter bank, then fixed functions of magnitude and phase.

Legend: B frames, T samples, P taps of a filter, N tokens, F filters, S complex numbers of a token that are looked up, K
powers, R radii, D complex channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.core.linear import ComplexLinear, RealLinear, masked
from cvkan.core.norm import mean_over_tokens
from cvkan.core.polar import EPS, Planes, log_magnitude, no_autocast, squared_magnitude, unit_phase
from cvkan.models.embedding import Embedding, Tokens
from cvkan.models.synchronisation import complex_product, in_phase, on_time, upright
from cvkan.spec import Spec

ROLL_OFF = 0.25  # of the pulse that the filters start as; common links use 0.2 to 0.35
FEATURE_RMS = 0.3  # of what is projected, over frames of all SNRs
N_SYMBOLS = 2  # filters whose output is taken for symbols: on the token's instant, and half a token later


def iq_length(spec: Spec, user: str, at_least: int = 1) -> int:
    """Samples T of a frame, or a ``ValueError`` if the samples are no I/Q frames or too short."""
    if not spec.is_complex or len(spec.input_shape) != 1 or spec.per_token:
        raise ValueError(
            f"{user} reads frames of complex I/Q samples (n_samples,), got samples of shape {spec.input_shape}; choose "
            "a radio source of I/Q frames, or another model and embedding"
        )
    if spec.input_shape[0] < at_least:
        raise ValueError(
            f"{user} needs frames of {at_least} samples or more, the data has {spec.input_shape[0]}; lengthen them"
        )
    return spec.input_shape[0]


def iq_planes(x: Tensor, mask: Tensor | None) -> Tensor:
    """Frames (B, T) complex as real planes (B, 2, T): I, Q; 0 where the mask (B, T) is 0."""
    planes = torch.view_as_real(x).transpose(1, 2).contiguous()  # (B, 2, T)
    return planes if mask is None else planes.masked_fill(~mask.bool().unsqueeze(1), 0.0)


class IQEmbedding(Embedding):
    """Frames to tokens, one each ``hop`` samples: a learned histogram of the constellation, term by term.

    ::

        z_nf = sum_p w_fp x_(n hop + p)                   F learned complex filters of P taps about the instant
        s_n = z_n0 / rms_n(z_n0), and z_n1 alike          symbols, of mean power 1 in the frame
        v_nl = s_n conj(s_(n-l)) / sqrt|s_n s_(n-l)|      for each lag l
        tokens = W [dictionary(s), dictionary(v), log|z|] + b

    The log-likelihood of a modulation is a sum over symbols of one function of s. Mean pooling of tokens that are
    linear in a rich dictionary of functions of s can hold it for every modulation; log|z| of bands without signal
    holds the power of the noise. Filters 0 and 1 start as root-raised-cosine filters for symbols of ``hop`` samples, on
    time and half a symbol late (OQPSK has one rail there); the others as windowed copies of the first, shifted in
    frequency.
    Where timing and phase of a frame are not known they are estimated in closed form, see
    :mod:`cvkan.models.synchronisation`; no token then changes when the frame is rotated. Source: own choice.

    Args:
        spec: frames of I/Q samples (T,).
        d_complex: channels D.
        n_taps: taps P of a filter, samples.
        hop: samples from token to token: those of a symbol.
        n_bands: bands that the filters start from, equally spaced over all frequencies; F = n_bands + 1.
        lags: tokens back to the partner of a product, which no carrier offset turns; empty for no products.
        powers: of the phase, see :class:`SymbolDictionary`.
        n_radii: radii R, see :class:`SymbolDictionary`.
        reach: greatest radius, in units of the rms of s.
        estimate_timing: shift each frame so that tokens stand on its symbols; False where they do already.
        estimate_phase: take out each frame's phase; False where it is 0.

    Raises:
        ValueError: the samples are no I/Q frames, or a size is out of range.
    """

    def __init__(
        self,
        spec: Spec,
        d_complex: int,
        *,
        n_taps: int,
        hop: int,
        n_bands: int,
        lags: Sequence[int],
        powers: Sequence[int],
        n_radii: int,
        reach: float,
        estimate_timing: bool,
        estimate_phase: bool,
    ) -> None:
        super().__init__()
        n_samples = iq_length(spec, "embedding=iq")
        if not 1 <= hop <= n_samples or n_taps < 1 or n_bands < 1:
            raise ValueError(
                f"hop must be 1 to {n_samples}, n_taps and n_bands positive, got {hop}, {n_taps} and {n_bands}; "
                "set embedding.hop, embedding.n_taps and embedding.n_bands"
            )
        if estimate_timing and hop == 1:
            raise ValueError("symbols of one sample have no timing to estimate; set embedding.estimate_timing=false")
        self.grid = (math.ceil(n_samples / hop),)
        if any(not 1 <= lag < self.grid[0] for lag in lags):
            raise ValueError(f"lags must be 1 to {self.grid[0] - 1} tokens, got {list(lags)}; set embedding.lags")
        self.n_taps, self.hop, self.lags, self.estimate_timing = n_taps, hop, tuple(lags), estimate_timing
        taps = filter_bank(n_taps, hop, n_bands)
        self.filters = ComplexLinear(n_taps, len(taps), bias=False)
        with torch.no_grad():
            self.filters.weight_re.copy_(taps.real)
            self.filters.weight_im.copy_(taps.imag)
        self.dictionary = SymbolDictionary(n_radii, powers, reach, estimate_phase)
        n_features = N_SYMBOLS * (1 + len(self.lags)) * self.dictionary.n_features + len(taps)
        self.project = RealLinear(n_features, 2 * d_complex)
        # Two planes: the rms of |z| starts near 1. There is no batch norm: the statistics of a batch would move all
        # levels by about one step of the SNR from batch to batch.
        nn.init.normal_(self.project.weight, std=math.sqrt(0.5 / n_features) / FEATURE_RMS)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tokens:
        """Frames (B, T) complex to planes (B, N, D) and the mask of the tokens (B, N): that of their instants.

        All but the last product is float32 under autocast too.
        """
        frames = iq_planes(x, mask)
        mask = None if mask is None else mask[:, :: self.hop]  # (B, N)
        with no_autocast(x):
            if self.estimate_timing:
                frames = on_time(frames, self.hop)
            features = self.features(frames, mask)
        re, im = self.project(features).chunk(2, dim=-1)  # (B, N, D) each
        return (re, im), mask

    def features(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        """Planes (B, 2, T) to all that a token is a linear map of, (B, N, features)."""
        before = self.n_taps // 2
        windows = F.pad(frames, (before, self.n_taps - before - 1)).unfold(2, self.n_taps, self.hop)  # (B, 2, N, P)
        z = masked(self.filters(windows.unbind(1)), mask)  # (B, N, F) planes
        s = of_power_one((z[0][..., :N_SYMBOLS], z[1][..., :N_SYMBOLS]), mask)  # (B, N, S) planes
        looked_up = [s, *(lagged_product(s, lag) for lag in self.lags)]
        found = [self.dictionary(numbers, mask).flatten(2) for numbers in looked_up]
        return torch.cat([*found, log_magnitude(squared_magnitude(z))], dim=-1)


class SymbolDictionary(nn.Module):
    """Fixed functions of complex numbers s of mean power 1, in which the densities of constellations are nearly linear.

    ::

        exp(-((|s| - r_i)/h)^2) [1, Re u^k, Im u^k for each power k]          u = s / |s|, R radii r_i in 0 .. reach
        exp(-((|Re s| - r_i)/h)^2) + exp(-((|Im s| - r_i)/h)^2)               h = r_2 - r_1

    Rings and angles of PSK and APSK are functions of the first kind; the logarithms of the densities of rectangular QAM
    are sums of the second, which no quarter turn changes. Powers of a number on the unit circle need no angle and
    cannot overflow.

    Args:
        n_radii: R.
        powers: k.
        reach: greatest radius.
        estimate_phase: take out the phase of a frame: that of s^4 before the planes are looked at, that of u^k
            from u^k itself, for each k.

    Raises:
        ValueError: fewer than two radii, no reach, or a power below 1.
    """

    radii: Tensor

    def __init__(self, n_radii: int, powers: Sequence[int], reach: float, estimate_phase: bool) -> None:
        super().__init__()
        if n_radii < 2 or reach <= 0 or any(power < 1 for power in powers):
            raise ValueError(
                f"n_radii must be at least 2, reach positive and powers at least 1, got {n_radii}, {reach} and "
                f"{list(powers)}; set embedding.n_radii, embedding.reach and embedding.powers"
            )
        self.powers, self.estimate_phase = tuple(powers), estimate_phase
        self.n_features = n_radii * (2 + 2 * len(self.powers))
        self.register_buffer("radii", torch.linspace(0, reach, n_radii), persistent=False)  # (R,)

    def forward(self, s: Planes, mask: Tensor | None) -> Tensor:
        """Planes (B, N, S), 0 at padded tokens, to features (B, N, S, n_features), float32."""
        r2 = squared_magnitude(s)
        turns = phase_powers(unit_phase(s, r2), self.powers)
        if self.estimate_phase:
            turns = [in_phase(turn, r2, mask) for turn in turns]
            s = upright(s, mask)
        angular = torch.stack([torch.ones_like(r2), *(plane for turn in turns for plane in turn)], dim=-1)
        rings = self.bumps(r2.sqrt()).unsqueeze(-1) * angular.unsqueeze(-2)  # (B, N, S, R, 2K + 1)
        sides = self.bumps(s[0].abs()) + self.bumps(s[1].abs())  # (B, N, S, R)
        return torch.cat([rings.flatten(-2), sides], dim=-1)

    def bumps(self, x: Tensor) -> Tensor:
        """exp(-((x - r_i)/h)^2) of x (...): (..., R)."""
        return torch.exp(-(((x.unsqueeze(-1) - self.radii) / (self.radii[1] - self.radii[0])) ** 2))


def phase_powers(u: Planes, powers: Sequence[int]) -> list[Planes]:
    """u^k for each power k of planes (...), by products of the powers of half the size."""
    known: dict[int, Planes] = {1: u}

    def power(k: int) -> Planes:
        if k not in known:
            known[k] = complex_product(power(k // 2), power(k - k // 2))
        return known[k]

    return [power(k) for k in powers]


def of_power_one(s: Planes, mask: Tensor | None) -> Planes:
    """Planes (B, N, S), 0 at padded tokens, divided by the rms over the frame; a frame of zeros stays one."""
    power = mean_over_tokens(s[0] * s[0] + s[1] * s[1], mask)  # (B, 1, S)
    scale = torch.rsqrt(power + EPS * EPS)
    return s[0] * scale, s[1] * scale


def lagged_product(s: Planes, lag: int) -> Planes:
    """s_n conj(s_(n-lag)) divided by the root of its magnitude, planes (B, N, S); 0 for the first tokens."""
    re, im = (F.pad(plane, (0, 0, lag, 0))[:, : plane.shape[1]] for plane in s)
    product = complex_product(s, (re, -im))
    size = squared_magnitude(product) ** -0.25
    return product[0] * size, product[1] * size


def filter_bank(n_taps: int, hop: int, n_bands: int) -> Tensor:
    """Taps (F, P), complex128, of unit energy: what the filters of :class:`IQEmbedding` start as.

    Those of the other bands have a Hann window: what leaks in of a strong signal would hide the power of the noise.
    """
    n = torch.arange(n_taps, dtype=torch.float64) - n_taps // 2
    low, late = (root_raised_cosine(n / hop - delay) for delay in (0.0, 0.5))  # (P,) each
    frequency = torch.arange(1, n_bands, dtype=torch.float64).unsqueeze(1) / n_bands  # (n_bands - 1, 1), cycles/sample
    carriers = torch.polar(torch.ones_like(frequency), -2 * math.pi * frequency * n)  # (n_bands - 1, P)
    window = torch.cos(math.pi * n / (n_taps + 2)).square()  # (P,)
    taps = torch.cat([torch.stack([low, late]).to(carriers.dtype), window * low * carriers])
    return taps / torch.linalg.vector_norm(taps, dim=1, keepdim=True)


def root_raised_cosine(t: Tensor) -> Tensor:
    """The root-raised-cosine pulse of roll-off 0.25 at times t, in symbols."""
    t = torch.where((t.abs() < 1e-9) | ((t.abs() - 1 / (4 * ROLL_OFF)).abs() < 1e-9), t + 1e-6, t)  # limits of 0 / 0
    rise = torch.sin(math.pi * t * (1 - ROLL_OFF)) + 4 * ROLL_OFF * t * torch.cos(math.pi * t * (1 + ROLL_OFF))
    return rise / (math.pi * t * (1 - (4 * ROLL_OFF * t) ** 2))
