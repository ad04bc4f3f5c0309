"""What a decoder may look at beside the code: nothing, or all states of the encoder.

Legend: B batch, N tokens that were read, T steps, H hidden units, S numbers of an encoder's state, h heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.core.linear import RealLinear

# What is made of the encoder's states once a sequence: keys and values (B, h, N, H / h), and who is valid.
Kept = tuple[Tensor, Tensor, Tensor]


class Memory(nn.Module):
    """Base of all memories, built as ``Memory(d_hidden, d_states)``.

    Args:
        d_hidden: hidden units H of the decoder.
        d_states: numbers S of a state of the encoder.

    Attributes:
        d_kept: numbers a token that the decoder can look at, S or 0.
    """

    d_kept: int

    def keep(self, states: Tensor | None, mask: Tensor) -> Kept | None:
        """What later steps look at, of states (B, N, S); mask (B, N), 1 = valid."""
        raise NotImplementedError

    def forward(self, h: Tensor, kept: Kept | None, start: int) -> Tensor:
        """Hidden units (B, T, H) of the steps from ``start`` on, with what they found in memory: (B, T, H)."""
        raise NotImplementedError


class NoMemory(Memory):
    """The code is all there is: an honest compressor."""

    d_kept = 0

    def __init__(self, d_hidden: int, d_states: int) -> None:
        super().__init__()

    def keep(self, states: Tensor | None, mask: Tensor) -> Kept | None:
        return None

    def forward(self, h: Tensor, kept: Kept | None, start: int) -> Tensor:
        return h


class AttentionMemory(Memory):
    """Every step attends to all states of the encoder. **Not a compressor**: N S numbers reach the decoder, not d.

    ::

        a_t = W_o concat_heads softmax(q_t K^T / sqrt(H / h)) V,    h'_t = tanh(W [h_t, a_t] + b)

    with q = W_q (h + w_t), K = W_k (states + w_n), V = W_v states, all without bias: 4 H^2 + (2 H + 1) H parameters for
    S = H. The sines and cosines w tell a step where it stands; without them it takes ten times as long to find its own
    token. The memory comes after the recurrent layers, which do not hear of it, so that any number of steps is looked
    up at once. With the code set to zero it decodes as well as with it: what it scores says nothing about the code.
    Source: Luong, Pham and Manning, 2015, eq. 5, with the heads of Vaswani et al., 2017.

    Args:
        d_hidden: see :class:`Memory`.
        d_states: see :class:`Memory`.
        n_heads: heads h, a divisor of H.

    Raises:
        ValueError: ``n_heads`` does not divide H.
    """

    def __init__(self, d_hidden: int, d_states: int, n_heads: int) -> None:
        super().__init__()
        if n_heads < 1 or d_hidden % n_heads:
            raise ValueError(
                f"n_heads must divide d_hidden, got {n_heads} and {d_hidden}; set memory.n_heads to a divisor"
            )
        self.n_heads, self.d_kept = n_heads, d_states
        self.query = RealLinear(d_hidden, d_hidden, bias=False)
        self.key = RealLinear(d_states, d_hidden, bias=False)
        self.value = RealLinear(d_states, d_hidden, bias=False)
        self.out = RealLinear(d_hidden, d_hidden, bias=False)
        self.merge = RealLinear(2 * d_hidden, d_hidden)

    def keep(self, states: Tensor | None, mask: Tensor) -> Kept | None:
        if states is None:
            raise ValueError("memory=attention looks at states of the encoder, got none; encode with states")
        key = self.heads(self.key(states + waves(0, states)))
        return key, self.heads(self.value(states)), mask.bool()[:, None, None]  # (B, 1, 1, N)

    def forward(self, h: Tensor, kept: Kept | None, start: int) -> Tensor:
        assert kept is not None
        key, value, valid = kept
        query = self.heads(self.query(h + waves(start, h)))
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=valid)  # (B, h, T, H / h)
        found = self.out(found.transpose(1, 2).flatten(2))  # (B, T, H)
        return torch.tanh(self.merge(torch.cat([h, found], dim=-1)))

    def heads(self, x: Tensor) -> Tensor:
        """(B, N, H) to (B, h, N, H / h)."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


def waves(start: int, x: Tensor) -> Tensor:
    """Sines and cosines (T, H) of the places from ``start`` on, for x (B, T, H): wavelengths 2 pi to 20000 pi.

    Source: Vaswani et al., "Attention is all you need", 2017, section 3.5.
    """
    n_steps, width = x.shape[-2:]
    place = torch.arange(start, start + n_steps, device=x.device)[:, None]  # (T, 1)
    channel = torch.arange(width, device=x.device)
    angle = place / 10_000 ** (channel.div(2, rounding_mode="floor") * 2 / width)  # (T, H)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).to(x.dtype)
