"""The polarizing block: tokens in phase with their context grow, the others fade.

Legend: B batch, N tokens, D complex channels, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from cvkan.core.aggregation import Aggregation, Grid, agreement
from cvkan.core.backbone import Block
from cvkan.core.centering import Centering, NoCentering
from cvkan.core.edge import PolarKANLinear
from cvkan.core.fused import Mix
from cvkan.core.heads import EmergentHeads, Heads
from cvkan.core.linear import ComplexLinear, RealScale, complex_dropout
from cvkan.core.norm import Norm, PreRMSNorm, branch_norm
from cvkan.core.polar import Planes, at_least_float32, complex_in_complex_out, gain_rotate, relative_phase
from cvkan.core.univariate import Harmonic, PolynomialPsi, Psi


class PolarAct(nn.Module):
    """z -> g e^{i angle} z with g = 2 sigma(psi(t) + phi(u)) in (0, 2) and angle = 2 atan(psi_rot(t)).

    Univariate functions of magnitude and phase, one set a channel. At the start psi = 0, no rotation and
    phi = cos(theta): a learned cardioid (Virtue, Yu and Lustig, "Better than real", 2017, with a sigmoid for its ramp).

    Args:
        d_complex: channels D.
        psi: constructor of the magnitude functions, ``psi(d_complex)``.
        phi: constructor of the phase function, ``phi(d_complex, n_harmonics, first_cosine)``.
        n_harmonics: harmonics of the phase function.
        first_cosine: a_1 of phi at the start.
    """

    def __init__(
        self,
        d_complex: int,
        psi: Callable[..., Psi] = PolynomialPsi,
        phi: Callable[..., nn.Module] = Harmonic,
        n_harmonics: int = 2,
        first_cosine: float = 1.0,
    ) -> None:
        super().__init__()
        self.psi = psi(d_complex)
        self.psi_rot = psi(d_complex)
        self.phi = phi(d_complex, n_harmonics, first_cosine)

    @complex_in_complex_out
    def forward(self, z: Planes) -> Planes:
        """Planes (..., D) to planes (..., D)."""
        t, u = self.psi.coordinates(z)
        return gain_rotate(z, self.psi(t) + self.phi(u), self.psi_rot(t))


class Gate(nn.Module):
    """Logit of g = 2 sigma(bias + psi_V(t_V) + psi_A(t_A) + phi(c, q)), in (0, 2), a token and channel.

    Args:
        d_complex: channels D.
        psi: constructor of the magnitude functions.
        phi: constructor of the phase function.
        bias: logit at the start; 0 gives g = 1.
    """

    def __init__(
        self,
        d_complex: int,
        psi: Callable[..., Psi],
        phi: Callable[..., nn.Module] = Harmonic,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.psi_token = psi(d_complex)
        self.psi_context = psi(d_complex)
        self.phi = phi(d_complex)
        self.bias = nn.Parameter(torch.full((d_complex,), bias))

    def forward(self, t_token: Tensor, t_context: Tensor, relative: Planes, extra: Tensor | None = None) -> Tensor:
        """Logits (B, N, D).

        Args:
            t_token: magnitude coordinate (B, N, D) of the tokens.
            t_context: magnitude coordinate (B, 1 or N, D) of the context.
            relative: (cos, sin) of the phase from context to token, each (B, N, D).
            extra: further logits, broadcast to (B, N, D).
        """
        logit = self.psi_token(t_token) + (self.psi_context(t_context) + self.bias) + self.phi(relative)
        return logit if extra is None else logit + extra


class ChannelMixing(nn.Module):
    """ComplexLinear, :class:`PolarAct`, ComplexLinear: the feed-forward part of a block, token by token.

    It starts small, so that an untrained block is little more than its interaction.

    Args:
        d_complex: channels D.
        psi: constructor of the magnitude functions.
        linear: constructor of the linear maps, ``linear(d_in, d_out, ...)`` as :class:`ComplexLinear`.
        expansion: hidden channels as a multiple of D.

    Raises:
        ValueError: ``expansion`` is not positive.
    """

    def __init__(
        self,
        d_complex: int,
        psi: Callable[..., Psi] = PolynomialPsi,
        linear: Callable[..., nn.Module] = ComplexLinear,
        expansion: float = 1.5,
    ) -> None:
        super().__init__()
        if expansion <= 0:
            raise ValueError(f"expansion must be positive, got {expansion}")
        d_hidden = max(1, round(expansion * d_complex))
        self.linear_in = linear(d_complex, d_hidden)
        self.act = PolarAct(d_hidden, psi)
        self.linear_out = linear(d_hidden, d_complex, gain=0.2)

    @complex_in_complex_out
    def forward(self, z: Planes) -> Planes:
        """Planes (..., D) to planes (..., D)."""
        return self.linear_out(self.act(self.linear_in(z)))


class PolarBlock(Block):
    """One layer: token interaction through a context, then channel mixing, both residual.

    ::

        V = heads.enter(ComplexLinear(norm(z))),  A = aggregation(V),  (c, q) = u_A conj(u_V)
        g_V = 2 sigma(b + psi(t_V) + psi(t_A) + phi(c, q) + w_h (a - b_h))    what a token keeps of itself
        g_A = 2 sigma(b + psi(t_V) + psi(t_A) + phi(c, q))                    what it takes of the context
        z  += gamma_1 ComplexLinear(heads.leave(PolarAct((g_V V + g_A A) / 2)))
        z  += gamma_2 mixing(norm(z))

    a is the agreement of a token with the context, the mean cosine over the channels of head h. With
    ``per_token=False`` the token has no say: g_A = 2 sigma(b + psi(t_A)) and the first branch is
    ComplexLinear(heads.leave(PolarAct(g_A A / 2))), the same vector for all tokens of a context. Padded tokens must
    be finite: a block on its own trusts them to be, :class:`PolarBackbone` sets them to 0. At the start the linear
    maps of the interaction are the identity and the channel mixing is small: the untrained block
    already is one pass of the closed-form polarizer of ``docs/core.md``, and training starts from there.

    Args:
        d_complex: channels D.
        n_layers: depth of the stack the block stands in; gamma starts at 1 up to 4 layers, at 0.1 beyond.
        n_heads: heads H.
        grid: layout of the tokens, see :class:`Aggregation`.
        aggregations: see :class:`Block`.
        per_token: pointwise interaction; False is broadcast.
        heads: constructor of the kind of heads, ``heads(d_complex, n_heads)``.
        norm: constructor of the normalisation, ``norm(d_complex)``.
        centering: see :class:`Block`.
        psi: constructor of the magnitude functions, ``psi(d_complex)``.
        linear: constructor of the linear maps, see :class:`ChannelMixing`.
        mixing: constructor of the channel mixing, ``mixing(d_complex, psi, linear)``.
        agreement_gain: w_h at the start: how sharply agreement decides.
        agreement_threshold: b_h at the start: the agreement at which a token keeps its size.
        context_bias: logit of g_A at the start.
        dropout: probability of dropping a complex number of a branch's output.
    """

    def __init__(
        self,
        d_complex: int,
        n_layers: int,
        n_heads: int,
        grid: Grid,
        aggregations: Mapping[str, Callable[..., Aggregation]],
        per_token: bool = True,
        heads: Callable[..., Heads] = EmergentHeads,
        norm: Callable[..., Norm] = PreRMSNorm,
        centering: Callable[..., Centering] = NoCentering,
        psi: Callable[..., Psi] = PolynomialPsi,
        linear: Callable[..., nn.Module] = ComplexLinear,
        mixing: Callable[..., nn.Module] = ChannelMixing,
        agreement_gain: float = 6.0,
        agreement_threshold: float = 0.3,
        context_bias: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(d_complex, n_heads, grid, aggregations, norm, centering)
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.n_heads, self.per_token, self.dropout = n_heads, per_token, dropout
        layer_scale = 1.0 if n_layers <= 4 else 0.1
        self.heads = heads(d_complex, n_heads)
        psi_head, phi_head = self.heads.shared(psi), self.heads.shared(Harmonic)
        self.interaction_norm = branch_norm(norm, d_complex)
        # Without bias: a turn of all tokens then turns V and A and leaves gates and weights as they are.
        self.value = linear(d_complex, d_complex, bias=False, identity=True)
        if per_token:
            self.gate_token = Gate(d_complex, psi_head, phi_head)
            self.gate_context = Gate(d_complex, psi_head, phi_head, bias=context_bias)
            self.agreement_gain = nn.Parameter(torch.full((n_heads,), agreement_gain))
            self.agreement_threshold = nn.Parameter(torch.full((n_heads,), agreement_threshold))
        else:
            self.psi_context = psi_head(d_complex)
            self.context_bias = nn.Parameter(torch.full((d_complex,), context_bias))
        self.interaction_act = PolarAct(d_complex, psi_head, phi_head)
        self.interaction_out = linear(d_complex, d_complex, identity=True)
        self.interaction_scale = RealScale(d_complex, layer_scale)
        self.mixing_norm = branch_norm(norm, d_complex)
        self.mixing = mixing(d_complex, psi, linear)
        self.mixing_scale = RealScale(d_complex, layer_scale)

    def update(self, z: Planes, mask: Tensor | None = None) -> tuple[Planes, Tensor | None]:
        v = self.heads.enter(self.value(self.interaction_norm(z, mask)))
        branch, gain = self.interact(v, self.aggregation(v, mask))
        branch = self.interaction_out(self.heads.leave(self.interaction_act(branch)))
        z = self.interaction_scale(complex_dropout(branch, self.dropout, self.training), z)
        branch = self.mixing(self.mixing_norm(z, mask))
        return self.mixing_scale(complex_dropout(branch, self.dropout, self.training), z), gain

    def interact(self, v: Planes, a: Planes) -> tuple[Planes, Tensor | None]:
        """What the values V (B, N, D) make of their context A (B, 1 or N, D).

        Returns:
            (g_V V + g_A A) / 2, planes (B, N, D), and g_V (B, N, D); or, not per token, g_A A / 2 and None.
        """
        coordinates = self.interaction_act.psi.coordinates
        if not self.per_token:
            t_a, _ = coordinates(a)
            take = torch.sigmoid(self.psi_context(t_a) + self.context_bias)
            re, im = at_least_float32(a)
            return (take * re, take * im), None
        (t_v, u_v), (t_a, u_a) = coordinates(v), coordinates(a)
        relative = relative_phase(u_a, u_v)
        agreed = agreement(u_v, u_a, self.n_heads)  # (B, N, H)
        logit = self.agreement_gain * (agreed - self.agreement_threshold)
        logit = logit.repeat_interleave(v[0].shape[-1] // self.n_heads, dim=-1)  # (B, N, D)
        re, im, gain = Mix.apply(
            *at_least_float32(v),
            *at_least_float32(a),
            self.gate_token(t_v, t_a, relative, logit),
            self.gate_context(t_v, t_a, relative),
        )
        return (re, im), gain


class EdgeMixing(nn.Module):
    """One :class:`~cvkan.core.edge.PolarKANLinear`: channels mix by a function of magnitude and phase on every edge.

    It starts small, so that an untrained block is little more than its interaction.

    Args:
        d_complex: channels D.
        psi: unused, the edges have functions of their own; all kinds of mixing are built alike.
        linear: unused, as psi.
        n_knots: knots of an edge's function.
        low: first knot, in units of log r.
        high: last knot, in units of log r.
        n_harmonics: highest power of the phase; 0 for none.
        gain: factor on the start.
    """

    def __init__(
        self,
        d_complex: int,
        psi: Callable[..., Psi] = PolynomialPsi,
        linear: Callable[..., nn.Module] = ComplexLinear,
        n_knots: int = 6,
        low: float = -3.0,
        high: float = 2.0,
        n_harmonics: int = 0,
        gain: float = 0.2,
    ) -> None:
        super().__init__()
        self.edges = PolarKANLinear(d_complex, d_complex, n_knots, low, high, n_harmonics, gain=gain)

    @complex_in_complex_out
    def forward(self, z: Planes) -> Planes:
        """Planes (..., D) to planes (..., D)."""
        return self.edges(z)
