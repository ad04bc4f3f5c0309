from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import reference
import torch
from cases import GRID_2D, N_TOKENS, D, assert_same, gaussian, perturbed, planes_of
from cases import ragged_mask as ragged
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvkan.core.aggregation import Aggregation
from cvkan.core.backbone import PolarBackbone
from cvkan.core.local import (
    CausalFilterAggregation,
    CausalMeanAggregation,
    HierarchicalAggregation,
    LocalAggregation,
    LocalBoxAggregation,
)
from cvkan.core.polarizing import PolarBlock


def context(module: Aggregation, z: Tensor, mask: Tensor | None = None) -> Tensor:
    return torch.complex(*module(planes_of(z), mask))


def assert_is_the_reference(module: Aggregation, z: Tensor, mask: Tensor | None, inert: tuple[str, ...] = ()) -> None:
    assert_same(
        lambda planes: module(planes, mask),
        lambda z: reference.batch(lambda v, valid: reference.aggregate(module, v, valid), z, mask),
        z,
        module,
        inert=inert,
    )


@pytest.mark.parametrize("mask", [None, ragged()], ids=["full", "ragged"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 9])
@pytest.mark.parametrize("kind", [LocalAggregation, LocalBoxAggregation])
@pytest.mark.parametrize("grid", [(N_TOKENS,), GRID_2D])
def test_windows_equal_the_reference(
    grid: tuple[int, ...], kind: Callable[..., Aggregation], kernel_size: int, mask: Tensor | None
) -> None:
    module = perturbed(kind(D, 2, grid, kernel_size))
    assert_is_the_reference(module, gaussian(3, N_TOKENS, D), mask)


@pytest.mark.parametrize("mask", [None, ragged()], ids=["full", "ragged"])
@pytest.mark.parametrize("kernel_size", [1, 2, 4, 9])
def test_causal_filters_equal_the_reference(kernel_size: int, mask: Tensor | None) -> None:
    module = perturbed(CausalFilterAggregation(D, 2, (N_TOKENS,), kernel_size))
    assert_is_the_reference(module, gaussian(3, N_TOKENS, D), mask)


@pytest.mark.parametrize("masked", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("grid", [(7,), (2, 3), (5, 7), (4, 4)])
@pytest.mark.parametrize("group_sizes", [[2], [2, 2], [3, 2], [4, 4]])
def test_hierarchies_equal_the_reference(grid: tuple[int, ...], group_sizes: list[int], masked: bool) -> None:
    n_tokens = int(torch.tensor(grid).prod())
    mask = torch.rand(3, n_tokens, generator=torch.Generator().manual_seed(0)) < 0.6 if masked else None
    module = perturbed(HierarchicalAggregation(D, 2, grid, group_sizes))
    # where level 1 joins all there is, level 2 has groups of one member, whose score does not matter
    inert = ("psi.coefficients", "phi.cosines", "phi.sines") if max(grid) <= group_sizes[0] else ()
    assert_is_the_reference(module, gaussian(3, n_tokens, D), mask, tuple(f"scores.1.{name}" for name in inert))


def test_causal_mean_of_a_grid_reads_row_by_row() -> None:
    module = CausalMeanAggregation(D, 1, GRID_2D)
    assert_is_the_reference(module, gaussian(2, N_TOKENS, D), ragged(2))


def reached(module: Aggregation, n_tokens: int) -> Tensor:
    """(N, N) bool: does the context of a token depend on another; every channel must hear itself alone."""
    reach = torch.autograd.functional.jacobian(
        lambda re: module((re, torch.zeros_like(re)))[0], torch.randn(1, n_tokens, D, dtype=torch.float64)
    )[0, :, :, 0]  # (N, D, N, D)
    across = reach.abs().sum(dim=(0, 2))  # (D, D)
    assert torch.equal(across > 0, torch.eye(D, dtype=torch.bool))
    return reach.abs().amax(dim=(1, 3)) > 0


@pytest.mark.parametrize("kind", [LocalAggregation, LocalBoxAggregation])
@pytest.mark.parametrize("grid", [(N_TOKENS,), GRID_2D])
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_windows_reach_exactly_their_kernel(
    kind: Callable[..., Aggregation], grid: tuple[int, ...], kernel_size: int
) -> None:
    place = torch.cartesian_prod(*(torch.arange(n) for n in grid)).view(N_TOKENS, -1)
    distance = (place[:, None] - place[None]).abs().amax(-1)
    assert torch.equal(reached(perturbed(kind(D, 1, grid, kernel_size)), N_TOKENS), distance <= kernel_size // 2)


@pytest.mark.parametrize("kernel_size", [1, 2, 5])
def test_causal_filter_reaches_its_last_tokens_and_itself(kernel_size: int) -> None:
    age = torch.arange(8)[:, None] - torch.arange(8)
    module = perturbed(CausalFilterAggregation(D, 1, (8,), kernel_size))
    assert torch.equal(reached(module, 8), (age >= 0) & (age < kernel_size))


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (partial(LocalAggregation, kernel_size=5), 2, 2),
        (partial(LocalBoxAggregation, kernel_size=5), 2, 2),
        (partial(CausalFilterAggregation, kernel_size=3), 2, 0),
    ],
)
def test_away_from_the_border_a_shift_of_tokens_shifts_the_contexts(
    kind: Callable[..., Aggregation], before: int, after: int
) -> None:
    module, z = perturbed(kind(D, 1, (12,))), gaussian(2, 12, D)
    whole, shifted = context(module, z), context(module, z[:, 3:])
    torch.testing.assert_close(shifted[:, before : 9 - after], whole[:, 3 + before : 12 - after], rtol=1e-12, atol=0)
    assert not torch.allclose(shifted[:, 0], whole[:, 3])  # at the border it does not


@pytest.mark.parametrize("kind", [LocalAggregation, LocalBoxAggregation, HierarchicalAggregation])
def test_grids_may_have_another_number_of_rows(kind: Callable[..., Aggregation]) -> None:
    module, taller, z = perturbed(kind(D, 1, GRID_2D)), kind(D, 1, (3, 3)).double(), gaussian(2, 9, D)
    taller.load_state_dict(module.state_dict())
    assert torch.equal(context(module, z), context(taller, z))


def test_box_is_the_mean_of_the_valid_neighbours() -> None:
    z = torch.tensor([1, 2j, 100, -4, 8], dtype=torch.complex128)[None, :, None].expand(1, 5, D)
    mask = torch.tensor([[True, True, False, True, True]])
    expected = torch.tensor([0.5 + 1j, 0.5 + 1j, -2 + 1j, 2, 2], dtype=torch.complex128)
    module = LocalBoxAggregation(D, 1, (5,), kernel_size=3)
    torch.testing.assert_close(context(module, z, mask)[0, :, 0], expected)


def test_box_over_everything_is_the_mean() -> None:
    z = gaussian(2, N_TOKENS, D)
    for grid in ((N_TOKENS,), GRID_2D):
        module = LocalBoxAggregation(D, 1, grid, kernel_size=2 * N_TOKENS + 1)
        torch.testing.assert_close(context(module, z), z.mean(dim=1, keepdim=True).expand_as(z), rtol=1e-12, atol=1e-12)


def test_causal_mean_ends_at_the_mean_and_is_zero_before_the_first_valid_token() -> None:
    z, mask = gaussian(2, N_TOKENS, D), torch.arange(N_TOKENS).expand(2, -1) >= 2
    found = context(CausalMeanAggregation(D, 1, (N_TOKENS,)), z, mask)
    torch.testing.assert_close(found[:, -1], z[:, 2:].mean(dim=1), rtol=1e-12, atol=1e-12)
    assert torch.equal(found[:, :2], torch.zeros_like(found[:, :2]))


def test_filters_start_as_low_passes_of_gain_one() -> None:
    for grid in ((9,), (9, 9)):
        module = LocalAggregation(2, 1, grid, kernel_size=5)
        torch.testing.assert_close(module.weight_re.sum(dim=(1, 2, 3)), torch.ones(2))
        assert module.weight_re.flatten(1).argmax(dim=1).tolist() == [module.weight_re[0].numel() // 2] * 2
    past = CausalFilterAggregation(2, 1, (9,), kernel_size=5).weight_re.detach()
    torch.testing.assert_close(past.sum(dim=(1, 2, 3)), torch.ones(2))
    assert (past.diff(dim=-1) > 0).all()  # the token itself, the last tap, weighs most


def test_hierarchy_starts_as_the_mean_of_its_levels() -> None:
    z = gaussian(1, 16, D)
    expected = sum(z.unflatten(1, (-1, g)).mean(dim=2).repeat_interleave(g, dim=1) for g in (4, 16)) / 2
    module = HierarchicalAggregation(D, 2, (16,), [4, 4], sharpness=0.0).double()
    torch.testing.assert_close(context(module, z), expected, rtol=1e-6, atol=1e-6)


def test_hierarchy_hears_louder_members_more_from_the_start() -> None:
    z = torch.ones(1, 2, D, dtype=torch.complex64)
    z[0, 1] = 3j  # t = (9 - 1) / (9 + 1) = 0.8 against 0
    module = HierarchicalAggregation(D, 1, (2,), [2], sharpness=2.0)
    loud = torch.sigmoid(torch.tensor(1.6))
    torch.testing.assert_close(context(module, z)[0, 0, 0], torch.complex(1 - loud, 3 * loud), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("grid", [(40,), (6, 11)])
def test_hierarchy_reaches_exactly_its_block(grid: tuple[int, ...]) -> None:
    n_tokens, edge = int(torch.tensor(grid).prod()), 16 if len(grid) == 1 else 4
    module = perturbed(HierarchicalAggregation(D, 1, grid, [4, 4] if len(grid) == 1 else [2, 2]))
    block = torch.cartesian_prod(*(torch.arange(n) for n in grid)).view(n_tokens, -1) // edge
    z = torch.randn(1, n_tokens, D, dtype=torch.float64, requires_grad=True)
    out = module((z, torch.zeros_like(z)))[0]
    for t in (0, 5, 17, n_tokens - 1):
        (gradient,) = torch.autograd.grad(out[0, t].sum(), z, retain_graph=True)
        assert torch.equal(gradient[0].abs().amax(dim=-1) > 0, (block == block[t]).all(dim=-1))


@pytest.mark.parametrize("per_token", [True, False])
def test_groups_stay_local_through_a_stack(per_token: bool) -> None:
    def block(**sizes: object) -> PolarBlock:
        return PolarBlock(**sizes, aggregations={"h": HierarchicalAggregation}, per_token=per_token)

    backbone, z = perturbed(PolarBackbone(D, 3, 2, (32,), block)).float(), gaussian(1, 32, D).to(torch.complex64)
    out = backbone(z)
    for changed, unheard in ((31, slice(0, 16)), (16, slice(0, 16)), (15, slice(16, 32))):
        other = z.clone()
        other[:, changed] += 10
        assert torch.equal(backbone(other)[:, unheard], out[:, unheard])
    other = z.clone()
    other[:, 15] += 10  # the far end of the block of token 0
    assert (backbone(other)[:, 0] - out[:, 0]).abs().max() > 1e-3


@settings(max_examples=25, deadline=None)
@given(
    grid=st.one_of(st.tuples(st.integers(1, 20)), st.tuples(st.integers(1, 7), st.integers(1, 7))),
    group_sizes=st.lists(st.integers(2, 5), min_size=1, max_size=3),
    seed=st.integers(0, 100),
)
def test_every_hierarchy_equals_the_reference(grid: tuple[int, ...], group_sizes: list[int], seed: int) -> None:
    n_tokens = int(torch.tensor(grid).prod())
    module = perturbed(HierarchicalAggregation(2, 1, grid, group_sizes), seed=seed)
    z = gaussian(1, n_tokens, 2, seed=seed)
    mask = torch.rand(1, n_tokens, generator=torch.Generator().manual_seed(seed)) < 0.7
    expected = reference.batch(lambda v, valid: reference.aggregate(module, v, valid), z, mask)
    torch.testing.assert_close(context(module, z, mask), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalAggregation(4, 1, (3,), kernel_size=4), "kernel_size must be odd and positive, got 4"),
        (lambda: LocalBoxAggregation(4, 1, (3,), kernel_size=-1), "kernel_size must be odd and positive, got -1"),
        (lambda: LocalAggregation(4, 1, (2, 2, 2)), r"on a line or a grid, got the layout \(2, 2, 2\)"),
        (lambda: LocalBoxAggregation(4, 1, (2, 2, 2)), r"on a line or a grid, got the layout \(2, 2, 2\)"),
        (lambda: HierarchicalAggregation(4, 1, (2, 2, 2)), r"on a line or a grid, got the layout \(2, 2, 2\)"),
        (lambda: HierarchicalAggregation(4, 1, (8,), []), r"at least one level of groups of 2 or more, got \[\]"),
        (
            lambda: HierarchicalAggregation(4, 1, (8,), [4, 1]),
            r"at least one level of groups of 2 or more, got \[4, 1\]",
        ),
        (lambda: CausalFilterAggregation(4, 1, (3,), kernel_size=0), "kernel_size must be at least 1, got 0"),
        (lambda: CausalFilterAggregation(4, 1, (2, 3)), r"tokens on a line, got the layout \(2, 3\)"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
