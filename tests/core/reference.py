"""The core once more, slowly: complex128, abs, angle and exp, loops over tokens, heads and channels.

Written from the formulas of the docstrings, sharing no code with ``cvkan.core``. Every function works on one sample
z (N, D) complex, takes its parameters from the module under test by name, and handles a mask in the plainest way:
it leaves the padded tokens out. :func:`batch` applies such a function to (B, N, D).

Legend: B batch, N tokens, D complex channels, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cvkan.core import aggregation as agg
from cvkan.core.local import (
    CausalFilterAggregation,
    CausalMeanAggregation,
    HierarchicalAggregation,
    LocalAggregation,
    LocalBoxAggregation,
)
from cvkan.core.norm import PreRMSNorm, StreamLogLayerNorm
from cvkan.core.phase_attention import PhaseAttentionAggregation
from cvkan.core.polarizing import Gate, PolarAct, PolarBlock
from cvkan.core.pooling import AttentionPooling, MagnitudePooling, MaxPooling, Pooling, Readout
from cvkan.core.univariate import Harmonic, PolynomialPsi, RBFPsi

EPS = 1e-3


def batch(function: Callable[..., Tensor], z: Tensor, mask: Tensor | None = None) -> Tensor:
    """Stack ``function(sample (N, D), valid (N,))`` over a batch z (B, N, D)."""
    valid = torch.ones(z.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
    return torch.stack([function(sample, rows) for sample, rows in zip(z, valid, strict=True)])


def radius(z: Tensor) -> Tensor:
    return torch.sqrt(z.abs() ** 2 + EPS**2)


def unit(z: Tensor) -> Tensor:
    return z / radius(z)


def psi(module: nn.Module, z: Tensor) -> Tensor:
    """Magnitude function of z (..., D) itself: the module's coordinate, then its curve."""
    s = torch.log(radius(z))
    if isinstance(module, PolynomialPsi):
        t = torch.tanh(s)
        return sum((4 * c * t ** (k + 1) for k, c in enumerate(module.coefficients)), torch.zeros_like(t))
    assert isinstance(module, RBFPsi)
    n_knots = len(module.coefficients)
    h = 5.0 / (n_knots - 1)  # knots on [-3, 2]
    value = 4 * module.slope * s
    for k, c in enumerate(module.coefficients):
        value = value + 4 * c * torch.exp(-(((s - (-3.0 + k * h)) / h) ** 2))
    return value


def phi(module: Harmonic, u: Tensor) -> Tensor:
    """Fourier series of the angle; harmonic m scales with |u|^m, which is 1 but where |z| is near eps."""
    value = torch.zeros_like(u.real)
    for m, (a, b) in enumerate(zip(module.cosines, module.sines, strict=True), start=1):
        value = value + 4 * u.abs() ** m * (a * torch.cos(m * u.angle()) + b * torch.sin(m * u.angle()))
    return value


def linear(module: nn.Module, z: Tensor) -> Tensor:
    out = z @ torch.complex(module.weight_re, module.weight_im).T
    if module.bias is None:
        return out
    b_re, b_im = module.bias[: module.d_out], module.bias[module.d_out :]
    return out + torch.complex(b_re, b_im)


def polar_act(module: PolarAct, z: Tensor) -> Tensor:
    gain = 2 * torch.sigmoid(psi(module.psi, z) + phi(module.phi, unit(z)))
    return gain * torch.exp(1j * 2 * torch.atan(psi(module.psi_rot, z))) * z


def gate_logit(module: Gate, v: Tensor, a: Tensor) -> Tensor:
    relative = unit(a) * unit(v).conj()
    return module.bias + psi(module.psi_token, v) + psi(module.psi_context, a) + phi(module.phi, relative)


def norm(module: nn.Module, z: Tensor) -> Tensor:
    """A norm that looks at one token at a time; any other is the identity."""
    if isinstance(module, PreRMSNorm):
        rows = [module.weight * token / torch.sqrt((token.abs() ** 2).mean() + EPS**2) for token in z]
        return torch.stack(rows)
    if isinstance(module, StreamLogLayerNorm):
        rows = []
        for token in z:
            s = torch.log(radius(token))
            spread = torch.sqrt(((s - s.mean()) ** 2).mean() + module.eps)
            log_r = module.weight * (s - s.mean()) / spread + module.bias
            rows.append(torch.exp(log_r) * unit(token))
        return torch.stack(rows)
    return z


def sample_rms(z: Tensor, valid: Tensor) -> Tensor:
    rms = torch.sqrt((z[valid].abs() ** 2).mean() + EPS**2)
    return torch.where(valid[:, None], z / rms, torch.zeros_like(z))


def heads(n_channels: int, n_heads: int) -> list[range]:
    width = n_channels // n_heads
    return [range(h * width, (h + 1) * width) for h in range(n_heads)]


def agreement(token: Tensor, context: Tensor, channels: range) -> Tensor:
    """Mean cosine of the angle between z (D,) and its context (D,) over some channels."""
    cosines = [(unit(token[d]) * unit(context[d]).conj()).real for d in channels]
    return torch.stack(cosines).mean()


def softmax(scores: list[Tensor]) -> Tensor:
    powers = torch.exp(torch.stack(scores) - max(float(s.detach()) for s in scores))
    return powers / powers.sum()


def weighted(z: Tensor, valid: Tensor, score: Callable[[int, range], Tensor], n_heads: int) -> Tensor:
    """(1, D): channels of each head averaged with softmax weights of ``score(token, channels)`` over valid tokens."""
    tokens = [t for t in range(len(z)) if valid[t]]
    columns = []
    for channels in heads(z.shape[1], n_heads):
        weights = softmax([score(t, channels) for t in tokens])
        columns += [sum(w * z[t, d] for w, t in zip(weights, tokens, strict=True)) for d in channels]
    return torch.stack(columns)[None]


def magnitude_score(module: agg.MagnitudeScore, z: Tensor) -> Callable[[int, range], Tensor]:
    value = psi(module.psi, z) + phi(module.phi, unit(z))
    return lambda t, channels: value[t, list(channels)].mean()


def aggregate(module: nn.Module, v: Tensor, valid: Tensor) -> Tensor:
    """Context (1 or N, D) of the values v (N, D)."""
    if isinstance(module, agg.SumAggregation):
        return sum(aggregate(part, v, valid) for part in module.parts)
    if isinstance(module, agg.MeanAggregation):
        return v[valid].mean(dim=0, keepdim=True)
    if isinstance(module, agg.MagnitudeAggregation):
        return weighted(v, valid, magnitude_score(module.score, v), module.n_heads)
    if isinstance(module, agg.AgreementAggregation):
        context, width = v[valid].mean(dim=0, keepdim=True), v.shape[1] // module.n_heads
        for _ in range(module.n_passes):

            def score(t: int, channels: range, now: Tensor = context[0]) -> Tensor:
                return module.tau[channels[0] // width] * agreement(v[t], now, channels)

            context = weighted(v, valid, score, module.n_heads)
        return context
    if isinstance(module, agg.MagnitudeWeightedAggregation):
        loudness = radius(v[valid]).mean(dim=1, keepdim=True)
        return (loudness / loudness.sum() * v[valid]).sum(dim=0, keepdim=True)
    if isinstance(module, PhaseAttentionAggregation):
        return phase_attention(module, v, valid)
    if isinstance(module, HierarchicalAggregation):
        return hierarchical(module, v, valid)
    assert isinstance(
        module, (LocalAggregation, LocalBoxAggregation, CausalMeanAggregation, CausalFilterAggregation)
    ), f"no reference for {module}"
    return torch.stack([local(module, t, v, valid) for t in range(len(v))])


def place(grid: tuple[int, ...], t: int) -> tuple[int, int]:
    """Row and column of token t."""
    return (0, t) if len(grid) == 1 else divmod(t, grid[1])


def local(module: nn.Module, t: int, v: Tensor, valid: Tensor) -> Tensor:
    """Context (D,) of token t: what it hears of each valid token s, by where s stands from t."""
    terms, silence = [], torch.zeros_like(v[0])
    for s in [s for s in range(len(v)) if valid[s]]:
        (row_t, column_t), (row_s, column_s) = place(module.grid, t), place(module.grid, s)
        down, right = row_s - row_t, column_s - column_t
        if isinstance(module, CausalMeanAggregation):
            terms += [v[s]] if s <= t else []
        elif isinstance(module, LocalBoxAggregation):
            terms += [v[s]] if max(abs(down), abs(right)) <= module.kernel_size // 2 else []
        else:
            taps = torch.complex(module.weight_re, module.weight_im)[:, 0]  # (D, rows, columns)
            n_rows, n_columns = taps.shape[1:]
            own_column = n_columns - 1 if isinstance(module, CausalFilterAggregation) else n_columns // 2
            i, j = n_rows // 2 + down, own_column + right
            terms += [taps[:, i, j] * v[s]] if 0 <= i < n_rows and 0 <= j < n_columns else []
    total = sum(terms, silence)
    is_mean = isinstance(module, (CausalMeanAggregation, LocalBoxAggregation))
    return total / len(terms) if is_mean and terms else total


def phase_attention(module: PhaseAttentionAggregation, v: Tensor, valid: Tensor) -> Tensor:
    v = torch.where(valid[:, None], v, 0)  # a padded token asks with 0
    q, k = linear(module.query, v), linear(module.key, v)
    out = torch.zeros_like(v)
    for t in range(len(v)):
        tokens = [s for s in range(len(v)) if valid[s] and (s <= t or not module.causal)]
        for channels in heads(v.shape[1], module.n_heads):
            scores = [sum((q[t, d] * k[s, d].conj()).real for d in channels) / len(channels) ** 0.5 for s in tokens]
            for d in channels:
                weights = softmax(scores) if tokens else []
                out[t, d] = sum(w * v[s, d] for w, s in zip(weights, tokens, strict=True))
    return out


def hierarchical(module: HierarchicalAggregation, v: Tensor, valid: Tensor) -> Tensor:
    cells = {place(module.grid, t): v[t] for t in range(len(v)) if valid[t]}
    out = [torch.zeros_like(v[0]) for _ in v]
    edge = 1
    for level, score in enumerate(module.scores):
        n_columns = module.column_sizes[-1 - level]
        n_rows = 1 if len(module.grid) == 1 else n_columns
        members: dict[tuple[int, int], list[Tensor]] = {}
        for (row, column), value in cells.items():
            members.setdefault((row // n_rows, column // n_columns), []).append(value)
        cells = {}
        for group, values in members.items():
            z = torch.stack(values)
            everyone = torch.ones(len(z), dtype=torch.bool)
            cells[group] = weighted(z, everyone, magnitude_score(score, z), module.n_heads)[0]
        edge *= n_columns
        weight = torch.complex(module.level_re[level], module.level_im[level])
        for t in range(len(v)):
            row, column = place(module.grid, t)
            out[t] = out[t] + weight * cells.get((row // edge, column // edge), torch.zeros_like(v[0]))
    return torch.stack(out)


def block(module: PolarBlock, z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The stream (N, D) after the block, and the token gain g_V (N, D)."""
    v = linear(module.value, norm(module.interaction_norm, z))
    a = aggregate(module.aggregation, v, valid).expand(len(v), -1)
    logit = gate_logit(module.gate_token, v, a)
    extra = torch.empty_like(logit)
    for h, channels in enumerate(heads(v.shape[1], module.n_heads)):
        for t in range(len(v)):
            w, b = module.agreement_gain[h], module.agreement_threshold[h]
            extra[t, list(channels)] = w * (agreement(v[t], a[t], channels) - b)
    g_v = 2 * torch.sigmoid(logit + extra)
    g_a = 2 * torch.sigmoid(gate_logit(module.gate_context, v, a))
    branch = linear(module.interaction_out, polar_act(module.interaction_act, 0.5 * (g_v * v + g_a * a)))
    z = z + module.interaction_scale.gamma * branch
    hidden = linear(module.mixing.linear_in, norm(module.mixing_norm, z))
    return z + module.mixing_scale.gamma * linear(module.mixing.linear_out, polar_act(module.mixing.act, hidden)), g_v


def readout(module: Readout, z: Tensor) -> list[Tensor]:
    planes = [z.real, z.imag] if module.with_planes else []
    return [radius(z), *planes] if module.with_magnitude else planes


def pool(module: Pooling, z: Tensor, features: list[Tensor], valid: Tensor) -> Tensor:
    """(F,) from z (N, D) and feature planes (N, D)."""
    if isinstance(module, MaxPooling):
        tokens = [t for t in range(len(z)) if valid[t]]
        loudest = [max(tokens, key=lambda t, d=d: float(z[t, d].detach().abs())) for d in range(z.shape[1])]
        return torch.stack([plane[t, d] for plane in features for d, t in enumerate(loudest)])
    if isinstance(module, MagnitudePooling):
        score = magnitude_score(module.score, z)
    elif isinstance(module, AttentionPooling):
        first, last = module.score[0], module.score[2]
        polar = torch.cat([torch.tanh(torch.log(radius(z))), unit(z).real, unit(z).imag], dim=-1)
        value = torch.tanh(polar @ first.weight.T + first.bias) @ last.weight.T + last.bias  # (N, H)
        width = z.shape[1] // module.n_heads
        score = lambda t, channels: value[t, channels[0] // width]  # noqa: E731
    else:
        score = lambda t, channels: torch.zeros((), dtype=torch.float64)  # noqa: E731
    return torch.cat([weighted(plane, valid, score, module.n_heads)[0] for plane in features])


def phase_noise_tokens(n: int, n_tokens: int, k: int, d: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The hard task of ``docs/core.md`` 5.13: z (n, N, D) complex64 and which tokens are wanted (n, N) bool."""
    phases = torch.rand(n, n_tokens, d, generator=generator) * 2 * math.pi
    theta = torch.rand(n, 1, d, generator=generator) * 2 * math.pi
    near = theta + 0.5 * torch.randn(n, n_tokens, d, generator=generator)
    wanted = torch.rand(n, n_tokens, generator=generator).argsort(dim=1) < k
    return torch.polar(torch.ones(()), torch.where(wanted[..., None], near, phases)), wanted
