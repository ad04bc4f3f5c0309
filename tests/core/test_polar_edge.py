"""``block=polar_edge``: the polar block with one edge-KAN layer as its channel mixing."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import reference
import torch
from cases import N_TOKENS, D, assert_same, gaussian, make_block, perturbed, planes_of
from cases import ragged_mask as ragged
from torch import Tensor, nn

from cvkan.core.backbone import PolarBackbone
from cvkan.core.polarizing import ChannelMixing, EdgeMixing, PolarBlock
from cvkan.core.univariate import RBFPsi


def edge_block(aggregation: str = "agreement", **options: object) -> PolarBlock:
    return make_block(aggregation, mixing=partial(EdgeMixing, **options))


def reference_edges(module: EdgeMixing, z: Tensor, n_knots: int, low: float, high: float) -> Tensor:
    """b_j + sum_i W_ji z_i + sum_k C_jki u_i exp(-((s_i - g_k)/h)^2), edge by edge; z (N, D)."""
    edges, h = module.edges, (high - low) / (n_knots - 1)
    w = torch.complex(edges.weight_re, edges.weight_im)
    c = torch.complex(edges.coefficients_re, edges.coefficients_im)
    s, u = torch.log(reference.radius(z)), reference.unit(z)
    columns = []
    for j in range(D):
        y = torch.complex(edges.bias[j], edges.bias[D + j]) * torch.ones_like(z[:, 0])
        for i in range(D):
            y = y + w[j, i] * z[:, i]
            for k in range(n_knots):
                y = y + c[j, k, i] * u[:, i] * torch.exp(-(((s[:, i] - low - k * h) / h) ** 2))
        columns.append(y)
    return torch.stack(columns, dim=1)


def reference_block(block: PolarBlock, z: Tensor, valid: Tensor) -> Tensor:
    """The interaction of the polar block's own reference, then the edges in the place of its mixing."""
    mute = nn.Parameter(torch.zeros(D, dtype=torch.float64))
    names = ("interaction_norm", "value", "aggregation", "gate_token", "gate_context", "n_heads", "agreement_gain")
    names += ("agreement_threshold", "interaction_act", "interaction_out", "interaction_scale", "mixing_norm")
    part = SimpleNamespace(**{name: getattr(block, name) for name in names})
    part.mixing, part.mixing_scale = ChannelMixing(D).double(), SimpleNamespace(gamma=mute)
    z, _ = reference.block(part, z, valid)
    return z + block.mixing_scale.gamma * reference_edges(block.mixing, reference.norm(block.mixing_norm, z), 6, -3, 2)


@pytest.mark.parametrize("mask", [None, ragged()], ids=["full", "ragged"])
@pytest.mark.parametrize("aggregation", ["agreement", "local"])
def test_block_equals_the_reference(aggregation: str, mask: Tensor | None) -> None:
    block = perturbed(edge_block(aggregation))
    where = None if mask is None else mask[..., None]

    def theirs(z: Tensor) -> Tensor:
        return reference.batch(lambda x, valid: reference_block(block, x, valid), z, mask)

    assert_same(lambda planes: block(planes, mask), theirs, gaussian(3, N_TOKENS, D), block, where)


def test_options_of_the_knots_reach_the_edges() -> None:
    mixing = perturbed(EdgeMixing(D, n_knots=3, low=-1.0, high=4.0))
    assert_same(
        mixing,
        lambda z: reference.batch(lambda x, _: reference_edges(mixing, x, 3, -1.0, 4.0), z),
        gaussian(2, N_TOKENS, D),
        mixing,
    )


def test_edges_without_harmonics_turn_with_their_inputs_and_with_them_do_not() -> None:
    z, turn = gaussian(2, N_TOKENS, D), torch.exp(torch.tensor(0.7j))
    for n_harmonics, commutes in ((0, True), (2, False)):
        mixing = perturbed(EdgeMixing(D, n_harmonics=n_harmonics))
        with torch.no_grad():
            mixing.edges.bias.zero_()
        assert torch.allclose(mixing(turn * z), turn * mixing(z)) is commutes


def test_edges_start_at_a_fifth_of_their_input() -> None:
    torch.manual_seed(0)
    z = gaussian(64, 8, 64).to(torch.complex64)
    out = EdgeMixing(64)(z)
    assert out.abs().square().mean().sqrt().item() == pytest.approx(0.2, rel=0.1)


def test_mixing_has_knots_plus_one_times_the_parameters_of_one_linear_map() -> None:
    mixing = EdgeMixing(D, RBFPsi, n_knots=6)
    assert sum(parameter.numel() for parameter in mixing.parameters()) == 7 * 2 * D * D + 2 * D


def test_padded_tokens_change_nothing_forward_or_backward() -> None:
    def block(**sizes: object) -> nn.Module:
        return edge_block("agreement+local", n_harmonics=2)

    stack = perturbed(PolarBackbone(D, 2, 2, (N_TOKENS,), block), std=0.2)
    z, mask = gaussian(3, N_TOKENS, D), ragged()
    dirty = z.masked_fill(~mask[..., None], complex(torch.nan, torch.inf))
    results = []
    for x in (z, dirty):
        planes = [plane.requires_grad_() for plane in planes_of(x)]
        out = [plane[mask] for plane in stack(tuple(planes), mask)]
        found = torch.autograd.grad(out[0].sum() + out[1].square().sum(), [*planes, *stack.parameters()])
        results.append([*out, *found])
    for clean, other in zip(*results, strict=True):
        assert torch.equal(clean, other)
        assert clean.isfinite().all()


@pytest.mark.filterwarnings("ignore")
def test_block_compiles_to_one_graph_of_the_same_values() -> None:
    block = perturbed(edge_block("mean", n_harmonics=2)).float()
    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    results = []
    for function in (block, compiled):
        planes = [plane.float().requires_grad_() for plane in planes_of(gaussian(2, N_TOKENS, D))]
        out = function(tuple(planes), None)
        found = torch.autograd.grad(out[0].sum() + out[1].sin().sum(), [*planes, *block.parameters()])
        results.append([*out, *found])
    for eager, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, eager, rtol=1e-4, atol=1e-4)
