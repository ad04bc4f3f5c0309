from __future__ import annotations

import cmath
import math

import pytest
import torch
from cases import N_TOKENS, D, gaussian, perturbed, planes_of
from torch import Tensor

from cvkan.core.phase_attention import PhaseAttentionAggregation, heard, phase_attention


def weights(q: Tensor, k: Tensor, mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    """(B, N, N) of one head: with the unit vectors as values, contexts are the weights themselves."""
    n_tokens = q.shape[1]
    values = torch.eye(n_tokens, dtype=q.real.dtype).expand(len(q), -1, -1)
    if mask is not None:
        values = values * mask.unsqueeze(-1)
    found, imaginary = phase_attention(
        planes_of(q), planes_of(k), (values, torch.zeros_like(values)), 1, mask, is_causal
    )
    assert imaginary.abs().max() == 0
    return found


def context(module: PhaseAttentionAggregation, z: Tensor, mask: Tensor | None = None) -> Tensor:
    return torch.complex(*module(planes_of(z), mask))


def test_weights_are_the_softmax_of_the_real_hermitian_product() -> None:
    q, k = gaussian(2, N_TOKENS, D), gaussian(2, N_TOKENS, D, seed=1)
    scores = torch.einsum("btd,bsd->bts", q, k.conj()).real / math.sqrt(D)
    torch.testing.assert_close(weights(q, k), scores.softmax(dim=-1), rtol=1e-12, atol=1e-12)
    without_conjugate = torch.einsum("btd,bsd->bts", q, k).real / math.sqrt(D)
    assert not torch.allclose(weights(q, k), without_conjugate.softmax(dim=-1), atol=0.05)


def test_a_turn_of_all_tokens_leaves_the_weights_and_turns_the_context() -> None:
    module, z, turn = perturbed(PhaseAttentionAggregation(D, 1, (N_TOKENS,))), gaussian(2, N_TOKENS, D), cmath.exp(2.1j)
    q, k = module.query(z), module.key(z)
    torch.testing.assert_close(weights(turn * q, turn * k), weights(q, k), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(module.query(turn * z), turn * q, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(context(module, turn * z), turn * context(module, z), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(weights(turn * q, k), weights(q, k), atol=0.05)  # the phase between them is what counts


def test_untrained_attention_hears_tokens_in_phase() -> None:
    # three tokens at angle 0.5 and two opposite: each hears its own kind, by e^{+-sqrt(D)}
    z = torch.exp(1j * torch.tensor([0.5, 0.5, 0.5 + math.pi, 0.5, 0.5 + math.pi], dtype=torch.float64))
    z = z[None, :, None].expand(1, 5, D)
    own, other = math.exp(math.sqrt(D)), math.exp(-math.sqrt(D))
    expected = (3 * own - 2 * other) / (3 * own + 2 * other)
    found = context(PhaseAttentionAggregation(D, 1, (5,)).double(), z)
    torch.testing.assert_close(found[0, 0], expected * z[0, 0], rtol=1e-12, atol=1e-12)


def test_padded_tokens_have_no_weight_and_weights_sum_to_one() -> None:
    q = gaussian(2, N_TOKENS, D)
    mask = torch.tensor([[False, True, True, False, True, False], [True] * 6])
    for is_causal in (False, True):
        found = weights(q, q, mask, is_causal)
        assert found[0][:, ~mask[0]].abs().max() == 0
        heard = torch.ones(2, N_TOKENS, dtype=torch.float64)
        heard[0, 0] = 0 if is_causal else 1  # nothing is valid up to token 0
        torch.testing.assert_close(found.sum(dim=-1), heard)
        if is_causal:
            assert found.triu(1).abs().max() == 0


def test_no_softmax_runs_over_nothing() -> None:
    # a kernel may give NaN for a row without a key; such a row gets padded ones, every other row its valid ones
    mask = torch.tensor([[False, True, False], [False] * 3])
    assert heard(mask, is_causal=False).tolist() == [[[[False, True, False]]], [[[True, True, True]]]]
    first = [[True, False, False], [False, True, False], [False, True, False]]
    assert heard(mask, is_causal=True).tolist() == [[first], [torch.ones(3, 3).tril().bool().tolist()]]


def test_order_of_tokens_in_is_the_order_out() -> None:
    module, z = perturbed(PhaseAttentionAggregation(D, 2, (N_TOKENS,))), gaussian(2, N_TOKENS, D)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(context(module, z[:, order]), context(module, z)[:, order], rtol=1e-12, atol=1e-12)


def test_values_of_one_head_do_not_reach_another() -> None:
    q, v = gaussian(1, N_TOKENS, D), gaussian(1, N_TOKENS, D, seed=2)
    other = v.clone()
    other[..., D // 2 :] = 0
    first, second = (phase_attention(planes_of(q), planes_of(q), planes_of(x), 2)[0] for x in (v, other))
    assert torch.equal(first[..., : D // 2], second[..., : D // 2])
    assert second[..., D // 2 :].abs().max() == 0


@pytest.mark.parametrize("is_causal", [False, True])
def test_causal_mask_and_flag_agree(is_causal: bool) -> None:
    # without a mask the kernel's own flag is used, with one the two are joined
    module, z = perturbed(PhaseAttentionAggregation(D, 2, (N_TOKENS,), is_causal)), gaussian(2, N_TOKENS, D)
    everything = torch.ones(2, N_TOKENS, dtype=torch.bool)
    torch.testing.assert_close(context(module, z, everything), context(module, z), rtol=1e-13, atol=1e-13)


def test_half_precision_keeps_a_long_softmax_normalised() -> None:
    # 4096 equal weights of 1/4096 each: summed in bfloat16 they would stop growing at 1/16
    planes = tuple(torch.ones(1, 4096, 2, dtype=torch.bfloat16) for _ in range(2))
    out = phase_attention(planes, planes, planes, 1)
    torch.testing.assert_close(out[0].float(), torch.ones(1, 4096, 2), rtol=0.01, atol=0)
