from __future__ import annotations

import cmath
from functools import partial

import pytest
import reference
import torch
from cases import AGGREGATIONS, GRID_2D, N_TOKENS, D, assert_same, gaussian, make_block, perturbed, planes_of
from cases import ragged_mask as ragged
from torch import Tensor, nn
from torch.autograd import gradcheck

from cvkan.core.aggregation import MeanAggregation
from cvkan.core.local import LocalAggregation
from cvkan.core.norm import NoNorm
from cvkan.core.polar import polar_coordinates, relative_phase
from cvkan.core.polarizing import ChannelMixing, Gate, PolarAct
from cvkan.core.univariate import PolynomialPsi, RBFPsi


def reference_block(block: nn.Module, mask: Tensor | None = None, part: int = 0) -> object:
    return lambda z: reference.batch(lambda x, valid: reference.block(block, x, valid)[part], z, mask)


@pytest.mark.parametrize("psi", [PolynomialPsi, RBFPsi])
def test_polar_act_equals_the_reference(psi: type[nn.Module]) -> None:
    module = perturbed(PolarAct(D, psi, n_harmonics=3))
    assert_same(module, lambda z: reference.polar_act(module, z), gaussian(2, N_TOKENS, D), module)


def test_polar_act_starts_as_a_cardioid() -> None:
    z = torch.exp(1j * torch.linspace(-3, 3, 9))[:, None]
    expected = 2 * torch.sigmoid(torch.cos(z.angle())) * z
    torch.testing.assert_close(PolarAct(1)(z), expected, rtol=1e-5, atol=1e-5)


def test_polar_act_bounds_its_gain() -> None:
    module, z = perturbed(PolarAct(D), std=0.7), gaussian(5, 50, D)
    gain = module(z).abs() / z.abs()
    assert 0 < gain.min() < 0.1
    assert 1.9 < gain.max() < 2


@pytest.mark.parametrize("n_contexts", [1, N_TOKENS])
@pytest.mark.parametrize("psi", [PolynomialPsi, RBFPsi])
def test_gate_equals_the_reference(psi: type[nn.Module], n_contexts: int) -> None:
    module, context = perturbed(Gate(D, psi, bias=0.5)), gaussian(2, n_contexts, D, seed=4)

    def ours(v: tuple[Tensor, Tensor]) -> Tensor:
        (t_v, u_v), (t_a, u_a) = (module.psi_token.coordinates(x) for x in (v, planes_of(context)))
        return module(t_v, t_a, relative_phase(u_a, u_v))

    assert_same(ours, lambda z: reference.gate_logit(module, z, context), gaussian(2, N_TOKENS, D), module)


def test_gate_adds_further_logits() -> None:
    module, extra = perturbed(Gate(D, PolynomialPsi)), gaussian(2, N_TOKENS, D, seed=5).real
    t, u = polar_coordinates(planes_of(gaussian(2, N_TOKENS, D)))
    torch.testing.assert_close(module(t, t, u, extra), module(t, t, u) + extra)


@pytest.mark.parametrize("mask", [None, ragged()], ids=["full", "ragged"])
@pytest.mark.parametrize("n_heads", [1, 2, 4])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_block_equals_the_reference(aggregation: str, n_heads: int, mask: Tensor | None) -> None:
    block = perturbed(make_block(aggregation, n_heads=n_heads))
    where = None if mask is None else mask[..., None]
    z = gaussian(3, N_TOKENS, D)
    assert_same(lambda planes: block(planes, mask), reference_block(block, mask), z, block, where)
    gain = block.polarize(planes_of(z), mask)[1]
    expected = reference_block(block, mask, part=1)(z)
    torch.testing.assert_close(
        gain * (where if where is not None else 1), expected * (where if where is not None else 1)
    )


@pytest.mark.parametrize("norm", [None, NoNorm])
def test_block_with_rbf_psi_on_a_grid_equals_the_reference(norm: type[nn.Module] | None) -> None:
    options = {} if norm is None else {"norm": norm}

    def window(d_complex: int, n_heads: int, grid: tuple[int, ...]) -> LocalAggregation:
        return LocalAggregation(d_complex, n_heads, grid, kernel_size=3)

    parts = {"mean": MeanAggregation, "local": window}
    block = perturbed(make_block(grid=GRID_2D, psi=RBFPsi, aggregations=parts, n_layers=9, **options))
    assert_same(block, reference_block(block), gaussian(2, N_TOKENS, D), block)


def test_block_gradients_pass_gradcheck() -> None:
    block = perturbed(make_block("agreement+local"))
    planes = tuple(plane.requires_grad_() for plane in planes_of(gaussian(2, 3, D)))
    mask = torch.tensor([[True, True, True], [True, False, True]])
    block.aggregation.parts[0].parts[1].grid = (3,)
    assert gradcheck(lambda re, im: tuple(x[mask] for x in block((re, im), mask)), planes, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_tensor_gives_the_complex_tensor_of_the_planes(dtype: torch.dtype) -> None:
    block, z = perturbed(make_block()).to(dtype.to_real()), gaussian(2, N_TOKENS, D).to(dtype)
    out = block(z)
    assert out.dtype == dtype
    assert torch.equal(out, torch.complex(*block(planes_of(z))))
    exact = reference_block(block.double())(z.to(torch.complex128))
    torch.testing.assert_close(
        out.to(torch.complex128), exact, rtol=1e-3 if dtype == torch.complex64 else 1e-10, atol=1e-4
    )


def test_a_turn_of_all_tokens_turns_the_interaction_but_not_the_gains() -> None:
    # everything before PolarAct sees relative phases only
    block, z = perturbed(make_block()), gaussian(2, N_TOKENS, D)
    turn = cmath.exp(1.3j)

    def interact(z: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        v = block.value(planes_of(z))
        return block.interact(v, block.aggregation(v))

    (re, im), gain = interact(z)
    turned, same_gain = interact(turn * z)
    torch.testing.assert_close(torch.complex(*turned), turn * torch.complex(re, im), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(same_gain, gain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("aggregation", ["mean", "magnitude", "agreement"])
def test_order_of_tokens_in_is_the_order_out(aggregation: str) -> None:
    block, z = perturbed(make_block(aggregation)), gaussian(2, N_TOKENS, D)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(block(z[:, order]), block(z)[:, order], rtol=1e-10, atol=1e-10)


def test_token_gain_differs_between_tokens_in_and_out_of_phase() -> None:
    z = torch.exp(1j * torch.tensor([0.0, 0.1, -0.1, 3.0, 0.0, 0.05]))[None, :, None].repeat(1, 1, D)
    gain = make_block().polarize(planes_of(z))[1][0].mean(-1)
    assert gain[[0, 1, 2, 4, 5]].min() > 1.9
    assert gain[3] < 0.01


def test_untrained_gain_is_the_agreement_gate_alone() -> None:
    # V = norm(z), psi = phi = 0: g_V = 2 sigma(6 (a - 0.3)); a = 1 when all tokens are equal
    z = torch.ones(1, N_TOKENS, D, dtype=torch.complex64)
    gain = make_block().polarize(planes_of(z))[1]
    torch.testing.assert_close(gain, torch.full_like(gain, 2 * torch.sigmoid(torch.tensor(4.2)).item()))


@pytest.mark.parametrize(("n_layers", "scale"), [(4, 1.0), (5, 0.1)])
def test_deep_stacks_start_with_small_layer_scales(n_layers: int, scale: float) -> None:
    block = make_block(n_layers=n_layers)
    for module in (block.interaction_scale, block.mixing_scale):
        torch.testing.assert_close(module.gamma, torch.full((D,), scale))


@pytest.mark.parametrize("expansion", [0.1, 1.0, 1.5])
def test_expansion_sets_the_hidden_channels(expansion: float) -> None:
    block = make_block(mixing=partial(ChannelMixing, expansion=expansion))
    hidden = max(1, round(expansion * D))
    assert (block.mixing.linear_in.d_out, block.mixing.linear_out.d_in) == (hidden, hidden)
    assert block(gaussian(1, N_TOKENS, D).to(torch.complex64)).shape == (1, N_TOKENS, D)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    z = gaussian(2, N_TOKENS, D).to(torch.complex64)
    block = make_block(dropout=0.5)
    assert not torch.equal(block(z), block(z))
    block.eval()
    assert torch.equal(block(z), block(z))
    plain = make_block(dropout=0.0)
    plain.load_state_dict(block.state_dict())
    assert torch.equal(block(z), plain(z))


def test_dropout_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), got 1.0"):
        make_block(dropout=1.0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("aggregation", ["agreement", "local"])
def test_compiled_block_equals_the_eager_one(aggregation: str) -> None:
    block = perturbed(make_block(aggregation)).float()
    compiled = torch.compile(block, fullgraph=True)
    results = []
    for function in (block, compiled):
        planes = [plane.float().requires_grad_() for plane in planes_of(gaussian(2, N_TOKENS, D))]
        out = function(tuple(planes), None)
        results.append([*out, *torch.autograd.grad(out[0].sum() + out[1].sin().sum(), [*planes, *block.parameters()])])
    for eager, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, eager, rtol=1e-4, atol=1e-4)
