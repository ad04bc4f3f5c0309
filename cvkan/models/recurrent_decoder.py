"""From a code to a sequence, one step a token, by recurrent layers.

Legend: B batch, N tokens, T steps of one call, D numbers of a vector, d numbers of a code, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from cvkan.core.linear import RealLinear
from cvkan.models.autoencoder import Code, Decoder
from cvkan.models.memory import Memory
from cvkan.models.recurrent import RecurrentStack, State, per_token
from cvkan.spec import Spec


class RecurrentDecoder(Decoder):
    """One step a token: a recurrent stack that starts from the code and goes on from its own output.

    ::

        h_0 (and c_0 of an LSTM), each layer = tanh(W z + b)           code=sequence
        x_0 = s,   x_t = y_(t-1), or the true vector t-1 where forced
        h_t = stack(x_t, h_(t-1)),   y_t = W_y memory(h_t) + b_y

    s is learned and starts at 0. With ``code=token`` layers start from zeros, and z_t stands beside x_t at every step.
    With attention memory x_t passes a linear map of D to H first. No step hears of the true vector that it is to give.

    A step whose input does not depend on an output needs no call of its own: from one free step to the next, all
    steps run in one fused call. With few free steps that is as good as all at once, and the result is exact.

    Args:
        spec: see :class:`~cvkan.models.autoencoder.Decoder`, as ``d_latent``.
        d_latent: numbers d of a code.
        code: ``sequence`` or ``token``.
        cell: see :class:`~cvkan.models.recurrent.RecurrentStack`, as ``n_layers``, ``residual`` and ``dropout``.
        d_hidden: hidden units H.
        n_layers: layers.
        bidirectional: the encoder reads in both directions, so that its states are 2 H wide; for a memory alone.
        residual: sums around layers.
        dropout: probability of dropping an output of a layer.
        memory: constructor of what it may look at beside the code, ``memory(d_hidden, d_states)``.

    Raises:
        ValueError: an argument is out of range.
    """

    autoregressive = True

    def __init__(
        self,
        spec: Spec,
        *,
        d_latent: int,
        code: str,
        cell: str,
        d_hidden: int,
        n_layers: int,
        bidirectional: bool,
        residual: bool,
        dropout: float,
        memory: Callable[..., Memory],
    ) -> None:
        super().__init__(spec, d_latent, per_token(code))
        self.memory = memory(d_hidden=d_hidden, d_states=2 * d_hidden if bidirectional else d_hidden)
        self.d_memory = self.memory.d_kept
        self.enter = RealLinear(self.d_vector, d_hidden) if self.d_memory else nn.Identity()
        d_input = d_hidden if self.d_memory else self.d_vector
        self.stack = RecurrentStack(
            cell, d_input + (d_latent if self.per_token else 0), d_hidden, n_layers, residual=residual, dropout=dropout
        )
        self.n_states = 2 if cell == "lstm" else 1  # of a layer
        self.begin = None if self.per_token else RealLinear(d_latent, n_layers * self.n_states * d_hidden)
        self.start = nn.Parameter(torch.zeros(self.d_vector))
        self.out = RealLinear(d_hidden, self.d_vector)

    def forward(self, code: Code, mask: Tensor, gold: Tensor | None = None, forced: Tensor | None = None) -> Tensor:
        """See :meth:`~cvkan.models.autoencoder.Autoencoder.decode`."""
        if (gold is None) != (forced is None):
            raise ValueError("gold and forced belong together, got one of them; pass both or none")
        n_batch, n_tokens = mask.shape
        told = torch.zeros(n_tokens, dtype=torch.bool) if forced is None else forced.cpu()  # it decides the calls
        told = told.expand(n_batch, n_tokens)  # (B, N)
        kept = self.memory.keep(code.states, mask if code.mask is None else code.mask)
        states = self.states(code.z)
        x = self.start.expand(n_batch, 1, -1)
        outputs: list[Tensor] = []
        for begin, end in pairwise(borders(told)):
            if gold is not None:
                x = inputs(x, gold, told, begin, end)
            y, states = self.step(x, code.z[:, begin:end] if self.per_token else None, states)
            outputs.append(self.out(self.memory(y, kept, begin)))
            x = outputs[-1][:, -1:]  # (B, 1, D)
        return torch.cat(outputs, dim=1)

    def step(self, x: Tensor, z: Tensor | None, states: list[State] | None) -> tuple[Tensor, list[State]]:
        """T steps of the stack from inputs (B, T, D) and, with ``code=token``, their codes (B, T, d)."""
        x = self.enter(x)
        return self.stack(x if z is None else torch.cat([x, z], dim=-1), states)

    def states(self, z: Tensor) -> list[State] | None:
        """What the layers start from for codes (B, d); None for zeros."""
        if self.begin is None:
            return None
        start = torch.tanh(self.begin(z)).unsqueeze(0)
        start = start.to(torch.promote_types(start.dtype, torch.float32))  # autocast ends at the stack
        parts = [part.contiguous() for part in start.chunk(len(self.stack.layers) * self.n_states, dim=-1)]
        if self.n_states == 1:
            return [*parts]
        return list(zip(parts[::2], parts[1::2], strict=True))


def borders(told: Tensor) -> list[int]:
    """Borders of the fused calls, from 0 to N: a call begins where some sample's input is an output; told (B, N)."""
    free = (~told).any(dim=0)
    free[:1] = True
    return [*free.nonzero().flatten().tolist(), told.shape[1]]


def inputs(first: Tensor, gold: Tensor, told: Tensor, begin: int, end: int) -> Tensor:
    """Inputs (B, T, D) of the steps from ``begin`` to before ``end``.

    Args:
        first: (B, 1, D), what goes into the first one of samples that are not told: an output, or the start.
        gold: true vectors (B, N, D).
        told: (B, N) bool, who is told at which step.
        begin: first step of the call.
        end: first step of the next.
    """
    if begin and told[:, begin].any():
        first = torch.where(told[:, begin, None, None].to(first.device), gold[:, begin - 1 : begin], first)
    return first if end == begin + 1 else torch.cat([first, gold[:, begin : end - 1]], dim=1)
