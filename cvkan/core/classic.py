"""The original block of the CV-KAN: networks of the context's magnitudes and phases give a small step for every token.

Legend: B batch, N tokens, M contexts (1 or N), D complex channels, H heads, P planes, h hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from cvkan.core.aggregation import Aggregation, Grid
from cvkan.core.backbone import Block
from cvkan.core.centering import Centering, NoCentering
from cvkan.core.heads import EmergentHeads, Heads
from cvkan.core.linear import RealLinear, complex_dropout, masked, real_linear
from cvkan.core.norm import Norm, PreRMSNorm, branch_norm
from cvkan.core.polar import Planes, at_least_float32, log_magnitude, squared_magnitude, unit_phase
from cvkan.core.univariate import Psi

# The bound of the logarithm of the gain, from the original.
LOG_RANGE = 5.0
# The shortest output of psi_phase that is brought to length 1: its direction has derivatives up to 1 / FLOOR, and
# shorter ones shrink the step. The untrained length is 1.
FLOOR = 0.1


class NetworkPsi(nn.Module):
    """Base of the networks psi_mag (P = 1 plane) and psi_phase (P = 2 planes) of :class:`ClassicBlock`.

    Built as ``NetworkPsi(d_complex, n_planes=P, per_token=True or False)``. At the start psi_mag is 0 and psi_phase
    is (1, 0), whatever they are shown: the last layer has weight 0.

    Args:
        n_inputs: features that the first layer reads of a token, and again of its context.
        n_outputs: outputs of the last layer, plane after plane.
        hidden: the layers between the first and the last.
        kan_hidden: a quarter of the hidden units, h = 4 kan_hidden.
        n_planes: P. Only :class:`ClassicBlock` names it.
        per_token: read the token beside its context.

    Raises:
        ValueError: built without ``n_planes``, as other blocks build their psi; ``kan_hidden`` not positive.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        hidden: Callable[[int], list[nn.Module]],
        kan_hidden: int,
        n_planes: int | None,
        per_token: bool,
    ) -> None:
        super().__init__()
        if n_planes is None:
            raise ValueError(
                f"{type(self).__name__} is a network for block=classic, and the block asks for functions of one "
                "magnitude; set psi=poly or psi=rbf, or block=classic"
            )
        if kan_hidden < 1:
            raise ValueError(f"kan_hidden must be at least 1, got {kan_hidden}")
        self.n_planes, n_hidden = n_planes, 4 * kan_hidden
        self.first = RealLinear((1 + per_token) * n_inputs * n_planes, n_hidden)
        self.last = RealLinear(n_hidden, n_outputs * n_planes)
        self.between = nn.Sequential(nn.GELU(), *hidden(n_hidden))
        with torch.no_grad():
            self.last.weight.zero_()
            self.last.bias.zero_()
            if n_planes == 2:
                self.last.bias[:n_outputs] = 1.0

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """Outputs (P, B, M, D), or (P, B, N, D) per token.

        Args:
            x: the context's planes (P, B, M, D), or per token the pair of the tokens' planes (P, B, N, D) and those.
        """
        if isinstance(x, Tensor):
            hidden = self.first(self.as_features(x))
        else:
            token, context = x
            # One layer of both side by side, its context half applied once a context and not once a token.
            weight_token, weight_context = self.first.weight.chunk(2, dim=1)
            hidden = real_linear(self.as_features(token), weight_token)
            hidden = hidden + real_linear(self.as_features(context), weight_context, self.first.bias)
        return self.as_planes(self.last(self.between(hidden)))

    def as_features(self, x: Tensor) -> Tensor:
        """Planes (P, ..., D) with the inputs of a network in the last dimension."""
        raise NotImplementedError

    def as_planes(self, y: Tensor) -> Tensor:
        """Planes (P, ..., D) of what the last layer gives."""
        raise NotImplementedError


class MLPPsi(NetworkPsi):
    """One network for all channels together: P D -> h -> h -> P D with GELU, twice the inputs per token.

    Source: ``psi_mag`` and ``psi_phase`` of the original CV-KAN, but for the start.

    Args:
        d_complex: channels D.
        kan_hidden: see :class:`NetworkPsi`.
        n_planes: see :class:`NetworkPsi`.
        per_token: see :class:`NetworkPsi`.
    """

    def __init__(
        self, d_complex: int, kan_hidden: int = 8, n_planes: int | None = None, per_token: bool = True
    ) -> None:
        super().__init__(d_complex, d_complex, lambda h: [RealLinear(h, h), nn.GELU()], kan_hidden, n_planes, per_token)

    def as_features(self, x: Tensor) -> Tensor:
        return x.movedim(0, -2).flatten(-2)  # (..., P D)

    def as_planes(self, y: Tensor) -> Tensor:
        return y.unflatten(-1, (self.n_planes, -1)).movedim(-2, 0)  # (P, ..., D)


class SharedPsi(NetworkPsi):
    """One small function, the same for all channels: P -> h -> P with GELU, twice the inputs per token.

    Its hidden layer holds (B, N, D, h) numbers. Source: the shared one-dimensional functions of the original
    CV-KAN, but for the start.

    Args:
        d_complex: channels D; no parameter depends on it.
        kan_hidden: see :class:`NetworkPsi`.
        n_planes: see :class:`NetworkPsi`.
        per_token: see :class:`NetworkPsi`.
    """

    def __init__(
        self, d_complex: int, kan_hidden: int = 8, n_planes: int | None = None, per_token: bool = True
    ) -> None:
        super().__init__(1, 1, lambda h: [], kan_hidden, n_planes, per_token)

    def as_features(self, x: Tensor) -> Tensor:
        return x.movedim(0, -1)  # (..., D, P)

    def as_planes(self, y: Tensor) -> Tensor:
        return y.movedim(-1, 0)  # (P, ..., D)


class ClassicBlock(Block):
    """The block of the original CV-KAN: a step whose length and phase are networks of the context.

    ::

        V = heads.enter(norm(z)),  A = aggregation(V),  s = log r,  u the unit phase
        m = psi_mag(s_V, s_A),  q = psi_phase(u_V, u_A),  p = q / max(|q|, 0.1)
        U = |A| exp(5 tanh m) p
        z += step heads.leave(U)

    With ``per_token=False`` the networks see the context alone: U is the same for all tokens of a context, and
    differences between tokens never change, at any depth, but by norms and centring of the stream.

    At the start m = 0 and p = 1: U = |A|. Padded tokens may hold anything.

    Source: the original CV-KAN, where U = exp(5 tanh m) q / |q|. What was wrong with it, and stands here otherwise:

    - q started at a random 1e-4, and its direction had 1000 times the gradient of m: q starts at (1, 0), and
      ``FLOOR`` bounds the derivative of the direction later.
    - s and u had infinite derivatives at z = 0: polar coordinates with a floor, see ``polar.py``. The factor |A|
      cancels the derivative of s there once more.
    - U ignored |A|, so that an input ten times as large got the same step: exp(s_A + 5 tanh m) follows the context
      and is at most e^5 times as long, whatever the networks have learned. ``scale_free=False`` takes |A| away again.
      In deep stacks: with ``norm=pre_rms`` A has about unit size, so that steps add up and never multiply; with
      ``norm=none`` a layer may grow the stream by a factor, untrained 1 + ``step`` at most.
    - a residual stood around this one, and doubled the stream each layer.
    - contexts of shape (B, N, D) crashed without ``per_token``.

    Args:
        d_complex: channels D.
        n_layers: unused; all blocks are built alike, and the step is small at any depth.
        n_heads: heads H.
        grid: layout of the tokens, see :class:`Aggregation`.
        aggregations: see :class:`Block`.
        per_token: pointwise interaction; False is broadcast.
        heads: constructor of the kind of heads, ``heads(d_complex, n_heads)``.
        norm: constructor of the normalisation, ``norm(d_complex)``.
        centering: see :class:`Block`.
        psi: constructor of a network, see :class:`NetworkPsi`.
        step: lambda, the factor on U; positive.
        scale_free: U follows the size of the context; False is the original.
        dropout: probability of dropping a complex number of U.

    Raises:
        ValueError: a psi of one magnitude, a step that is not positive, or a dropout outside [0, 1).
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
        psi: Callable[..., NetworkPsi] = MLPPsi,
        step: float = 0.1,
        scale_free: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(d_complex, n_heads, grid, aggregations, norm, centering)
        if not step > 0.0:
            raise ValueError(f"step must be positive, got {step}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        kind = psi.func if isinstance(psi, partial) else psi
        if isinstance(kind, type) and issubclass(kind, Psi):
            raise ValueError(
                f"{kind.__name__} is a function of one magnitude, and block=classic asks for networks; "
                "set psi=mlp or psi=shared, or another block"
            )
        self.per_token, self.step, self.scale_free, self.dropout = per_token, step, scale_free, dropout
        self.heads = heads(d_complex, n_heads)
        self.branch_norm = branch_norm(norm, d_complex)
        network = self.heads.shared(psi)
        self.psi_mag = network(d_complex, n_planes=1, per_token=per_token)
        self.psi_phase = network(d_complex, n_planes=2, per_token=per_token)

    def update(self, z: Planes, mask: Tensor | None = None) -> tuple[Planes, None]:
        z = masked(z, mask)
        v = self.heads.enter(self.branch_norm(z, mask))
        branch = self.heads.leave(self.interact(v, self.aggregation(v, mask)))
        re, im = complex_dropout(branch, self.dropout, self.training)
        return (torch.add(z[0], re, alpha=self.step), torch.add(z[1], im, alpha=self.step)), None

    def interact(self, v: Planes, a: Planes) -> Planes:
        """U, planes (B, N, D), of the values V (B, N, D) and their context A (B, M, D); not per token (B, M, D)."""
        log_r, phase, r2 = network_inputs(a)
        if self.per_token:
            log_r_token, phase_token, _ = network_inputs(v)
            m, q = self.psi_mag((log_r_token, log_r)), self.psi_phase((phase_token, phase))
        else:
            m, q = self.psi_mag(log_r), self.psi_phase(phase)
        # The networks may run in half precision, what follows may not; r^2 is float32 at least.
        q_re, q_im = q.to(r2.dtype).unbind()
        r = torch.exp(LOG_RANGE * torch.tanh(m[0].to(r2.dtype)))
        if self.scale_free:
            r = r * torch.sqrt(r2)
        factor = r * torch.rsqrt((q_re * q_re + q_im * q_im).clamp(min=FLOOR * FLOOR))
        return q_re * factor, q_im * factor


def network_inputs(z: Planes) -> tuple[Tensor, Tensor, Tensor]:
    """What the networks see of planes (B, N, D).

    Returns:
        log r (1, B, N, D), the unit phase (2, B, N, D) and r^2 (B, N, D), float32 at least.
    """
    z = at_least_float32(z)
    r2 = squared_magnitude(z)
    return log_magnitude(r2).unsqueeze(0), torch.stack(unit_phase(z, r2)), r2
