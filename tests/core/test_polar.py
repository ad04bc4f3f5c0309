from __future__ import annotations

import math

import pytest
import torch
from cases import gaussian, planes_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkan.core.polar import (
    as_complex,
    as_planes,
    at_least_float32,
    gain_rotate,
    log_magnitude,
    polar_coordinates,
    relative_phase,
    squared_magnitude,
    unit_phase,
)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_planes_and_complex_are_inverse_and_keep_the_precision(dtype: torch.dtype) -> None:
    z = gaussian(2, 3, 4).to(dtype)
    re, im = as_planes(z)
    assert re.is_contiguous()
    assert im.is_contiguous()
    assert torch.equal(re, z.real)
    assert torch.equal(as_complex((re, im)), z)
    assert as_complex((re, im)).dtype == dtype


def test_half_precision_planes_become_complex64() -> None:
    assert as_complex((torch.ones(2, dtype=torch.bfloat16),) * 2).dtype == torch.complex64


def test_real_tensor_is_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"got a real tensor of dtype torch.float32; pass \(x, torch.zeros_like"):
        as_planes(torch.ones(2, 3))


def test_planes_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3\) and \(2, 4\)"):
        as_planes((torch.ones(2, 3), torch.ones(2, 4)))


def test_polar_coordinates_are_tanh_log_r_and_the_unit_phase() -> None:
    z = gaussian(3, 5, scale=2.0)
    t, u = polar_coordinates(planes_of(z))
    r = torch.sqrt(z.abs() ** 2 + 1e-6)
    torch.testing.assert_close(t, torch.tanh(torch.log(r)), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.complex(*u), z.abs() / r * torch.exp(1j * z.angle()), rtol=1e-12, atol=1e-12)


def test_both_ways_to_the_unit_phase_agree() -> None:
    planes = planes_of(gaussian(3, 5))
    r2 = squared_magnitude(planes)
    torch.testing.assert_close(unit_phase(planes, r2), polar_coordinates(planes)[1], rtol=1e-14, atol=0)
    t = torch.tanh(log_magnitude(r2))
    torch.testing.assert_close(t, polar_coordinates(planes)[0], rtol=1e-12, atol=1e-14)


@settings(max_examples=60, deadline=None)
@given(
    exponent=st.floats(-12, 4),
    angle=st.floats(-math.pi, math.pi),
    eps=st.sampled_from([1e-3, 1e-2]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_coordinates_and_gradients_are_bounded_at_any_magnitude(
    exponent: float, angle: float, eps: float, dtype: torch.dtype
) -> None:
    magnitude = 10**exponent
    re, im = (torch.tensor([magnitude * f(angle)], dtype=dtype, requires_grad=True) for f in (math.cos, math.sin))
    t, u = polar_coordinates((re, im), eps)
    assert -1 <= t.item() <= 1
    assert u[0].item() ** 2 + u[1].item() ** 2 <= 1 + 1e-6
    for output, bound in ((t, 2 / eps), (u[0], 1 / eps), (u[1], 1 / eps)):
        for gradient in torch.autograd.grad(output, (re, im), retain_graph=True):
            assert abs(gradient.item()) <= bound * (1 + 1e-6)
    s = log_magnitude(squared_magnitude((re, im), eps))
    for gradient in torch.autograd.grad(s, (re, im)):
        assert abs(gradient.item()) <= 0.5 / eps * (1 + 1e-5)


def test_relative_phase_is_the_angle_between_two_numbers() -> None:
    a, b = (torch.exp(1j * gaussian(7, seed=seed).real) for seed in (0, 1))
    relative = torch.complex(*relative_phase(planes_of(a), planes_of(b)))
    torch.testing.assert_close(relative, torch.exp(1j * (a.angle() - b.angle())), rtol=1e-12, atol=1e-12)


def test_gain_rotate_scales_by_the_sigmoid_and_turns_by_twice_the_arc_tangent() -> None:
    z, logit, rho = gaussian(20), gaussian(20, seed=1).real, 3 * gaussian(20, seed=2).real
    turned = torch.complex(*gain_rotate(planes_of(z), logit, rho))
    expected = 2 * torch.sigmoid(logit) * torch.exp(2j * torch.atan(rho)) * z
    torch.testing.assert_close(turned, expected, rtol=1e-12, atol=1e-12)


def test_half_precision_is_widened_before_it_is_squared() -> None:
    # 300^2 exceeds float16; a bfloat16 square has two digits
    tiny_and_large = torch.tensor([1e-3, 300.0], dtype=torch.float16)
    planes = (tiny_and_large, torch.zeros_like(tiny_and_large))
    assert {plane.dtype for plane in at_least_float32(planes)} == {torch.float32}
    assert squared_magnitude(planes)[1].item() == pytest.approx(90000.0)
    t, u = polar_coordinates((planes[0].bfloat16(), planes[1].bfloat16()))
    assert (t.dtype, u[0].dtype) == (torch.float32, torch.float32)
    assert at_least_float32(planes_of(gaussian(2)))[0].dtype == torch.float64
