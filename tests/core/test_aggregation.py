from __future__ import annotations

import cmath

import pytest
import reference
import torch
from cases import (
    AGGREGATIONS,
    CAUSAL,
    GLOBAL,
    N_TOKENS,
    D,
    assert_same,
    gaussian,
    local,
    make_block,
    perturbed,
    planes_of,
)
from cases import ragged_mask as ragged
from torch import Tensor

from cvkan.core import aggregation as agg

HEADS = [1, 2, 4]


def build(name: str, n_heads: int = 2, grid: tuple[int, ...] = (N_TOKENS,)) -> agg.Aggregation:
    return perturbed(AGGREGATIONS[name](d_complex=D, n_heads=n_heads, grid=grid))


def context(module: agg.Aggregation, z: Tensor, mask: Tensor | None = None) -> Tensor:
    return torch.complex(*module(planes_of(z), mask))


@pytest.mark.parametrize("mask", [None, ragged()], ids=["full", "ragged"])
@pytest.mark.parametrize("n_heads", HEADS)
@pytest.mark.parametrize("name", AGGREGATIONS)
def test_context_equals_the_reference(name: str, n_heads: int, mask: Tensor | None) -> None:
    module = build(name, n_heads)
    assert_same(
        lambda planes: module(planes, mask),
        lambda z: reference.batch(lambda v, valid: reference.aggregate(module, v, valid), z, mask),
        gaussian(3, N_TOKENS, D),
        module,
    )


@pytest.mark.parametrize("n_passes", [1, 2, 5])
def test_agreement_repeats_its_passes(n_passes: int) -> None:
    module = perturbed(agg.AgreementAggregation(D, 2, (N_TOKENS,), n_passes=n_passes, tau=2.0))
    z = gaussian(2, N_TOKENS, D)
    expected = reference.batch(lambda v, valid: reference.aggregate(module, v, valid), z)
    torch.testing.assert_close(context(module, z), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_float32_agrees_with_float64(name: str) -> None:
    module, z = build(name), gaussian(3, N_TOKENS, D)
    expected = context(module, z, ragged())
    actual = context(module.float(), z.to(torch.complex64), ragged())
    torch.testing.assert_close(actual, expected.to(torch.complex64), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", AGGREGATIONS)
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30])
def test_padded_tokens_change_nothing(name: str, poison: float) -> None:
    module, z, mask = build(name), gaussian(3, N_TOKENS, D), ragged()
    dirty = z.clone()
    dirty[~mask] = complex(poison, -poison)
    leaves = [[plane.requires_grad_() for plane in planes_of(x)] for x in (z, dirty)]
    clean_out, dirty_out = (module(tuple(pair), mask) for pair in leaves)
    for clean, other in zip(clean_out, dirty_out, strict=True):
        assert torch.equal(clean, other)
    found = [
        torch.autograd.grad(out[0].sum() + out[1].square().sum(), [*pair, *module.parameters()])
        for out, pair in ((clean_out, leaves[0]), (dirty_out, leaves[1]))
    ]
    for clean, other in zip(*found, strict=True):
        assert torch.equal(clean, other)
    assert found[0][0][~mask].abs().max() == 0


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_mask_of_ones_is_no_mask(name: str) -> None:
    module, z = build(name), gaussian(3, N_TOKENS, D)
    with_mask = context(module, z, torch.ones(3, N_TOKENS, dtype=torch.int64))
    torch.testing.assert_close(with_mask, context(module, z), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_other_samples_change_nothing(name: str) -> None:
    module, z = build(name), gaussian(3, N_TOKENS, D)
    other = z.clone()
    other[0], other[2] = 1e3 * gaussian(N_TOKENS, D, seed=8), 0
    assert torch.equal(context(module, z, ragged())[1], context(module, other, ragged())[1])


@pytest.mark.parametrize("name", GLOBAL)
def test_global_contexts_ignore_the_order_of_tokens(name: str) -> None:
    module, z = build(name), gaussian(2, N_TOKENS, D)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(context(module, z[:, order]), context(module, z), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_a_turn_of_all_tokens_turns_the_context(name: str) -> None:
    module, z = build(name), gaussian(2, N_TOKENS, D)
    with torch.no_grad():
        for parameter_name, parameter in module.named_parameters():
            if ".phi." in parameter_name:
                parameter.zero_()
    turn = cmath.exp(2.1j)
    torch.testing.assert_close(context(module, turn * z), turn * context(module, z), rtol=1e-12, atol=1e-12)


def test_phase_function_of_the_magnitude_score_breaks_that_symmetry() -> None:
    module, z = build("magnitude"), gaussian(2, N_TOKENS, D)
    turn = cmath.exp(2.1j)
    assert not torch.allclose(context(module, turn * z), turn * context(module, z), atol=1e-2)


@pytest.mark.parametrize("name", ["magnitude", "agreement"])
def test_heads_do_not_hear_each_other(name: str) -> None:
    module, z = build(name, n_heads=2), gaussian(2, N_TOKENS, D)
    other = z.clone()
    other[..., 2:] = gaussian(2, N_TOKENS, 2, seed=8)
    assert torch.equal(context(module, z)[..., :2], context(module, other)[..., :2])
    assert not torch.equal(build(name, 1)(planes_of(z))[0][..., :2], build(name, 1)(planes_of(other))[0][..., :2])


def test_sharp_agreement_finds_the_majority_phase() -> None:
    # 4 of 6 tokens at angle 0.5, two anywhere: the context is that of the crowd
    angles = torch.tensor([0.5, 0.5, 2.9, 0.5, -2.0, 0.5], dtype=torch.float64)
    z = torch.exp(1j * angles)[None, :, None].expand(1, 6, D)
    module = agg.AgreementAggregation(D, 1, (6,), n_passes=4, tau=20.0).double()
    torch.testing.assert_close(context(module, z), cmath.exp(0.5j) * torch.ones(1, 1, D, dtype=z.dtype))


def test_magnitude_starts_by_weighing_louder_tokens_more() -> None:
    z = torch.ones(1, 2, D, dtype=torch.complex64)
    z[0, 1] = 3j  # t = (9 - 1) / (9 + 1) = 0.8 against 0
    module = agg.MagnitudeAggregation(D, 1, (2,), sharpness=2.0)
    loud = torch.sigmoid(torch.tensor(1.6))
    torch.testing.assert_close(context(module, z)[0, 0, 0], torch.complex(1 - loud, 3 * loud), rtol=1e-5, atol=1e-6)


def test_magnitude_weighted_weighs_in_proportion_to_magnitude() -> None:
    z = torch.ones(1, 3, D, dtype=torch.complex128)
    z[0, 1], z[0, 2] = 3j, -2.0  # weights 1/6, 3/6, 2/6
    module = agg.MagnitudeWeightedAggregation(D, 1, (3,))
    expected = torch.full((1, 1, D), (1 + 3 * 3j - 2 * 2) / 6, dtype=torch.complex128)
    torch.testing.assert_close(context(module, z), expected, rtol=1e-5, atol=1e-5)


def test_magnitude_weighted_does_not_see_the_scale_of_its_input() -> None:
    module, z = build("magnitude_weighted"), gaussian(2, N_TOKENS, D)
    torch.testing.assert_close(context(module, 100 * z), 100 * context(module, z), rtol=1e-4, atol=1e-4)


def test_sum_of_parts_is_the_sum_of_their_contexts() -> None:
    module = build("agreement+local")
    z = gaussian(2, N_TOKENS, D)
    first, second = (context(part, z) for part in module.parts)
    assert (first.shape[1], second.shape[1]) == (1, N_TOKENS)
    torch.testing.assert_close(context(module, z), first + second, rtol=0, atol=0)


@pytest.mark.parametrize("parts", [("mean", "causal"), ("causal_filter", "local"), ("phase_attention", "causal")])
def test_a_sum_of_causal_and_other_parts_is_refused(parts: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"and .*: some are causal and some are not"):
        agg.SumAggregation(D, 2, (N_TOKENS,), [AGGREGATIONS[name] for name in parts])


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_causal_is_what_the_sums_and_blocks_are_told(name: str) -> None:
    assert build(name).causal == (name in CAUSAL)
    assert make_block(name).causal == (name in CAUSAL)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_samples_without_a_valid_token_give_zero_and_finite_gradients(name: str) -> None:
    module, mask = build(name), torch.zeros(2, N_TOKENS, dtype=torch.bool)
    mask[0] = True
    planes = [plane.requires_grad_() for plane in planes_of(gaussian(2, N_TOKENS, D))]
    out = module(tuple(planes), mask)
    assert all(plane[1].abs().max() == 0 and plane[0].abs().max() > 0 for plane in out)
    for gradient in torch.autograd.grad(out[0].sum() + out[1].sum(), [*planes, *module.parameters()]):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_silence_gives_zero_and_finite_gradients(name: str) -> None:
    module = build(name).float()
    planes = [torch.zeros(2, N_TOKENS, D, requires_grad=True) for _ in range(2)]
    out = module(tuple(planes))
    assert all(plane.abs().max() == 0 for plane in out)
    for gradient in torch.autograd.grad(out[0].sum() + out[1].sum(), [*planes, *module.parameters()]):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("mask", [None, ragged(3, 9)], ids=["full", "ragged"])
@pytest.mark.parametrize("name", AGGREGATIONS)
def test_any_number_of_tokens_is_taken_whatever_the_layout_was(name: str, mask: Tensor | None) -> None:
    module, longer, z = build(name), build(name, grid=(9,)), gaussian(3, 9, D)
    longer.load_state_dict(module.state_dict())
    assert torch.equal(context(module, z, mask), context(longer, z, mask))
    assert torch.equal(context(longer, z[:, :1]), context(module, z[:, :1]))


@pytest.mark.parametrize("mask", [None, ragged(3)], ids=["full", "ragged"])
@pytest.mark.parametrize("name", AGGREGATIONS)
def test_autocast_stays_near_float32(name: str, mask: Tensor | None) -> None:
    module, planes = build(name).float(), planes_of(gaussian(3, N_TOKENS, D).to(torch.complex64))
    full = torch.complex(*module(planes, mask))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = torch.complex(*(plane.float() for plane in module(planes, mask)))
    assert (half - full).abs().mean() / full.abs().mean() < 0.02


@pytest.mark.parametrize("name", ["mean", "magnitude_weighted", "local_box", "causal", "hierarchical"])
def test_sums_of_half_precision_values_run_in_float32(name: str) -> None:
    module = build(name, grid=(512,)).float()
    planes = tuple((1 + 0.01 * plane).bfloat16() for plane in planes_of(gaussian(1, 512, D)))
    half, full = module(planes), module(tuple(plane.float() for plane in planes))
    assert all(plane.dtype == torch.float32 for plane in half)
    torch.testing.assert_close(half, full, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize("name", AGGREGATIONS)
def test_blocks_take_shared_and_own_contexts_in_both_interactions(name: str, per_token: bool) -> None:
    block, z = perturbed(make_block(name, per_token=per_token)), gaussian(3, N_TOKENS, D)
    leaves = [plane.requires_grad_() for plane in planes_of(z)]
    out = block(tuple(leaves), ragged())
    assert out[0].shape == (3, N_TOKENS, D)
    for parameter, gradient in zip(
        [name for name, _ in block.named_parameters()],
        torch.autograd.grad(out[0].sum() + out[1].square().sum(), list(block.parameters())),
        strict=True,
    ):
        assert gradient.isfinite().all(), parameter
        assert gradient.abs().max() > 0, parameter
    if name in GLOBAL:  # the context of every token by itself is the one context
        shared = block.aggregation.forward
        block.aggregation.forward = lambda v, mask: tuple(x.expand(-1, N_TOKENS, -1) for x in shared(v, mask))
        torch.testing.assert_close(block(tuple(leaves), ragged()), out, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", AGGREGATIONS)
def test_compiled_without_breaks_for_any_batch_and_length(name: str) -> None:
    torch._dynamo.reset()
    module = build(name).float()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    for n_batch, n_tokens in ((3, N_TOKENS), (4, 9), (2, 11)):
        z, mask = gaussian(n_batch, n_tokens, D).to(torch.complex64), ragged(n_batch, n_tokens)
        with torch.compiler.set_stance("fail_on_recompile" if n_tokens == 11 else "default"):
            actual = torch.complex(*compiled(planes_of(z), mask))
        torch.testing.assert_close(actual, context(module, z, mask), rtol=1e-5, atol=1e-5)


def test_agreement_of_shared_and_own_contexts_is_one_formula() -> None:
    u = planes_of(torch.exp(1j * gaussian(2, N_TOKENS, D).real))
    shared = planes_of(torch.exp(1j * gaussian(2, 1, D, seed=3).real))
    own = tuple(plane.expand(2, N_TOKENS, D) for plane in shared)
    torch.testing.assert_close(agg.agreement(u, shared, 2), agg.agreement(u, own, 2), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: agg.MeanAggregation(6, 4, (3,)), "n_heads must divide d_complex, got n_heads=4 and d_complex=6"),
        (lambda: agg.AgreementAggregation(4, 1, (3,), n_passes=0), "n_passes must be at least 1, got 0"),
        (lambda: agg.SumAggregation(4, 1, (3,), []), "at least one part"),
        (lambda: agg.SumAggregation(4, 3, (3,), [local]), "n_heads must divide"),
    ],
)
def test_impossible_settings_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
