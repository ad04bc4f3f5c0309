from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from functools import partial

import pytest
import reference
import torch
from cases import AGGREGATIONS, N_TOKENS, D, assert_same, gaussian, make_block, perturbed, planes_of
from cases import ragged_mask as ragged
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cvkan.core.backbone import PolarBackbone
from cvkan.core.classic import ClassicBlock, MLPPsi, NetworkPsi, SharedPsi
from cvkan.core.heads import EmergentHeads, FactoredHeads, Heads, OffsetHeads, PerHead
from cvkan.core.norm import NoNorm, Norm, PreRMSNorm
from cvkan.core.univariate import PolynomialPsi, RBFPsi

NETWORKS = {"mlp": partial(MLPPsi, kan_hidden=2), "shared": partial(SharedPsi, kan_hidden=2)}
both_psi = pytest.mark.parametrize("psi", NETWORKS)
both_interactions = pytest.mark.parametrize("per_token", [True, False], ids=["pointwise", "broadcast"])


def make(aggregation: str = "mean", psi: str = "mlp", n_layers: int = 1, n_heads: int = 2, **options: object) -> object:
    """A block, or a stack of several."""

    def block(**sizes: object) -> ClassicBlock:
        return ClassicBlock(**sizes, aggregations={"only": AGGREGATIONS[aggregation]}, psi=NETWORKS[psi], **options)

    if n_layers == 1:
        return block(d_complex=D, n_layers=1, n_heads=n_heads, grid=(N_TOKENS,))
    return PolarBackbone(D, n_layers, n_heads, (N_TOKENS,), block)


def reference_network(module: NetworkPsi | PerHead, inputs: list[Tensor]) -> Tensor:
    """Outputs (P, D) of the inputs (P, D): the token's, if it has a say, then the context's."""
    if isinstance(module, PerHead):
        heads = zip(*(x.chunk(module.n_heads, dim=1) for x in inputs), strict=True)
        return torch.cat([reference_network(module.function, list(head)) for head in heads], dim=1)

    def layers(x: Tensor) -> Tensor:
        for layer in [module.first, *(part for part in module.between if isinstance(part, nn.Linear))]:
            x = layer.weight @ x + layer.bias
            x = x * (1 + torch.erf(x / math.sqrt(2))) / 2
        return module.last.weight @ x + module.last.bias

    if isinstance(module, SharedPsi):
        return torch.stack([layers(torch.cat([x[:, d] for x in inputs])) for d in range(inputs[0].shape[1])], dim=1)
    return layers(torch.cat([x.flatten() for x in inputs])).reshape(len(inputs[0]), -1)


def turns_of(heads: Heads) -> Tensor:
    """e^{2 pi i h / H} of every channel (D,) for heads of kind ``offset``, else 1."""
    turns = torch.ones(D, dtype=torch.complex128)
    if isinstance(heads, OffsetHeads):
        for h, channels in enumerate(reference.heads(D, heads.n_heads)):
            turns[list(channels)] = cmath.exp(2j * math.pi * h / heads.n_heads)
    return turns


def reference_block(block: ClassicBlock, z: Tensor, valid: Tensor) -> Tensor:
    """The stream (N, D) after the block."""
    v = reference.norm(block.branch_norm, z)
    turns = turns_of(block.heads)
    v = reference.linear(block.heads.project, v) if isinstance(block.heads, FactoredHeads) else v * turns
    contexts = reference.aggregate(block.aggregation, v, valid).expand(len(v), -1)
    steps = []
    for token, context in zip(v, contexts, strict=True):
        seen = [token, context] if block.per_token else [context]
        (m,) = reference_network(block.psi_mag, [torch.log(reference.radius(x))[None] for x in seen])
        unit = [reference.unit(x) for x in seen]
        q = torch.complex(*reference_network(block.psi_phase, [torch.stack([x.real, x.imag]) for x in unit]))
        step = torch.exp(5 * torch.tanh(m)) * q / q.abs().clamp(min=0.1)
        steps.append(step * reference.radius(context) if block.scale_free else step)
    u = torch.stack(steps)
    u = reference.linear(block.heads.join, u) if isinstance(block.heads, FactoredHeads) else u / turns
    return z + block.step * u


def assert_block_is_its_reference(block: ClassicBlock, mask: Tensor | None = None) -> None:
    def theirs(z: Tensor) -> Tensor:
        return reference.batch(lambda x, valid: reference_block(block, x, valid), z, mask)

    where = None if mask is None else mask[..., None]
    assert_same(lambda planes: block(planes, mask), theirs, gaussian(3, N_TOKENS, D), block, where)


@pytest.mark.parametrize("mask", [None, ragged()], ids=["full", "ragged"])
@both_interactions
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_block_equals_the_reference(aggregation: str, per_token: bool, mask: Tensor | None) -> None:
    assert_block_is_its_reference(perturbed(make(aggregation, per_token=per_token)), mask)


@both_interactions
@pytest.mark.parametrize("aggregation", ["mean", "local"])
def test_block_with_shared_functions_equals_the_reference(aggregation: str, per_token: bool) -> None:
    assert_block_is_its_reference(perturbed(make(aggregation, "shared", per_token=per_token)), ragged())


@both_psi
@both_interactions
@pytest.mark.parametrize("heads", [EmergentHeads, OffsetHeads, FactoredHeads])
def test_block_of_every_kind_of_heads_equals_the_reference(heads: type[Heads], per_token: bool, psi: str) -> None:
    block = perturbed(make("magnitude", psi, n_heads=4, heads=heads, per_token=per_token))
    if heads is OffsetHeads:  # double() keeps what float32 has rounded
        block.heads.cos, block.heads.sin = planes_of(turns_of(block.heads))
    assert_block_is_its_reference(block, ragged())


@pytest.mark.parametrize("options", [{"scale_free": False}, {"norm": NoNorm}, {"step": 0.7}], ids=str)
def test_block_with_other_options_equals_the_reference(options: dict[str, object]) -> None:
    assert_block_is_its_reference(perturbed(make("local", **options)))


@both_psi
@both_interactions
def test_short_phase_vectors_shrink_the_step_and_equal_the_reference(per_token: bool, psi: str) -> None:
    block = perturbed(make("mean", psi, per_token=per_token))
    with torch.no_grad():
        block.psi_phase.last.weight *= 1e-3
        block.psi_phase.last.bias *= 1e-2
    assert_block_is_its_reference(block)


@both_psi
@both_interactions
@pytest.mark.parametrize("heads", [EmergentHeads, OffsetHeads, FactoredHeads])
def test_untrained_step_is_the_size_of_the_context_at_phase_zero(heads: type[Heads], per_token: bool, psi: str) -> None:
    block = make("local", psi, per_token=per_token, heads=heads)
    v, a = (planes_of(gaussian(2, N_TOKENS, D, seed=seed).to(torch.complex64)) for seed in (1, 2))
    re, im = block.interact(v, a)
    torch.testing.assert_close(re, torch.complex(*a).abs(), rtol=1e-5, atol=1e-5)
    assert torch.equal(im, torch.zeros_like(im))
    original = make("local", psi, per_token=per_token, heads=heads, scale_free=False)
    assert torch.equal(original.interact(v, a)[0], torch.ones_like(re))


@both_psi
@both_interactions
@pytest.mark.parametrize("scale_free", [True, False])
def test_networks_of_magnitude_and_phase_start_with_gradients_of_like_size(
    psi: str, per_token: bool, scale_free: bool
) -> None:
    squares = [0.0, 0.0]
    for seed in range(10):  # one gradient of a few shared weights may be small by chance
        torch.manual_seed(seed)
        block = make("mean", psi, per_token=per_token, scale_free=scale_free)
        z, cotangent = gaussian(8, N_TOKENS, D, seed=seed), gaussian(8, N_TOKENS, D, seed=seed + 100)
        (block(z.to(torch.complex64)) * cotangent.conj()).real.sum().backward()
        for k, network in enumerate((block.psi_mag, block.psi_phase)):
            squares[k] += sum(p.grad.square().sum().item() for p in network.parameters())
    assert 1 / 30 < math.sqrt(squares[1] / squares[0]) < 30


@pytest.mark.parametrize("length", [1e-8, 1e-4, 0.05, 0.3])
def test_gradient_of_the_phase_is_bounded_however_short_its_vector(length: float) -> None:
    block = make(norm=NoNorm, scale_free=False).double()
    with torch.no_grad():
        block.psi_phase.last.bias.mul_(length)
    re, im = block.interact(*2 * [planes_of(gaussian(1, 1, D))])
    (gradient,) = torch.autograd.grad(re.sum() + im.sum(), block.psi_phase.last.bias)
    assert 0.0 < gradient.abs().max() <= 10.0 + 1e-9


@both_psi
def test_broadcast_leaves_differences_between_tokens_as_they_are_at_any_depth(psi: str) -> None:
    z = gaussian(2, N_TOKENS, D)
    for n_layers in (2, 12):
        stack = perturbed(make("mean", psi, n_layers, per_token=False), std=0.1)
        moved = stack(z) - z
        assert moved.abs().min() > 1e-3
        torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), rtol=1e-10, atol=1e-10)


@both_psi
@both_interactions
def test_untrained_step_follows_the_scale_of_the_input(per_token: bool, psi: str) -> None:
    z = gaussian(2, N_TOKENS, D)
    block = make("mean", psi, per_token=per_token, norm=NoNorm).double()
    torch.testing.assert_close(block(10 * z) - 10 * z, 10 * (block(z) - z), rtol=1e-3, atol=0)
    original = make("mean", psi, per_token=per_token, norm=NoNorm, scale_free=False).double()
    torch.testing.assert_close(original(10 * z) - 10 * z, original(z) - z)


@settings(max_examples=25, deadline=None)
@given(
    exponent=st.integers(-2, 4),
    psi=st.sampled_from(list(NETWORKS)),
    std=st.floats(0.1, 3.0),
    seed=st.integers(0, 99),
)
def test_trained_step_is_at_most_e_to_the_fifth_times_its_context(
    exponent: int, psi: str, std: float, seed: int
) -> None:
    block = perturbed(make("local", psi, norm=NoNorm), seed=seed, std=std)
    v, a = (gaussian(2, N_TOKENS, D, seed=s, scale=10.0**exponent) for s in (seed, seed + 1))
    step = torch.complex(*block.interact(planes_of(v), planes_of(a))).abs()
    assert (step <= math.exp(5) * reference.radius(a) * (1 + 1e-9)).all()


@both_interactions
@pytest.mark.parametrize("scale_free", [True, False])
@pytest.mark.parametrize("norm", [PreRMSNorm, NoNorm])
def test_twelve_untrained_layers_keep_stream_and_gradient_in_size(
    norm: type[Norm], scale_free: bool, per_token: bool
) -> None:
    stack = make("mean", n_layers=12, norm=norm, scale_free=scale_free, per_token=per_token).double()
    z = gaussian(4, N_TOKENS, D).requires_grad_()
    out, cotangent = stack(z), gaussian(4, N_TOKENS, D, seed=3)
    (gradient,) = torch.autograd.grad((out * cotangent.conj()).real.sum(), z)
    assert 0.9 < out.abs().square().mean().sqrt() < 1.1**12  # a residual around the residual gave 2^12
    assert 0.5 < gradient.norm() / cotangent.norm() < 1.1**12


@both_psi
def test_steps_of_a_deep_trained_stack_add_up_and_never_multiply(psi: str) -> None:
    stack = perturbed(make("mean", psi, n_layers=12), std=1.0)
    z = gaussian(4, N_TOKENS, D)
    largest_context = max(block.branch_norm.weight.abs().max() for block in stack.blocks) * math.sqrt(D) + 1e-3
    grown = (stack(z) - z).abs().max()
    assert 1.0 < grown <= 12 * 0.1 * math.exp(5) * largest_context


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_shared_functions_have_as_many_parameters_at_any_width() -> None:
    for n_planes, per_token in ((1, True), (1, False), (2, True), (2, False)):
        shared = [count(SharedPsi(d, 8, n_planes, per_token)) for d in (1, 64)]
        inputs = n_planes * (1 + per_token)
        assert shared == 2 * [inputs * 32 + 32 + 32 * n_planes + n_planes]


def test_networks_have_the_documented_widths() -> None:
    for n_planes, per_token in ((1, True), (1, False), (2, True), (2, False)):
        inputs, outputs, h = n_planes * (1 + per_token) * D, n_planes * D, 12
        expected = inputs * h + h + h * h + h + h * outputs + outputs
        assert count(MLPPsi(D, 3, n_planes, per_token)) == expected


def test_shared_functions_treat_all_channels_alike() -> None:
    order = torch.tensor([2, 0, 3, 1])
    block, z = perturbed(make("mean", "shared", norm=NoNorm)), gaussian(2, N_TOKENS, D)
    torch.testing.assert_close(block(z[..., order]), block(z)[..., order], rtol=1e-10, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(
    exponent=st.integers(-12, 4),
    aggregation=st.sampled_from(list(AGGREGATIONS)),
    psi=st.sampled_from(list(NETWORKS)),
    per_token=st.booleans(),
    scale_free=st.booleans(),
    norm=st.sampled_from([PreRMSNorm, NoNorm]),
    n_silent=st.sampled_from([0, 2, N_TOKENS]),
    seed=st.integers(0, 100),
)
def test_outputs_and_gradients_are_finite_at_every_magnitude(
    exponent: int,
    aggregation: str,
    psi: str,
    per_token: bool,
    scale_free: bool,
    norm: type[Norm],
    n_silent: int,
    seed: int,
) -> None:
    stack = make(aggregation, psi, 2, per_token=per_token, scale_free=scale_free, norm=norm)
    perturbed(stack, seed=seed).float()
    z = gaussian(2, N_TOKENS, D, seed=seed, scale=10.0**exponent).to(torch.complex64)
    z[:, :n_silent] = 0
    planes = [plane.requires_grad_() for plane in planes_of(z)]
    out = stack(tuple(planes))
    found = torch.autograd.grad(out[0].sum() + out[1].sum(), [*planes, *stack.parameters()])
    assert all(x.isfinite().all() for x in (*out, *found))


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
@both_interactions
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_padded_tokens_change_nothing_forward_or_backward(aggregation: str, per_token: bool, poison: float) -> None:
    block, z, mask = perturbed(make(aggregation, per_token=per_token)), gaussian(3, N_TOKENS, D), ragged()
    dirty = z.clone()
    dirty[~mask] = complex(-poison, poison)
    results = []
    for x in (z, dirty):
        planes = [plane.requires_grad_() for plane in planes_of(x)]
        out = [plane[mask] for plane in block(tuple(planes), mask)]
        found = torch.autograd.grad(out[0].sum() + out[1].square().sum(), [*planes, *block.parameters()])
        results.append([*out, *found])
    for clean, other in zip(*results, strict=True):
        assert torch.equal(clean, other)
        assert clean.isfinite().all()


@both_interactions
@pytest.mark.parametrize("aggregation", ["causal", "causal_filter"])
def test_no_token_hears_of_a_later_one_through_a_causal_context(aggregation: str, per_token: bool) -> None:
    stack, z = perturbed(make(aggregation, n_layers=2, per_token=per_token)), gaussian(2, N_TOKENS, D)
    later = z.clone()
    later[:, 3:] = gaussian(2, N_TOKENS - 3, D, seed=5)
    assert stack.causal
    assert torch.equal(stack(later)[:, :3], stack(z)[:, :3])
    earlier = z.clone()
    earlier[:, -2] *= -1
    assert (stack(earlier)[:, -1] - stack(z)[:, -1]).abs().max() > 1e-3


@both_psi
def test_networks_run_in_half_precision_under_autocast_and_the_step_does_not(psi: str) -> None:
    block = perturbed(make("mean", psi)).float()
    seen = []
    block.psi_phase.last.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    planes = [plane.requires_grad_() for plane in planes_of(gaussian(3, N_TOKENS, D).to(torch.complex64))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = block(tuple(planes))
    assert seen == [torch.bfloat16]
    assert {plane.dtype for plane in out} == {torch.float32}
    found = torch.autograd.grad(out[0].sum() + out[1].sum(), [*planes, *block.parameters()])
    assert all(x.isfinite().all() for x in found)
    half, full = torch.complex(*out), torch.complex(*block(tuple(planes)))
    assert 0 < (half - full).abs().mean() / full.abs().mean() < 0.05


def test_untrained_step_is_exact_under_autocast() -> None:
    z = planes_of(gaussian(2, N_TOKENS, D).to(torch.complex64))
    block = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = block(z)
    assert all(torch.equal(mine, full) for mine, full in zip(half, block(z), strict=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("psi", "per_token", "aggregation", "heads", "dynamic"),
    [
        ("mlp", True, "mean", OffsetHeads, False),
        pytest.param("mlp", True, "mean", OffsetHeads, True, marks=pytest.mark.slow),
        pytest.param("shared", True, "local", FactoredHeads, True, marks=pytest.mark.slow),
        pytest.param("mlp", False, "agreement", EmergentHeads, True, marks=pytest.mark.slow),
    ],
)
def test_block_compiles_to_one_graph_of_the_same_values(
    psi: str, per_token: bool, aggregation: str, heads: type[Heads], dynamic: bool
) -> None:
    block = perturbed(make(aggregation, psi, per_token=per_token, heads=heads)).float()
    torch._dynamo.reset()
    compiled = torch.compile(block, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for n_batch in (3, 4) if dynamic else (3,):
        results = []
        for function in (block, compiled):
            planes = [plane.float().requires_grad_() for plane in planes_of(gaussian(n_batch, N_TOKENS, D))]
            out = function(tuple(planes), ragged(n_batch))
            found = torch.autograd.grad(out[0].sum() + out[1].sin().sum(), [*planes, *block.parameters()])
            results.append([*out, *found])
        for eager, fast in zip(*results, strict=True):
            torch.testing.assert_close(fast, eager, rtol=1e-4, atol=1e-4)


def test_dropout_acts_in_training_only() -> None:
    block, z = make(dropout=0.5), gaussian(2, N_TOKENS, D).to(torch.complex64)
    assert not torch.equal(block(z), block(z))
    block.eval()
    assert torch.equal(block(z), block(z))


@pytest.mark.parametrize("psi", [PolynomialPsi, partial(PolynomialPsi, degree=4), RBFPsi])
def test_psi_of_one_magnitude_is_refused(psi: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"(Polynomial|RBF)Psi is a function .*; set psi=mlp or psi=shared"):
        ClassicBlock(D, 1, 1, (N_TOKENS,), {"only": AGGREGATIONS["mean"]}, psi=psi)


@both_psi
def test_networks_are_refused_by_the_polar_block(psi: str) -> None:
    with pytest.raises(ValueError, match=r"(MLP|Shared)Psi is a network .*; set psi=poly or psi=rbf, or block=classic"):
        make_block("mean", psi=NETWORKS[psi])


@pytest.mark.parametrize(
    ("refused", "text"),
    [
        ({"step": 0.0}, "step must be positive, got 0.0"),
        ({"step": math.nan}, "step must be positive, got nan"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
def test_impossible_options_are_refused(refused: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make(**refused)


def test_network_without_hidden_units_is_refused() -> None:
    with pytest.raises(ValueError, match="kan_hidden must be at least 1, got 0"):
        MLPPsi(D, 0, n_planes=1)
