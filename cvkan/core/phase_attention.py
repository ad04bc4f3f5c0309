"""Attention between all pairs of tokens, by the phase between query and key.

Legend: B batch, N tokens, D complex channels, H heads, d = D / H channels of a head.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from cvkan.core.aggregation import Aggregation, Grid
from cvkan.core.linear import ComplexLinear, masked
from cvkan.core.polar import Planes, at_least_float32, in_float16, no_autocast


class PhaseAttentionAggregation(Aggregation):
    """A_t = sum_s w_ts V_s with w_ts = softmax_s(Re(q_t conj k_s) / sqrt(d)) a head, q and k complex linear maps of V.

    Re(q_t conj k_s) is the sum over the head's channels of |q||k| cos(angle between them): loud tokens in phase with t
    are heard. The conjugate makes it a matter of relative phase: a turn of all tokens turns the context and leaves the
    weights alone; for the same reason the maps have no bias (that of the keys would cancel in the softmax anyway).
    They start at the identity, so that the untrained attention is the agreement of each token with each other.

    Cost: two complex linear maps and 2 N^2 D complex products, against a cost linear in N of all other aggregations;
    no (N, N) matrix is kept where torch has a fused kernel for the device. Under autocast to bfloat16 the products run
    in half precision, the softmax and its sums in float32 inside that kernel; under autocast to float16 all is float32,
    for scores grow with the square of the magnitudes, and 65504 is no place to stop.

    Source: Vaswani et al., "Attention is all you need", 2017, eq. 1, with the real part of the Hermitian product, one
    of the complex forms in Eilers and Jiang, "Building blocks for a complex-valued transformer architecture", 2023.

    Args:
        is_causal: a token hears itself and earlier ones only (on a grid: in the order of reading).
    """

    def __init__(self, d_complex: int, n_heads: int, grid: Grid, is_causal: bool = False) -> None:
        super().__init__(d_complex, n_heads, grid)
        self.causal = is_causal
        self.query = ComplexLinear(d_complex, d_complex, bias=False, identity=True)
        self.key = ComplexLinear(d_complex, d_complex, bias=False, identity=True)

    def forward(self, v: Planes, mask: Tensor | None = None) -> Planes:
        v = masked(v, mask)
        return phase_attention(self.query(v), self.key(v), v, self.n_heads, mask, self.causal)


def phase_attention(
    q: Planes, k: Planes, v: Planes, n_heads: int, mask: Tensor | None = None, is_causal: bool = False
) -> Planes:
    """sum_s softmax_s(Re(q_t conj k_s) / sqrt(d)) v_s, head by head.

    Args:
        q: queries, planes (B, N, D), finite.
        k: keys, planes (B, N, D), finite.
        v: values, planes (B, N, D'), with 0 at padded tokens.
        n_heads: heads H, a divisor of D and of D'.
        mask: (B, N), 1 = valid: the tokens that are heard.
        is_causal: token t hears the tokens s <= t.

    Returns:
        Planes (B, N, D'); 0 where no token is heard.
    """
    if in_float16(v[0]):
        q, k, v = at_least_float32(q), at_least_float32(k), at_least_float32(v)
    dtype = torch.promote_types(q[0].dtype, v[0].dtype)  # under autocast maps are half, and what they map may not be
    query, key, value = (by_head(x, n_heads).to(dtype) for x in (q, k, v))  # (B, H, N, 2d)
    scale = 1 / math.sqrt(q[0].shape[-1] // n_heads)  # d complex channels, though the rows are 2d wide
    with no_autocast(query) if in_float16(query) else nullcontext():
        out = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if mask is None else heard(mask.bool(), is_causal),
            is_causal=is_causal and mask is None,
            scale=scale,
        )
    re, im = (x.transpose(1, 2).flatten(2) for x in out.chunk(2, dim=-1))  # (B, N, D') each
    return re, im


def by_head(z: Planes, n_heads: int) -> Tensor:
    """Rows [re | im] of each head, planes (B, N, D) to (B, H, N, 2d): their dot product is Re(q conj k)."""
    re, im = (x.unflatten(-1, (n_heads, -1)) for x in z)  # (B, N, H, d)
    return torch.cat([re, im], dim=-1).transpose(1, 2)


def heard(mask: Tensor, is_causal: bool) -> Tensor:
    """Which tokens s enter the softmax of token t, bool (B, 1, 1 or N, N) of a mask (B, N).

    The valid ones. A token with none to hear would get a softmax over nothing, NaN in some kernels: it is given
    padded tokens, whose values are 0.
    """
    if not is_causal:
        return (mask | ~mask.any(dim=1, keepdim=True))[:, None, None, :]
    none_yet = mask.cumsum(dim=1) == 0  # (B, N): no valid token up to t
    past = torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool, device=mask.device).tril()  # (N, N)
    return (past & (mask[:, None, :] | none_yet[:, :, None])).unsqueeze(1)
