"""The polarizing block once more, as plain torch complex tensors: what the real planes are measured against.

The equations of :class:`cvkan.core.polarizing.PolarBlock` as one would write them with ``torch.complex64`` and
leave to autograd. The weights are copied from a block, so values and gradients agree to rounding.

Legend: B batch, N tokens, D complex channels, H heads.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.core.aggregation import MagnitudeAggregation
from cvkan.core.centering import NoCentering
from cvkan.core.heads import EmergentHeads
from cvkan.core.linear import ComplexLinear
from cvkan.core.local import LocalAggregation
from cvkan.core.norm import NoNorm, PreRMSNorm
from cvkan.core.polar import EPS
from cvkan.core.polarizing import ChannelMixing, Gate, PolarAct, PolarBlock
from cvkan.core.univariate import UNIT, Harmonic, PolynomialPsi
from cvkan.errors import UserError


class ComplexPolarBlock(nn.Module):
    """A complex64 (or complex128) twin of a block, with copies of its weights.

    Args:
        block: a block with aggregations ``magnitude`` and ``local``, ``psi=poly``, ``norm=pre_rms``, no dropout.

    Raises:
        UserError: a block of other parts.
    """

    def __init__(self, block: PolarBlock) -> None:
        super().__init__()
        if block.dropout:
            raise UserError("the complex reference has no dropout", "block.dropout", "Set block.dropout=0.")
        if type(block) is not PolarBlock:
            raise unknown(block, "block=polar")
        if not block.per_token:
            raise UserError("the complex reference is pointwise", "interaction", "Use interaction=pointwise.")
        for part, wanted, choice in (
            (block.heads, EmergentHeads, "heads=emergent"),
            (block.centering, NoCentering, "centering=none"),
            (block.stream_norm, NoNorm, "norm=pre_rms"),
            (block.mixing, ChannelMixing, "block=polar"),
            (block.value, ComplexLinear, "linear=complex"),
        ):
            if type(part) is not wanted:
                raise unknown(part, choice)
        mixing = cast(ChannelMixing, block.mixing)
        self.n_heads = block.n_heads
        self.interaction_norm, self.mixing_norm = Norm(block.interaction_norm), Norm(block.mixing_norm)
        self.value, self.interaction_out = (
            Linear(cast(ComplexLinear, block.value)),
            Linear(cast(ComplexLinear, block.interaction_out)),
        )
        self.mixing_in, self.mixing_out = (
            Linear(cast(ComplexLinear, mixing.linear_in)),
            Linear(cast(ComplexLinear, mixing.linear_out)),
        )
        self.aggregations = nn.ModuleList(twin_of(part) for part in block.aggregation.parts)
        self.gate_token, self.gate_context = GateLogit(block.gate_token), GateLogit(block.gate_context)
        self.agreement_gain = copy(block.agreement_gain)
        self.agreement_threshold = copy(block.agreement_threshold)
        self.interaction_act, self.mixing_act = Act(block.interaction_act), Act(mixing.act)
        self.interaction_scale = copy(block.interaction_scale.gamma)
        self.mixing_scale = copy(block.mixing_scale.gamma)

    def forward(self, z: Tensor) -> Tensor:
        """Complex (B, N, D) to complex (B, N, D)."""
        v = self.value(self.interaction_norm(z))
        a = sum(part(v) for part in self.aggregations)  # (B, 1 or N, D)
        (t_v, u_v), (t_a, u_a) = polar(v), polar(a)
        relative = u_a * u_v.conj()  # (B, N, D)
        agreed = relative.real.unflatten(-1, (self.n_heads, -1)).mean(dim=-1)  # (B, N, H)
        bonus = self.agreement_gain * (agreed - self.agreement_threshold)
        bonus = bonus.repeat_interleave(v.shape[-1] // self.n_heads, dim=-1)  # (B, N, D)
        keep = torch.sigmoid(self.gate_token(t_v, t_a, relative) + bonus)
        take = torch.sigmoid(self.gate_context(t_v, t_a, relative))
        z = z + self.interaction_scale * self.interaction_out(self.interaction_act(keep * v + take * a))
        return z + self.mixing_scale * self.mixing_out(self.mixing_act(self.mixing_in(self.mixing_norm(z))))


class Linear(nn.Module):
    """y = W z + b with complex W and b."""

    def __init__(self, linear: ComplexLinear) -> None:
        super().__init__()
        self.weight = joined(linear.weight_re, linear.weight_im)
        self.bias = None if linear.bias is None else joined(*linear.bias.chunk(2))

    def forward(self, z: Tensor) -> Tensor:
        return F.linear(z, self.weight, self.bias)


class Norm(nn.Module):
    """weight z / rms(z)."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        if not isinstance(norm, PreRMSNorm):
            raise unknown(norm, "norm=pre_rms")
        self.eps, self.weight = norm.eps, copy(norm.weight)

    def forward(self, z: Tensor) -> Tensor:
        r2 = z.real.square() + z.imag.square() + self.eps**2
        return z * (torch.rsqrt(r2.mean(dim=-1, keepdim=True)) * self.weight)


class Polynomial(nn.Module):
    """psi(t) = c_1 t + c_2 t^2 + ..., by Horner."""

    def __init__(self, psi: nn.Module) -> None:
        super().__init__()
        if not isinstance(psi, PolynomialPsi):
            raise unknown(psi, "psi=poly")
        self.coefficients = copy(psi.coefficients)

    def forward(self, t: Tensor) -> Tensor:
        *lower, last = (UNIT * self.coefficients).unbind()
        value = last * t
        for coefficient in reversed(lower):
            value = (value + coefficient) * t
        return value


class Fourier(nn.Module):
    """phi(u) = Re(w_1 u + w_2 u^2 + ...) with w_m = a_m - i b_m, by Horner."""

    def __init__(self, phi: Harmonic) -> None:
        super().__init__()
        self.weights = joined(phi.cosines, -phi.sines)

    def forward(self, u: Tensor) -> Tensor:
        *lower, last = (UNIT * self.weights).unbind()
        value = last * u
        for weight in reversed(lower):
            value = (value + weight) * u
        return value.real


class Act(nn.Module):
    """2 sigma(psi(t) + phi(u)) (1 + i rho)/(1 - i rho) z with rho = psi_rot(t)."""

    def __init__(self, act: PolarAct) -> None:
        super().__init__()
        self.psi, self.psi_rot = Polynomial(act.psi), Polynomial(act.psi_rot)
        self.phi = Fourier(cast(Harmonic, act.phi))

    def forward(self, z: Tensor) -> Tensor:
        t, u = polar(z)
        gain = 2 * torch.sigmoid(self.psi(t) + self.phi(u))
        half_turn = torch.complex(torch.ones_like(t), self.psi_rot(t))
        return gain * z * (half_turn / half_turn.conj())


class GateLogit(nn.Module):
    """psi_V(t_V) + psi_A(t_A) + phi(relative phase) + bias."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.psi_token, self.psi_context = Polynomial(gate.psi_token), Polynomial(gate.psi_context)
        self.phi, self.bias = Fourier(cast(Harmonic, gate.phi)), copy(gate.bias)

    def forward(self, t_token: Tensor, t_context: Tensor, relative: Tensor) -> Tensor:
        return self.psi_token(t_token) + (self.psi_context(t_context) + self.bias) + self.phi(relative)


class Magnitude(nn.Module):
    """A = sum_t w_t V_t with w = softmax over tokens of mean_head(psi(t) + phi(u))."""

    def __init__(self, aggregation: MagnitudeAggregation) -> None:
        super().__init__()
        self.n_heads = aggregation.n_heads
        self.psi, self.phi = Polynomial(aggregation.score.psi), Fourier(aggregation.score.phi)

    def forward(self, v: Tensor) -> Tensor:
        t, u = polar(v)
        score = (self.psi(t) + self.phi(u)).unflatten(-1, (self.n_heads, -1)).mean(dim=-1)  # (B, N, H)
        weights = score.softmax(dim=1).to(v.dtype)
        heads = v.unflatten(-1, (self.n_heads, -1))  # (B, N, H, D/H)
        return torch.einsum("bnh,bnhd->bhd", weights, heads).flatten(1).unsqueeze(1)  # (B, 1, D)


class Local(nn.Module):
    """A complex depthwise filter over the tokens."""

    def __init__(self, aggregation: LocalAggregation) -> None:
        super().__init__()
        self.columns = aggregation.columns
        self.weight = joined(aggregation.weight_re, aggregation.weight_im)  # (D, 1, rows, columns)

    def forward(self, v: Tensor) -> Tensor:
        image = v.transpose(1, 2).unflatten(2, (-1, self.columns or v.shape[1]))  # (B, D, rows, columns)
        padding = (self.weight.shape[-2] // 2, self.weight.shape[-1] // 2)
        return F.conv2d(image, self.weight, padding=padding, groups=len(self.weight)).flatten(2).transpose(1, 2)


def twin_of(part: nn.Module) -> nn.Module:
    """The complex twin of an aggregation."""
    if isinstance(part, MagnitudeAggregation):
        return Magnitude(part)
    if isinstance(part, LocalAggregation):
        return Local(part)
    raise unknown(part, "aggregation=[magnitude,local]")


def polar(z: Tensor) -> tuple[Tensor, Tensor]:
    """t = (r^2 - 1)/(r^2 + 1), real, and u = z / r, complex."""
    r2 = z.real.square() + z.imag.square() + EPS**2
    return (r2 - 1) / (r2 + 1), z * torch.rsqrt(r2)


def copy(parameter: Tensor) -> nn.Parameter:
    """An independent parameter of the same values."""
    return nn.Parameter(parameter.detach().clone())


def joined(re: Tensor, im: Tensor) -> nn.Parameter:
    """A complex parameter of two real ones."""
    return nn.Parameter(torch.complex(re.detach(), im.detach()))


def unknown(module: nn.Module, known: str) -> UserError:
    """The reference is written for the default block alone; anything else would not be the same equations."""
    return UserError(f"the complex reference does not know {type(module).__name__}", "suite=core", f"Use {known}.")
