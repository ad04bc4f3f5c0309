from __future__ import annotations

import pytest
import reference
import torch
from cases import assert_same, gaussian, perturbed, planes_of

from cvkan.core.linear import ComplexLinear, RealScale, complex_dropout, masked


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 5, 4)])
def test_linear_equals_the_complex_matrix_product(shape: tuple[int, ...], bias: bool) -> None:
    module = perturbed(ComplexLinear(4, 3, bias=bias))
    assert_same(module, lambda z: reference.linear(module, z), gaussian(*shape), module)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_tensor_gives_the_complex_tensor_of_the_planes(dtype: torch.dtype) -> None:
    module = ComplexLinear(4, 3).to(dtype.to_real())
    z = gaussian(2, 4).to(dtype)
    out = module(z)
    assert out.dtype == dtype
    assert torch.equal(out, torch.complex(*module((z.real.contiguous(), z.imag.contiguous()))))


def test_identity_start_is_the_identity_map() -> None:
    z = planes_of(gaussian(2, 5, 4).to(torch.complex64))
    torch.testing.assert_close(ComplexLinear(4, 4, identity=True)(z), z, rtol=0, atol=0)


def test_random_start_keeps_the_mean_squared_magnitude_times_gain_squared() -> None:
    torch.manual_seed(0)
    z = gaussian(200, 64).to(torch.complex64)
    out = ComplexLinear(64, 128, gain=0.5)(z)
    assert out.abs().square().mean().item() == pytest.approx(0.25, rel=0.05)


def test_identity_between_two_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match="identity=True needs d_in == d_out, got 4 and 3"):
        ComplexLinear(4, 3, identity=True)


def test_real_scale_adds_the_scaled_branch_to_the_residual() -> None:
    module = perturbed(RealScale(4, 0.1))
    residual = gaussian(2, 5, 4, seed=5)
    assert_same(
        lambda planes: module(planes, planes_of(residual)),
        lambda z: residual + module.gamma * z,
        gaussian(2, 5, 4),
        module,
    )


def test_dropout_drops_whole_numbers_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    re, im = torch.ones(100, 100), 2 * torch.ones(100, 100)
    dropped = complex_dropout((re, im), 0.25, training=True)
    assert torch.equal(dropped[1], 2 * dropped[0])  # never one plane alone
    torch.testing.assert_close(dropped[0].unique(), torch.tensor([0.0, 4 / 3]))
    assert dropped[0].mean().item() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True)])
def test_dropout_is_the_identity_in_evaluation_and_at_zero(p: float, training: bool) -> None:
    z = planes_of(gaussian(3, 4))
    assert complex_dropout(z, p, training) is z


def test_masked_sets_padding_to_zero_whatever_it_holds() -> None:
    z = planes_of(gaussian(2, 3, 4))
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    z[0][0, 2], z[1][1, 1], z[1][1, 2] = torch.nan, torch.inf, -torch.inf
    for plane, original in zip(masked(z, mask), z, strict=True):
        assert torch.equal(plane[mask == 0], torch.zeros(3, 4, dtype=torch.float64))
        assert torch.equal(plane[mask == 1], original[mask == 1])
    assert masked(z, None) is z
