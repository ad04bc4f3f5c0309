from __future__ import annotations

import cmath
import math

import pytest
import reference
import torch
from cases import N_TOKENS, D, assert_same, gaussian, make_block, perturbed, planes_of, ragged_mask
from torch import Tensor, nn

from cvkan.core.heads import EmergentHeads, FactoredHeads, Heads, OffsetHeads, PerHead
from cvkan.core.polarizing import Gate, PolarAct, PolarBlock
from cvkan.core.univariate import Harmonic, PolynomialPsi

KINDS = [EmergentHeads, OffsetHeads, FactoredHeads]
H = 2


def roots(n_heads: int) -> Tensor:
    """e^{2 pi i h / H} of the head h that each of D channels belongs to."""
    return torch.tensor([cmath.exp(2j * math.pi * (d * n_heads // D) / n_heads) for d in range(D)])


def exact(block: nn.Module) -> nn.Module:
    """The turns of offset heads in float64: the module rounds them to float32."""
    for module in block.modules():
        if isinstance(module, OffsetHeads):
            turn = roots(module.n_heads).to(torch.complex128)
            module.cos, module.sin = turn.real, turn.imag
    return block


def psi(module: nn.Module, z: Tensor) -> Tensor:
    """Magnitude function of z (N, D), of a shared one head by head."""
    if not isinstance(module, PerHead):
        return reference.psi(module, z)
    width = z.shape[-1] // module.n_heads
    return torch.cat([reference.psi(module.function, part) for part in z.split(width, dim=-1)], dim=-1)


def phi(module: nn.Module, u: Tensor) -> Tensor:
    if not isinstance(module, PerHead):
        return reference.phi(module, u)
    width = u.shape[-1] // module.n_heads
    return torch.cat([reference.phi(module.function, part) for part in u.split(width, dim=-1)], dim=-1)


def gate_logit(module: Gate, v: Tensor, a: Tensor) -> Tensor:
    relative = reference.unit(a) * reference.unit(v).conj()
    return module.bias + psi(module.psi_token, v) + psi(module.psi_context, a) + phi(module.phi, relative)


def block_reference(block: PolarBlock, z: Tensor, valid: Tensor) -> Tensor:
    """One sample (N, D) through a block with any heads, pointwise or broadcast."""
    heads = block.heads
    v = reference.linear(block.value, reference.norm(block.interaction_norm, z))
    if isinstance(heads, OffsetHeads):
        v = v * roots(H)
    if isinstance(heads, FactoredHeads):
        v = reference.linear(heads.project, v)
    a = reference.aggregate(block.aggregation, v, valid).expand(len(v), -1)
    if block.per_token:
        columns = [[reference.agreement(v[t], a[t], part) for t in range(len(v))] for part in reference.heads(D, H)]
        agreed = torch.stack([torch.stack(column) for column in columns], dim=-1)  # (N, H)
        extra = block.agreement_gain * (agreed - block.agreement_threshold)
        logit = gate_logit(block.gate_token, v, a) + extra.repeat_interleave(D // H, dim=-1)
        mixed = torch.sigmoid(logit) * v + torch.sigmoid(gate_logit(block.gate_context, v, a)) * a
    else:
        mixed = torch.sigmoid(psi(block.psi_context, a) + block.context_bias) * a
    act = block.interaction_act
    gain = 2 * torch.sigmoid(psi(act.psi, mixed) + phi(act.phi, reference.unit(mixed)))
    branch = gain * torch.exp(2j * torch.atan(psi(act.psi_rot, mixed))) * mixed
    if isinstance(heads, OffsetHeads):
        branch = branch * roots(H).conj()
    if isinstance(heads, FactoredHeads):
        branch = reference.linear(heads.join, branch)
    z = z + block.interaction_scale.gamma * reference.linear(block.interaction_out, branch)
    mixing = block.mixing
    hidden = reference.polar_act(mixing.act, reference.linear(mixing.linear_in, reference.norm(block.mixing_norm, z)))
    return z + block.mixing_scale.gamma * reference.linear(mixing.linear_out, hidden)


@pytest.mark.parametrize("mask", [None, ragged_mask()], ids=["full", "ragged"])
@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("aggregation", ["agreement", "local"])
def test_block_equals_the_reference(aggregation: str, kind: type[Heads], per_token: bool, mask: Tensor | None) -> None:
    block = exact(perturbed(make_block(aggregation, heads=kind, per_token=per_token)))
    assert_same(
        lambda planes: block(planes, mask),
        lambda z: reference.batch(lambda x, valid: block_reference(block, x, valid), z, mask),
        gaussian(3, N_TOKENS, D),
        block,
        None if mask is None else mask[..., None],
    )


@pytest.mark.parametrize("n_heads", [1, 2, 4])
def test_offset_heads_turn_their_channels_and_back(n_heads: int) -> None:
    module, z = OffsetHeads(D, n_heads).double(), gaussian(2, N_TOKENS, D)
    turned = module.enter(planes_of(z))
    torch.testing.assert_close(torch.complex(*turned), z * roots(n_heads), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(torch.complex(*module.leave(turned)), z, rtol=1e-6, atol=1e-6)


def test_offset_heads_do_not_weigh_on_a_checkpoint() -> None:
    assert not OffsetHeads(D, H).state_dict()


def through(heads: Heads, act: nn.Module, z: Tensor) -> Tensor:
    return torch.complex(*heads.leave(act(heads.enter(planes_of(z)))))


def test_the_same_function_of_the_absolute_phase_acts_at_other_angles_in_each_offset_head() -> None:
    act, z = PolarAct(D).double(), torch.ones(1, 1, D, dtype=torch.complex128)  # a cardioid: gain 2 sigma(cos theta)
    gain = through(OffsetHeads(D, H).double(), act, z).real[0, 0]
    expected = 2 * torch.sigmoid(roots(H).real.double())  # angles 0 and pi
    torch.testing.assert_close(gain, expected, rtol=1e-6, atol=1e-6)
    assert gain[0] - gain[-1] > 0.9
    plain = through(EmergentHeads(D, H), act, z).real[0, 0]
    torch.testing.assert_close(plain, plain[:1].expand(D))


def test_emergent_heads_leave_values_and_functions_alone() -> None:
    heads, z = EmergentHeads(D, H), planes_of(gaussian(2, N_TOKENS, D))
    assert heads.enter(z) is z
    assert heads.leave(z) is z
    assert heads.shared(PolynomialPsi) is PolynomialPsi
    assert not list(heads.parameters())


def n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("n_heads", [1, 2, 4])
def test_factored_heads_share_one_set_of_functions(n_heads: int) -> None:
    block, plain = (make_block(n_heads=n_heads, heads=kind) for kind in (FactoredHeads, EmergentHeads))
    for name in ("gate_token.psi_token", "gate_context.psi_context", "gate_token.phi", "interaction_act.psi_rot"):
        assert n_parameters(block.get_submodule(name)) * n_heads == n_parameters(plain.get_submodule(name))
    assert n_parameters(block.heads) == 4 * D * D  # two complex projections without bias
    assert n_parameters(block.mixing) == n_parameters(plain.mixing)  # it belongs to no head


def test_a_shared_function_does_the_same_in_every_head() -> None:
    psi, phi, act = (perturbed(PerHead(function, H)) for function in (PolynomialPsi(2), Harmonic(2), PolarAct(2)))
    z = gaussian(1, N_TOKENS, D // H)
    doubled = planes_of(torch.cat([z, z], dim=-1))
    t, u = psi.coordinates(doubled)
    outs = [psi(t), phi(u), torch.complex(*act(doubled))]
    inner = psi.function.coordinates(planes_of(z))
    alone = [psi.function(inner[0]), phi.function(inner[1]), torch.complex(*act.function(planes_of(z)))]
    for out, one in zip(outs, alone, strict=True):
        torch.testing.assert_close(out, torch.cat([one, one], dim=-1))


@pytest.mark.parametrize("kind", KINDS)
def test_untrained_heads_of_every_kind_are_the_same_polarizer_for_one_head(kind: type[Heads]) -> None:
    torch.manual_seed(0)
    block, z = make_block(n_heads=1, heads=kind), gaussian(2, N_TOKENS, D).to(torch.complex64)
    torch.manual_seed(0)
    plain = make_block(n_heads=1)
    for pair in zip(block.polarize(planes_of(z)), plain.polarize(planes_of(z)), strict=True):
        torch.testing.assert_close(*pair)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_that_do_not_divide_the_channels_are_refused(kind: type[Heads]) -> None:
    with pytest.raises(ValueError, match="n_heads must divide d_complex, got n_heads=3 and d_complex=4"):
        kind(4, 3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS[1:])
def test_compiled_block_with_heads_equals_the_eager_one(kind: type[Heads]) -> None:
    torch._dynamo.reset()
    block = perturbed(make_block(heads=kind)).float()
    planes = tuple(plane.float() for plane in planes_of(gaussian(2, N_TOKENS, D)))
    fast = torch.compile(block, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(fast(planes)[1], block(planes)[1], rtol=1e-4, atol=1e-4)
