from __future__ import annotations

import pytest
import reference
import torch
from cases import N_TOKENS, D, assert_same, gaussian, perturbed, planes_of
from cases import ragged_mask as ragged
from torch import Tensor

from cvkan.core.pooling import (
    AttentionPooling,
    FlattenPooling,
    MagnitudePooling,
    MaxPooling,
    MeanPooling,
    NoPooling,
    Pooling,
    Readout,
)

WEIGHTED = {"mean": MeanPooling, "magnitude": MagnitudePooling, "attention": AttentionPooling}
POOLINGS = {**WEIGHTED, "max": MaxPooling}


@pytest.mark.parametrize("mask", [None, ragged()], ids=["full", "ragged"])
@pytest.mark.parametrize("n_heads", [1, 2, 4])
@pytest.mark.parametrize("parts", ["all", "cart", "mag"])
@pytest.mark.parametrize("name", POOLINGS)
def test_readout_and_pooling_equal_the_reference(name: str, parts: str, n_heads: int, mask: Tensor | None) -> None:
    module, readout = perturbed(POOLINGS[name](D, n_heads)), Readout(parts)

    def theirs(z: Tensor) -> Tensor:
        return reference.batch(
            lambda x, valid: reference.pool(module, x, reference.readout(readout, x), valid), z, mask
        )

    z = gaussian(3, N_TOKENS, D)
    # softmax does not see a constant added to all scores
    assert_same(lambda planes: module(planes, readout(planes), mask), theirs, z, module, inert=("score.2.bias",))
    assert theirs(z).shape == (3, readout.n_features(D))


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30])
@pytest.mark.parametrize("name", POOLINGS)
def test_padded_tokens_change_nothing(name: str, poison: float) -> None:
    module, mask, z = perturbed(POOLINGS[name](D, 2)), ragged(), gaussian(3, N_TOKENS, D)
    dirty = z.clone()
    dirty[~mask] = complex(poison, poison)
    results = []
    for x in (z, dirty):
        planes = tuple(plane.requires_grad_() for plane in planes_of(x))
        out = module(planes, list(planes), mask)
        results.append([out, *torch.autograd.grad(out.square().sum(), [*planes, *module.parameters()])])
    for clean, other in zip(*results, strict=True):
        assert torch.equal(clean, other)
        assert clean.isfinite().all()


@pytest.mark.parametrize("name", WEIGHTED)
def test_weights_sum_to_one_over_valid_tokens_and_ignore_other_samples(name: str) -> None:
    module, mask, z = perturbed(POOLINGS[name](D, 2)), ragged(), gaussian(3, N_TOKENS, D)
    weights = module.weights(planes_of(z), mask)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3, 2, dtype=torch.float64))
    assert weights[~mask].abs().max() == 0
    other = z.clone()
    other[0] *= 50
    assert torch.equal(module.weights(planes_of(other), mask)[1:], weights[1:])


def test_magnitude_pooling_starts_by_weighing_louder_tokens_more() -> None:
    z = torch.ones(1, 3, D, dtype=torch.complex64)
    z[0, 1] = 3j
    weights = MagnitudePooling(D, 1)(planes_of(z), [torch.eye(3)[None, :, :].repeat(1, 1, 2)[..., :D]])[0]
    assert weights[1] > 2 * weights[0]


def test_max_takes_all_planes_of_the_loudest_token_of_each_channel() -> None:
    z = torch.tensor([[[1, 2j], [-3, 1j], [2j, -1]]], dtype=torch.complex128)  # (1, 3, 2): tokens 1 and 0 are loudest
    planes = planes_of(z)
    for n_heads in (1, 2):
        pooled = MaxPooling(2, n_heads)(planes, list(planes))
        assert pooled.tolist() == [[-3, 0, 0, 2]]  # the planes' own greatest, re 2 and im 2, are of other tokens
    mask = torch.tensor([[True, False, True]])
    assert MaxPooling(2, 1)(planes, list(planes), mask).tolist() == [[0, 0, 2, 2]]


def test_max_of_silent_valid_tokens_is_not_a_padded_one() -> None:
    planes = (torch.zeros(1, 3, D), torch.zeros(1, 3, D))
    counts = torch.arange(3.0)[None, :, None].expand(1, 3, D)
    mask = torch.tensor([[False, False, True]])
    assert MaxPooling(D, 1)(planes, [counts], mask).tolist() == [[2.0] * D]
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    assert MaxPooling(D, 1)(planes, [counts + torch.nan], nothing).tolist() == [[0.0] * D]


@pytest.mark.parametrize("name", POOLINGS)
def test_order_of_tokens_does_not_matter(name: str) -> None:
    module, order = perturbed(POOLINGS[name](D, 2)), torch.tensor([3, 0, 5, 1, 4, 2])
    z = planes_of(gaussian(2, N_TOKENS, D))
    turned = tuple(plane[:, order] for plane in z)
    torch.testing.assert_close(module(turned, list(turned)), module(z, list(z)), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", POOLINGS)
def test_compiled_without_breaks_for_any_batch_and_length(name: str) -> None:
    torch._dynamo.reset()
    module = perturbed(POOLINGS[name](D, 2)).float()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    for n_batch, n_tokens in ((3, N_TOKENS), (4, 9), (2, 11)):
        planes, mask = planes_of(gaussian(n_batch, n_tokens, D).to(torch.complex64)), ragged(n_batch, n_tokens)
        with torch.compiler.set_stance("fail_on_recompile" if n_tokens == 11 else "default"):
            actual = compiled(planes, list(planes), mask)
        torch.testing.assert_close(actual, module(planes, list(planes), mask), rtol=1e-5, atol=1e-5)


def test_no_pooling_keeps_the_tokens() -> None:
    z = planes_of(gaussian(2, N_TOKENS, D))
    out = NoPooling(D, 2)(z, Readout("all")(z))
    torch.testing.assert_close(out[..., D:], torch.cat(z, dim=-1), rtol=0, atol=0)
    assert out.shape == (2, N_TOKENS, 3 * D)


def test_magnitude_readout_alone_cannot_tell_a_number_from_its_negative() -> None:
    z = planes_of(gaussian(2, N_TOKENS, D))
    negative = (-z[0], -z[1])
    assert torch.equal(Readout("mag")(z)[0], Readout("mag")(negative)[0])
    assert not torch.equal(torch.cat(Readout("all")(z)), torch.cat(Readout("all")(negative)))


@pytest.mark.parametrize("name", POOLINGS)
def test_weights_are_finite_at_silence(name: str) -> None:
    module = POOLINGS[name](D, 1)
    planes = [torch.zeros(1, 3, D, requires_grad=True) for _ in range(2)]
    out = module(tuple(planes), Readout()(tuple(planes)))
    assert out.isfinite().all()
    assert all(x.isfinite().all() for x in torch.autograd.grad(out.sum(), planes))


def test_unknown_readout_and_indivisible_heads_are_refused() -> None:
    with pytest.raises(ValueError, match="readout must be 'all', 'cart' or 'mag', got 'phase'"):
        Readout("phase")
    for pooling in (*POOLINGS.values(), NoPooling, Pooling):
        with pytest.raises(ValueError, match="n_heads must divide d_complex, got n_heads=3 and d_complex=4"):
            pooling(4, 3)


def test_flattened_tokens_stand_side_by_side_and_padded_ones_are_silent() -> None:
    module, planes = FlattenPooling(D, 2), list(planes_of(gaussian(2, 5, D)))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    out = module(tuple(planes), planes, mask).unflatten(1, (5, 2 * D))
    torch.testing.assert_close(out[0], torch.cat([x[0] for x in planes], dim=-1), rtol=0, atol=0)
    assert out[1, :2].ne(0).all()
    assert out[1, 2:].eq(0).all()
    assert module.n_features(2 * D, (1, 5)) == out[0].numel()
    assert module.n_features(3, (2, 4)) == 24  # of another layout: asking leaves nothing behind
    assert torch.equal(module(tuple(planes), planes, mask).unflatten(1, (5, 2 * D)), out)
