from __future__ import annotations

import math

import pytest
import reference
import torch
from cases import N_TOKENS, D, assert_same, gaussian, make_block, perturbed, planes_of, ragged_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cvkan.core.aggregation import Aggregation
from cvkan.core.norm import (
    ComplexBatchNorm,
    NoNorm,
    Norm,
    PreRMSNorm,
    SampleRMSNorm,
    StreamLogLayerNorm,
    StreamRMSNorm,
    branch_norm,
    stream_norm,
)

NORMS = [NoNorm, PreRMSNorm, StreamRMSNorm, StreamLogLayerNorm, ComplexBatchNorm]
MASKS = pytest.mark.parametrize("mask", [None, ragged_mask()], ids=["full", "ragged"])


def valid_of(mask: Tensor | None) -> Tensor:
    return torch.ones(3, N_TOKENS, dtype=torch.bool) if mask is None else mask


def whitened(module: ComplexBatchNorm, z: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """gamma V^(-1/2) (z - mean) + beta with the root by eigenvalues; mean (D,) complex, covariance (D, 2, 2)."""
    channels = []
    for d in range(z.shape[-1]):
        values, vectors = torch.linalg.eigh(covariance[d] + module.eps * torch.eye(2, dtype=torch.float64))
        root = vectors @ torch.diag(values**-0.5) @ vectors.T
        rr, ii, ri = module.gamma[:, d]
        gamma = torch.stack([torch.stack([rr, ri]), torch.stack([ri, ii])])
        pair = torch.view_as_real(z[..., d] - mean[d]) @ (gamma @ root).T + module.beta[:, d]
        channels.append(torch.complex(pair[..., 0], pair[..., 1]))
    return torch.stack(channels, dim=-1)


def moments(z: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) complex and covariance (D, 2, 2) of the valid tokens of a batch."""
    tokens = z[valid]  # (M, D)
    pairs = torch.view_as_real(tokens - tokens.mean(dim=0))  # (M, D, 2)
    return tokens.mean(dim=0), torch.einsum("mda,mdb->dab", pairs, pairs) / len(tokens)


@pytest.mark.parametrize("kind", [PreRMSNorm, StreamRMSNorm, StreamLogLayerNorm])
def test_norm_of_single_tokens_equals_the_reference(kind: type[Norm]) -> None:
    module, mask = perturbed(kind(D)), ragged_mask()
    z = gaussian(3, N_TOKENS, D, scale=3.0)
    theirs = lambda z: reference.batch(lambda x, _: reference.norm(module, x), z)  # noqa: E731
    assert_same(module, theirs, z, module)
    assert_same(lambda planes: module(planes, mask), theirs, z, module, where=mask[..., None])


@MASKS
def test_batch_norm_in_training_whitens_with_the_moments_of_all_valid_tokens(mask: Tensor | None) -> None:
    module, z = perturbed(ComplexBatchNorm(D)), 2 * gaussian(3, N_TOKENS, D) + (3 - 1j)
    z = torch.complex(z.real, z.imag + 1.5 * z.real)  # phases that prefer an axis
    valid = valid_of(mask)
    assert_same(
        lambda planes: module(planes, mask),
        lambda z: whitened(module, z, *moments(z, valid)),
        z,
        module,
        where=valid[..., None],
    )


def test_batch_norm_makes_every_channel_white() -> None:
    z = 5 * gaussian(4, 50, D) + 2
    out = ComplexBatchNorm(D).double()(torch.complex(z.real, 0.1 * z.imag + z.real))
    mean, covariance = moments(out, torch.ones(4, 50, dtype=torch.bool))
    torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-10)
    torch.testing.assert_close(covariance, 0.5 * torch.eye(2).double().expand(D, 2, 2), rtol=0, atol=1e-4)


@MASKS
def test_batch_norm_in_evaluation_uses_the_running_moments(mask: Tensor | None) -> None:
    module, z = perturbed(ComplexBatchNorm(D, momentum=0.25)), gaussian(3, N_TOKENS, D, scale=3.0) + 1j
    valid = valid_of(mask)
    module(z, mask)
    mean, covariance = moments(z, valid)
    mean, covariance = 0.25 * mean, 0.25 * covariance + 0.75 * 0.5 * torch.eye(2).double()
    module.eval()
    one = slice(1, 2)  # one sample, whose neighbours in the batch do not matter any more
    out = module(z[one], None if mask is None else mask[one])
    expected = whitened(module, z[one], mean, covariance)
    torch.testing.assert_close(out[valid[one]], expected[valid[one]], rtol=1e-6, atol=1e-6)


def test_batch_norm_in_evaluation_starts_as_the_identity_and_learns_nothing() -> None:
    module, z = ComplexBatchNorm(D, eps=0.0).eval(), gaussian(3, N_TOKENS, D).to(torch.complex64)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.testing.assert_close(module(z), z)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_batch_of_padding_alone_leaves_the_running_moments_as_they_were() -> None:
    module = ComplexBatchNorm(D)
    out = module(gaussian(2, 3, D).to(torch.complex64), torch.zeros(2, 3, dtype=torch.bool))
    assert out.isfinite().all()
    assert torch.equal(module.running_mean, torch.zeros(2, D))
    assert torch.equal(module.running_covariance[0], torch.full((D,), 0.5))


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e4, 1e15])
def test_batch_norm_is_finite_where_re_and_im_are_proportional(scale: float) -> None:
    planes = tuple(scale * k * gaussian(4, 9, D).real.float() for k in (1, 3))
    planes = tuple(plane.requires_grad_() for plane in planes)
    out = ComplexBatchNorm(D)(planes)
    gradients = torch.autograd.grad(out[0].sum() + out[1].square().sum(), planes)
    assert all(x.isfinite().all() for x in (*out, *gradients))
    assert max(plane.detach().abs().max() for plane in out) < 10


def test_batch_norm_of_one_token_is_its_bias() -> None:
    module = perturbed(ComplexBatchNorm(D))
    out = module(gaussian(1, 1, D))
    torch.testing.assert_close(out[0, 0], torch.complex(*module.beta), rtol=0, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 1.5, math.nan])
def test_momentum_out_of_range_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=rf"momentum must lie in \(0, 1\], got {momentum}; set"):
        ComplexBatchNorm(D, momentum=momentum)


@pytest.mark.parametrize("kind", [PreRMSNorm, StreamRMSNorm, StreamLogLayerNorm])
def test_phases_are_kept_and_each_token_is_normalised_alone(kind: type[Norm]) -> None:
    module, z = kind(D).double(), gaussian(2, N_TOKENS, D, scale=5.0)
    out = module(z)
    torch.testing.assert_close(out.angle(), z.angle())
    torch.testing.assert_close(module(z[:, 2:3]), out[:, 2:3], rtol=0, atol=0)


@pytest.mark.parametrize("kind", [PreRMSNorm, StreamRMSNorm])
def test_rms_norm_gives_every_token_unit_rms(kind: type[Norm]) -> None:
    out = kind(D).double()(gaussian(2, N_TOKENS, D, scale=5.0))
    torch.testing.assert_close(out.abs().square().mean(-1), torch.ones(2, N_TOKENS, dtype=torch.float64))


def test_log_layer_norm_gives_log_magnitudes_mean_bias_and_spread_weight() -> None:
    module = StreamLogLayerNorm(D).double()
    with torch.no_grad():
        module.weight.fill_(0.5)
        module.bias.fill_(0.25)
    s = module(gaussian(2, N_TOKENS, D, scale=5.0)).abs().log()
    torch.testing.assert_close(s.mean(-1), torch.full_like(s[..., 0], 0.25), rtol=0, atol=1e-6)
    torch.testing.assert_close(s.std(-1, correction=0), torch.full_like(s[..., 0], 0.5), rtol=1e-3, atol=0)


def test_log_layer_norm_of_equal_magnitudes_leaves_magnitude_one() -> None:
    z = 7 * torch.exp(1j * gaussian(2, N_TOKENS, D).real)
    torch.testing.assert_close(StreamLogLayerNorm(D).double()(z), z / 7, rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(NORMS),
    exponent=st.integers(-20, 6),
    d_complex=st.sampled_from([1, 2, 7, 64]),
    n_silent=st.integers(0, 2),
    autocast=st.booleans(),
    seed=st.integers(0, 100),
)
def test_values_and_gradients_are_finite_at_every_magnitude(
    kind: type[Norm], exponent: int, d_complex: int, n_silent: int, autocast: bool, seed: int
) -> None:
    module = kind(d_complex)
    z = gaussian(3, N_TOKENS, d_complex, seed=seed, scale=10.0**exponent).to(torch.complex64)
    z[:, :n_silent] = 0
    z[..., n_silent:1] *= 1e6
    planes = [plane.requires_grad_() for plane in planes_of(z)]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = module(tuple(planes), ragged_mask())
    gradients = torch.autograd.grad(out[0].sum() + out[1].sum(), [*planes, *module.parameters()])
    assert all(x.isfinite().all() for x in (*out, *gradients))


@pytest.mark.parametrize("kind", [StreamRMSNorm, StreamLogLayerNorm, ComplexBatchNorm])
@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
def test_padded_tokens_change_nothing_forward_or_backward(kind: type[Norm], poison: float) -> None:
    z, mask = gaussian(3, N_TOKENS, D), ragged_mask()
    dirty = z.clone()
    dirty[~mask] = complex(-poison, poison)
    results = []
    for x in (z, dirty):
        module = perturbed(kind(D))
        planes = [plane.requires_grad_() for plane in planes_of(x)]
        out = [plane[mask] for plane in module(tuple(planes), mask)]
        gradients = torch.autograd.grad(out[0].sum() + out[1].square().sum(), [*planes, *module.parameters()])
        results.append([*out, *gradients, *module.buffers()])
    for clean, other in zip(*results, strict=True):
        assert torch.equal(clean, other)
        assert clean.isfinite().all()


@pytest.mark.parametrize("kind", [StreamLogLayerNorm, ComplexBatchNorm])
def test_half_precision_is_widened_first(kind: type[Norm]) -> None:
    planes = planes_of(gaussian(3, N_TOKENS, D))
    half, full = (tuple(plane.to(torch.bfloat16).to(dtype) for plane in planes) for dtype in (torch.bfloat16, None))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = kind(D)(half)
    assert out[0].dtype == torch.float32
    torch.testing.assert_close(out[1], kind(D)(tuple(plane.float() for plane in full))[1])


def test_no_norm_returns_its_input() -> None:
    z = planes_of(gaussian(2, 6, 4))
    assert all(out is plane for out, plane in zip(NoNorm(4)(z), z, strict=True))
    assert torch.equal(NoNorm(4)(gaussian(2, 4)), gaussian(2, 4))


@pytest.mark.parametrize("kind", NORMS)
def test_each_norm_acts_on_the_stream_or_on_the_branches(kind: type[Norm]) -> None:
    block = make_block(norm=kind)
    places = (type(block.stream_norm), type(block.interaction_norm), type(block.mixing_norm))
    on_stream = kind in (StreamRMSNorm, StreamLogLayerNorm)
    assert places == ((kind, NoNorm, NoNorm) if on_stream else (NoNorm, kind, kind))
    assert type(branch_norm(kind, D)) is places[1]
    assert type(stream_norm(kind, D)) is places[0]


def test_stream_norm_comes_last_in_a_layer() -> None:
    block, mask = perturbed(make_block(norm=StreamLogLayerNorm)), ragged_mask()
    planes = planes_of(gaussian(3, N_TOKENS, D))
    expected = block.stream_norm(block.update(planes, mask)[0], mask)
    assert torch.equal(block(planes, mask)[1], expected[1])


class PrefixMean(Aggregation):
    """The plainest causal aggregation."""

    causal = True

    def forward(self, v: tuple[Tensor, Tensor], mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        n = torch.arange(1, v[0].shape[1] + 1)[:, None]
        return v[0].cumsum(dim=1) / n, v[1].cumsum(dim=1) / n


def test_batch_norm_is_refused_in_a_causal_stack_and_the_others_are_not() -> None:
    assert [kind for kind in NORMS if not kind.causal] == [ComplexBatchNorm]
    with pytest.raises(ValueError, match=r"later ones reach earlier ones .*; choose norm=pre_rms"):
        make_block(PrefixMean, norm=ComplexBatchNorm)
    for kind in NORMS[:-1]:
        block, z = perturbed(make_block(PrefixMean, norm=kind)), gaussian(2, N_TOKENS, D)
        other = z.clone()
        other[:, 3:] = 5 * gaussian(2, N_TOKENS - 3, D, seed=3)
        assert torch.equal(block(z)[:, :3], block(other)[:, :3])


@MASKS
def test_sample_rms_equals_the_reference(mask: Tensor | None) -> None:
    module = SampleRMSNorm()
    z = gaussian(3, 6, 4, scale=3.0)
    assert_same(
        lambda planes: module(planes, mask),
        lambda z: reference.batch(reference.sample_rms, z, mask),
        z,
        module,
    )


@MASKS
def test_causal_sample_rms_runs_over_the_tokens_so_far(mask: Tensor | None) -> None:
    def prefix(z: Tensor, valid: Tensor) -> Tensor:
        rows = []
        for t in range(len(z)):
            seen = z[: t + 1][valid[: t + 1]]
            rms = torch.sqrt((seen.abs() ** 2).mean() + reference.EPS**2) if len(seen) else reference.EPS
            rows.append(z[t] / rms * valid[t])
        return torch.stack(rows)

    module = SampleRMSNorm(causal=True)
    z = gaussian(3, N_TOKENS, D, scale=3.0)
    assert_same(lambda planes: module(planes, mask), lambda z: reference.batch(prefix, z, mask), z, module)


def test_sample_rms_keeps_the_ratios_between_tokens() -> None:
    z = gaussian(2, 6, 4)
    re, im = SampleRMSNorm()(planes_of(z))
    ratio = torch.complex(re, im) / z
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio))


@pytest.mark.parametrize("module", [PreRMSNorm(4), StreamRMSNorm(4), SampleRMSNorm()])
def test_silence_stays_silent_with_finite_gradients(module: nn.Module) -> None:
    planes = torch.zeros(2, 1, 3, 4).requires_grad_()
    out = module(tuple(planes.unbind()))
    (gradient,) = torch.autograd.grad(out[0].sum() + out[1].sum(), planes)
    assert torch.equal(out[0], torch.zeros(1, 3, 4))
    assert gradient.abs().max().item() == pytest.approx(1000.0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [StreamRMSNorm, StreamLogLayerNorm, ComplexBatchNorm])
def test_compiled_norm_equals_the_eager_one(kind: type[Norm]) -> None:
    torch._dynamo.reset()
    eager, compiled = kind(D), kind(D)
    fast = torch.compile(compiled, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((3, N_TOKENS), (2, 9)):
        planes = tuple(plane.float() for plane in planes_of(gaussian(*shape, D)))
        mask = torch.arange(shape[1]).expand(shape) < 5
        for mine, other in zip(fast(planes, mask), eager(planes, mask), strict=True):
            torch.testing.assert_close(mine, other)
    for name, value in eager.named_buffers():
        torch.testing.assert_close(compiled.get_buffer(name), value)
