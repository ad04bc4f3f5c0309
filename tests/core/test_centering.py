from __future__ import annotations

import math

import pytest
import reference
import torch
from cases import N_TOKENS, D, assert_same, gaussian, make_block, perturbed, planes_of, ragged_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvkan.core.aggregation import Aggregation
from cvkan.core.centering import Centering, NoCentering, SampleCentering, TokenCentering

MASKS = pytest.mark.parametrize("mask", [None, ragged_mask()], ids=["full", "ragged"])
CAUSAL = pytest.mark.parametrize("causal", [False, True])


def centred(z: Tensor, valid: Tensor, per_channel: bool, causal: bool) -> Tensor:
    """exp(log|z| - mean) e^{i angle} of one sample (N, D), over the valid tokens, or those up to each one."""
    s = torch.log(reference.radius(z))
    rows = []
    for t in range(len(z)):
        seen = valid & (torch.arange(len(z)) <= t) if causal else valid
        weight = (z.abs() / reference.radius(z))[seen] ** 2
        mean = (
            (weight * s[seen]).sum(dim=0) / weight.sum(dim=0)
            if per_channel
            else (weight * s[seen]).sum() / weight.sum()
        )
        rows.append(torch.exp(s[t] - mean) * reference.unit(z[t]) * valid[t])
    return torch.stack(rows)


@MASKS
@CAUSAL
@pytest.mark.parametrize("kind", [TokenCentering, SampleCentering])
def test_centering_equals_the_polar_form(kind: type[Centering], causal: bool, mask: Tensor | None) -> None:
    module, z = kind(causal), gaussian(3, N_TOKENS, D, scale=3.0)
    per_channel = kind is TokenCentering
    assert_same(
        lambda planes: module(planes, mask),
        lambda z: reference.batch(lambda x, valid: centred(x, valid, per_channel, causal), z, mask),
        z,
        module,
    )


def test_token_centering_makes_the_mean_log_magnitude_of_every_channel_zero() -> None:
    out, mask = TokenCentering()(gaussian(3, N_TOKENS, D, scale=9.0), ragged_mask()), ragged_mask()
    for sample, valid in zip(out, mask, strict=True):
        s = sample[valid].abs().log().mean(dim=0)
        torch.testing.assert_close(s, torch.zeros_like(s), rtol=0, atol=1e-4)


def test_sample_centering_keeps_the_ratios_between_channels_and_tokens() -> None:
    z = gaussian(3, N_TOKENS, D)
    ratio = SampleCentering()(z) / z
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio))
    assert ratio[:, 0, 0].abs().std() > 0


@CAUSAL
def test_token_centering_of_one_token_sets_every_magnitude_to_one(causal: bool) -> None:
    z = gaussian(3, 1, D, scale=5.0)
    torch.testing.assert_close(TokenCentering(causal)(z), z / reference.radius(z))


@MASKS
@CAUSAL
@pytest.mark.parametrize("kind", [TokenCentering, SampleCentering])
def test_phases_do_not_change(kind: type[Centering], causal: bool, mask: Tensor | None) -> None:
    z = gaussian(3, N_TOKENS, D)
    keep = slice(None) if mask is None else mask
    torch.testing.assert_close(kind(causal)(z, mask)[keep].angle(), z[keep].angle())


@MASKS
@pytest.mark.parametrize("kind", [TokenCentering, SampleCentering])
def test_a_causal_centering_does_not_see_later_tokens(kind: type[Centering], mask: Tensor | None) -> None:
    z = gaussian(3, N_TOKENS, D).to(torch.complex64)
    for t in range(N_TOKENS):
        other = z.clone()
        other[:, t + 1 :] = 100 * gaussian(3, N_TOKENS - t - 1, D, seed=t + 1).to(torch.complex64)
        assert torch.equal(kind(causal=True)(z, mask)[:, : t + 1], kind(causal=True)(other, mask)[:, : t + 1])
        shorter = kind(causal=True)(z[:, : t + 1], None if mask is None else mask[:, : t + 1])
        assert torch.equal(kind(causal=True)(z, mask)[:, : t + 1], shorter)
    louder = z * torch.arange(1, N_TOKENS + 1)[:, None]  # the first token is the same
    assert not torch.equal(kind()(z)[:, :1], kind()(louder)[:, :1])


@CAUSAL
@pytest.mark.parametrize("kind", [TokenCentering, SampleCentering])
@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
def test_padded_tokens_change_nothing_forward_or_backward(kind: type[Centering], causal: bool, poison: float) -> None:
    z, mask = gaussian(3, N_TOKENS, D), ragged_mask()
    dirty = z.clone()
    dirty[~mask] = complex(-poison, poison)
    results = []
    for x in (z, dirty):
        planes = [plane.requires_grad_() for plane in planes_of(x)]
        out = kind(causal)(tuple(planes), mask)
        results.append([*out, *torch.autograd.grad(out[0].sum() + out[1].square().sum(), planes)])
    for clean, other in zip(*results, strict=True):
        assert torch.equal(clean, other)
        assert clean.isfinite().all()


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from([TokenCentering, SampleCentering]),
    causal=st.booleans(),
    exponent=st.integers(-12, 6),
    factor=st.floats(0.1, 10.0),
    n_silent=st.integers(0, N_TOKENS),
)
def test_size_of_a_sample_is_taken_away_and_everything_stays_finite(
    kind: type[Centering], causal: bool, exponent: int, factor: float, n_silent: int
) -> None:
    z = gaussian(2, N_TOKENS, D, scale=10.0**exponent)
    if exponent > 0:  # far above the floor of the magnitude
        torch.testing.assert_close(kind(causal)(factor * z), kind(causal)(z), rtol=1e-3, atol=1e-3)
    z[:, :n_silent] = 0
    planes = [plane.float().requires_grad_() for plane in planes_of(z)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = kind(causal)(tuple(planes))
    gradients = torch.autograd.grad(out[0].sum() + out[1].sum(), planes)
    assert all(x.isfinite().all() for x in (*out, *gradients))


@CAUSAL
def test_no_centering_returns_its_input(causal: bool) -> None:
    z = planes_of(gaussian(2, N_TOKENS, D))
    assert all(out is plane for out, plane in zip(NoCentering(causal)(z, ragged_mask(2)), z, strict=True))


class PrefixMean(Aggregation):
    """The plainest causal aggregation."""

    causal = True

    def forward(self, v: tuple[Tensor, Tensor], mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        n = torch.arange(1, v[0].shape[1] + 1)[:, None]
        return v[0].cumsum(dim=1) / n, v[1].cumsum(dim=1) / n


@pytest.mark.parametrize("aggregation", [PrefixMean, "mean"])
def test_a_block_centres_causally_where_its_aggregation_is_causal(aggregation: type[Aggregation] | str) -> None:
    block, mask = perturbed(make_block(aggregation, centering=TokenCentering)), ragged_mask()
    planes = planes_of(gaussian(3, N_TOKENS, D))
    assert block.centering.causal == (aggregation is PrefixMean)
    expected = TokenCentering(causal=aggregation is PrefixMean)(block.update(planes, mask)[0], mask)
    assert torch.equal(block(planes, mask)[1], expected[1])


@CAUSAL
@pytest.mark.parametrize("kind", [TokenCentering, SampleCentering])
def test_silent_tokens_have_no_say(kind: type[Centering], causal: bool) -> None:
    sound = gaussian(1, 2, D, scale=2.0)
    silent = torch.zeros(1, 20, D, dtype=sound.dtype)
    centring = kind(causal)
    alone, among_silence = centring(sound), centring(torch.cat([silent, sound], dim=1))
    torch.testing.assert_close(among_silence[:, 20:], alone)
    z = planes_of(torch.cat([silent, 1e-12 * sound], dim=1))
    for _ in range(12):
        z = centring(z)
    assert max(plane.abs().max() for plane in z) < 1.0
