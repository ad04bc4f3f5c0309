from __future__ import annotations

import pytest
import reference
import torch
from cases import assert_same, gaussian, perturbed, planes_of, ragged_mask

from cvkan.core.norm import NoNorm, PreRMSNorm, SampleRMSNorm


def test_pre_rms_equals_the_reference() -> None:
    module = perturbed(PreRMSNorm(4))
    z = gaussian(2, 6, 4, scale=3.0)
    assert_same(module, lambda z: reference.batch(lambda x, _: reference.norm(module, x), z), z, module)


def test_pre_rms_keeps_phases_and_normalises_each_token_alone() -> None:
    z = gaussian(2, 6, 4, scale=5.0)
    out = PreRMSNorm(4).double()(z)
    torch.testing.assert_close(out.angle(), z.angle())
    torch.testing.assert_close(out.abs().square().mean(-1), torch.ones(2, 6, dtype=torch.float64))
    torch.testing.assert_close(PreRMSNorm(4).double()(z[:, 2:3]), out[:, 2:3], rtol=0, atol=0)


def test_no_norm_returns_its_input() -> None:
    z = planes_of(gaussian(2, 6, 4))
    assert all(out is plane for out, plane in zip(NoNorm(4)(z), z, strict=True))
    assert torch.equal(NoNorm(4)(gaussian(2, 4)), gaussian(2, 4))


@pytest.mark.parametrize("mask", [None, ragged_mask()], ids=["full", "ragged"])
def test_sample_rms_equals_the_reference(mask: torch.Tensor | None) -> None:
    module = SampleRMSNorm()
    z = gaussian(3, 6, 4, scale=3.0)
    assert_same(
        lambda planes: module(planes, mask),
        lambda z: reference.batch(reference.sample_rms, z, mask),
        z,
        module,
    )


def test_sample_rms_keeps_the_ratios_between_tokens() -> None:
    z = gaussian(2, 6, 4)
    re, im = SampleRMSNorm()(planes_of(z))
    ratio = torch.complex(re, im) / z
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio))


@pytest.mark.parametrize("module", [PreRMSNorm(4), SampleRMSNorm()])
def test_silence_stays_silent_with_finite_gradients(module: torch.nn.Module) -> None:
    planes = torch.zeros(2, 1, 3, 4).requires_grad_()
    out = module(tuple(planes.unbind()))
    (gradient,) = torch.autograd.grad(out[0].sum() + out[1].sum(), planes)
    assert torch.equal(out[0], torch.zeros(1, 3, 4))
    assert gradient.abs().max().item() == pytest.approx(1000.0)
