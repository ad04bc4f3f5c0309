from __future__ import annotations

import cmath

import pytest
import reference
import torch
from cases import AGGREGATIONS, GLOBAL, GRID_2D, N_TOKENS, D, assert_same, gaussian, local, perturbed, planes_of
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


@pytest.mark.parametrize("mask", [None, ragged()], ids=["full", "ragged"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_local_on_a_grid_equals_the_reference(kernel_size: int, mask: Tensor | None) -> None:
    module = perturbed(agg.LocalAggregation(D, 2, GRID_2D, kernel_size))
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


@pytest.mark.parametrize("grid", [(N_TOKENS,), GRID_2D])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_local_reaches_exactly_its_kernel(grid: tuple[int, ...], kernel_size: int) -> None:
    module = perturbed(agg.LocalAggregation(D, 1, grid, kernel_size))
    reach = torch.autograd.functional.jacobian(
        lambda re: module((re, torch.zeros_like(re)))[0], torch.randn(1, N_TOKENS, D, dtype=torch.float64)
    )[0, :, :, 0]  # (N, D, N, D)
    reached = reach.abs().amax(dim=(1, 3)) > 0
    place = torch.cartesian_prod(*(torch.arange(n) for n in grid)).view(N_TOKENS, -1)
    distance = (place[:, None] - place[None]).abs().amax(-1)
    assert torch.equal(reached, distance <= kernel_size // 2)
    across = reach.abs().sum(dim=(0, 2))  # (D, D): each channel by itself
    assert torch.equal(across > 0, torch.eye(D, dtype=torch.bool))


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


def test_local_starts_as_a_low_pass_of_gain_one() -> None:
    for grid in ((9,), (9, 9)):
        module = agg.LocalAggregation(2, 1, grid, kernel_size=5)
        torch.testing.assert_close(module.weight_re.sum(dim=(1, 2, 3)), torch.ones(2))
        assert module.weight_re.flatten(1).argmax(dim=1).tolist() == [module.weight_re[0].numel() // 2] * 2


def test_sum_of_parts_is_the_sum_of_their_contexts() -> None:
    module = build("agreement+local")
    z = gaussian(2, N_TOKENS, D)
    first, second = (context(part, z) for part in module.parts)
    assert (first.shape[1], second.shape[1]) == (1, N_TOKENS)
    torch.testing.assert_close(context(module, z), first + second, rtol=0, atol=0)


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
        (lambda: agg.LocalAggregation(4, 1, (3,), kernel_size=4), "kernel_size must be odd and positive, got 4"),
        (lambda: agg.LocalAggregation(4, 1, (3,), kernel_size=-1), "kernel_size must be odd and positive, got -1"),
        (lambda: agg.LocalAggregation(4, 1, (2, 2, 2)), r"on a line or a grid, got the layout \(2, 2, 2\)"),
        (lambda: agg.SumAggregation(4, 1, (3,), []), "at least one part"),
        (lambda: agg.SumAggregation(4, 3, (3,), [local]), "n_heads must divide"),
    ],
)
def test_impossible_settings_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
