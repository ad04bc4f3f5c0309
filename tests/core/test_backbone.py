from __future__ import annotations

import pytest
import reference
import torch
from cases import AGGREGATIONS, GRID_2D, N_TOKENS, D, assert_same, gaussian, perturbed, planes_of
from cases import ragged_mask as ragged
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cvkan.core import fused
from cvkan.core.backbone import PolarBackbone
from cvkan.core.local import LocalAggregation
from cvkan.core.norm import NoNorm, PreRMSNorm
from cvkan.core.polarizing import PolarBlock
from cvkan.core.univariate import PolynomialPsi, RBFPsi


def build(
    aggregation: str = "agreement+local",
    n_layers: int = 2,
    n_heads: int = 2,
    d: int = D,
    n: int = N_TOKENS,
    **options: object,
) -> PolarBackbone:
    def block(**sizes: object) -> nn.Module:
        return PolarBlock(**sizes, aggregations={"only": AGGREGATIONS[aggregation]}, **options)

    return PolarBackbone(d, n_layers, n_heads, (n,), block)


@pytest.mark.parametrize("mask", [None, ragged()], ids=["full", "ragged"])
def test_backbone_is_its_blocks_one_after_the_other(mask: Tensor | None) -> None:
    backbone = perturbed(build(), std=0.2)

    def theirs(z: Tensor) -> Tensor:
        for block in backbone.blocks:
            z = reference.batch(lambda x, valid, block=block: reference.block(block, x, valid)[0], z, mask)
        return z

    where = None if mask is None else mask[..., None]
    assert_same(lambda planes: backbone(planes, mask), theirs, gaussian(3, N_TOKENS, D), backbone, where)


def test_trace_holds_stream_and_gain_of_every_layer() -> None:
    backbone, planes = perturbed(build(n_layers=3)), planes_of(gaussian(2, N_TOKENS, D))
    trace = backbone.trace(planes)
    z = planes
    for block, layer in zip(backbone.blocks, trace, strict=True):
        z, gain = block.polarize(z)
        assert torch.equal(layer.z[0], z[0])
        assert torch.equal(layer.gain, gain)
    assert torch.equal(trace[-1].z[1], backbone(planes)[1])
    assert all(0 < layer.gain.min() < layer.gain.max() < 2 for layer in trace)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30])
def test_padded_tokens_change_nothing_forward_or_backward(aggregation: str, poison: float) -> None:
    backbone, z, mask = perturbed(build(aggregation)), gaussian(3, N_TOKENS, D), ragged()
    dirty = z.clone()
    dirty[~mask] = complex(-poison, poison)
    results = []
    for x in (z, dirty):
        planes = [plane.requires_grad_() for plane in planes_of(x)]
        out = [plane[mask] for plane in backbone(tuple(planes), mask)]
        results.append(
            [*out, *torch.autograd.grad(out[0].sum() + out[1].square().sum(), [*planes, *backbone.parameters()])]
        )
    for clean, other in zip(*results, strict=True):
        assert torch.equal(clean, other)
        assert clean.isfinite().all()


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_other_samples_change_nothing(aggregation: str) -> None:
    backbone, z = perturbed(build(aggregation)).float(), gaussian(3, N_TOKENS, D).to(torch.complex64)
    other = z.clone()
    other[[0, 2]] = 100 * gaussian(2, N_TOKENS, D, seed=8).to(torch.complex64)
    assert torch.equal(backbone(z)[1], backbone(other)[1])


@pytest.mark.parametrize("aggregation", ["mean", "magnitude", "agreement"])
def test_padding_to_a_greater_length_changes_nothing(aggregation: str) -> None:
    backbone, z = perturbed(build(aggregation)), gaussian(2, N_TOKENS, D)
    longer = torch.cat([z, gaussian(2, 3, D, seed=7)], dim=1)
    mask = torch.arange(N_TOKENS + 3).expand(2, -1) < N_TOKENS
    torch.testing.assert_close(backbone(longer, mask)[:, :N_TOKENS], backbone(z), rtol=1e-10, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(
    exponent=st.integers(-12, 4),
    sizes=st.sampled_from([(1, 1, 1, 1), (2, 1, 4, 2), (1, 6, 2, 1), (3, 5, 4, 4), (2, 9, 6, 3)]),
    aggregation=st.sampled_from(list(AGGREGATIONS)),
    psi=st.sampled_from([PolynomialPsi, RBFPsi]),
    norm=st.sampled_from([PreRMSNorm, NoNorm]),
    n_silent=st.integers(0, 2),
    seed=st.integers(0, 100),
)
def test_outputs_and_gradients_are_finite_at_every_magnitude(
    exponent: int,
    sizes: tuple[int, int, int, int],
    aggregation: str,
    psi: type[nn.Module],
    norm: type[nn.Module],
    n_silent: int,
    seed: int,
) -> None:
    n_batch, n_tokens, d, n_heads = sizes
    backbone = build(aggregation, n_heads=n_heads, d=d, n=n_tokens, psi=psi, norm=norm)
    perturbed(backbone, seed=seed).float()
    z = gaussian(n_batch, n_tokens, d, seed=seed, scale=10.0**exponent).to(torch.complex64)
    z[:, :n_silent] = 0
    planes = [plane.requires_grad_() for plane in planes_of(z)]
    out = backbone(tuple(planes))
    assert all(plane.isfinite().all() for plane in out)
    for gradient in torch.autograd.grad(out[0].sum() + out[1].sum(), [*planes, *backbone.parameters()]):
        assert gradient.isfinite().all()


def test_silence_in_a_whole_batch_has_finite_gradients() -> None:
    backbone = perturbed(build()).float()
    planes = [torch.zeros(2, N_TOKENS, D, requires_grad=True) for _ in range(2)]
    out = backbone(tuple(planes))
    for gradient in torch.autograd.grad(out[0].sum() + out[1].sum(), [*planes, *backbone.parameters()]):
        assert gradient.isfinite().all()


def test_autocast_keeps_polar_coordinates_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[torch.dtype]] = {"in": set(), "product": set()}
    original = fused.PolarCoordinates.apply

    def watched(re: Tensor, im: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        seen["in"] |= {re.dtype, im.dtype}
        return original(re, im, eps)

    monkeypatch.setattr("cvkan.core.polar.PolarCoordinates.apply", watched)
    backbone = perturbed(build()).float()
    product = backbone.blocks[0].value.register_forward_hook(lambda _, __, out: seen["product"].add(out[0].dtype))
    planes = [plane.requires_grad_() for plane in planes_of(gaussian(3, N_TOKENS, D).to(torch.complex64))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = backbone(tuple(planes), ragged())
    product.remove()
    assert seen == {"in": {torch.float32}, "product": {torch.bfloat16}}
    gradients = torch.autograd.grad(out[0].float().sum() + out[1].float().sum(), [*planes, *backbone.parameters()])
    assert all(x.isfinite().all() for x in (*out, *gradients))
    full = torch.complex(*backbone(tuple(planes), ragged()))
    error = (torch.complex(out[0].float(), out[1].float()) - full).abs().mean() / full.abs().mean()
    assert error < 0.05


@pytest.mark.parametrize("n_layers", [0, -1])
def test_a_stack_without_layers_is_refused(n_layers: int) -> None:
    with pytest.raises(ValueError, match=f"n_layers must be at least 1, got {n_layers}"):
        build(n_layers=n_layers)


def test_real_input_is_refused_and_complex_input_comes_back_complex() -> None:
    backbone = build()
    with pytest.raises(ValueError, match="got a real tensor"):
        backbone(torch.ones(1, N_TOKENS, D))
    z = gaussian(1, N_TOKENS, D).to(torch.complex64)
    assert torch.equal(backbone(z), torch.complex(*backbone(planes_of(z))))


def test_layout_reaches_the_aggregations() -> None:
    def block(**sizes: object) -> nn.Module:
        return PolarBlock(**sizes, aggregations={"local": LocalAggregation})

    flat, square = (PolarBackbone(D, 1, 1, grid, block).blocks[0].aggregation.parts[0] for grid in ((6,), GRID_2D))
    assert (flat.weight_re.shape[-2:], square.weight_re.shape[-2:]) == ((1, 7), (7, 7))


@pytest.mark.parametrize("shape", [(2, 6, D + 1), (2, 6, 1), (6, D)])
def test_what_is_no_batch_of_tokens_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"takes tokens \(batch, tokens, d_complex={D}\), got planes of shape"):
        build("mean")(torch.zeros(shape, dtype=torch.complex64))
