from __future__ import annotations

import pytest
import reference
import torch
from cases import assert_same, gaussian, perturbed
from torch import nn

from cvkan.core.polar import polar_coordinates
from cvkan.core.univariate import Harmonic, PolynomialPsi, RBFPsi

PSIS = {"poly": PolynomialPsi(4), "linear": PolynomialPsi(4, degree=1), "rbf": RBFPsi(4), "two_knots": RBFPsi(4, 2)}


@pytest.mark.parametrize("name", PSIS)
def test_psi_equals_the_reference(name: str) -> None:
    module = perturbed(PSIS[name])
    assert_same(
        lambda planes: module(module.coordinates(planes)[0]),
        lambda z: reference.psi(module, z),
        gaussian(2, 5, 4, scale=1.5),
        module,
    )


@pytest.mark.parametrize("name", PSIS)
def test_psi_shares_its_unit_phase_with_the_polar_coordinates(name: str) -> None:
    planes = gaussian(2, 4).real, gaussian(2, 4).imag
    torch.testing.assert_close(PSIS[name].coordinates(planes)[1], polar_coordinates(planes)[1])


@pytest.mark.parametrize("module", [PolynomialPsi(4), RBFPsi(4), Harmonic(4)])
def test_functions_are_zero_at_the_start(module: nn.Module) -> None:
    x = gaussian(3, 4).to(torch.complex64)
    inputs = (x.real, x.imag) if isinstance(module, Harmonic) else x.real
    assert torch.equal(module(inputs), torch.zeros(3, 4))


def test_polynomial_psi_is_bounded_and_rbf_psi_is_linear_outside_its_knots() -> None:
    poly, rbf = perturbed(PolynomialPsi(1)), perturbed(RBFPsi(1))
    huge = torch.full((1, 1), 1e6, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    assert poly(poly.coordinates(huge)[0]).item() == pytest.approx(4 * poly.coefficients.sum().item())
    far = torch.tensor([[20.0], [-30.0]], dtype=torch.float64)
    torch.testing.assert_close(rbf(far), 4 * rbf.slope * far)


@pytest.mark.parametrize("n_harmonics", [1, 2, 3, 4])
def test_harmonic_equals_cosines_of_multiples_of_the_angle(n_harmonics: int) -> None:
    module = perturbed(Harmonic(4, n_harmonics))
    assert_same(
        lambda planes: module(polar_coordinates(planes)[1]),
        lambda z: reference.phi(module, reference.unit(z)),
        gaussian(2, 5, 4),
        module,
    )


def test_harmonic_starts_as_the_cosine_where_asked() -> None:
    angle = torch.linspace(-3, 3, 7)[:, None]
    torch.testing.assert_close(Harmonic(1, 3, first_cosine=2.0)((angle.cos(), angle.sin())), 2 * angle.cos())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PolynomialPsi(2, degree=0), "degree must be at least 1, got 0"),
        (lambda: Harmonic(2, n_harmonics=0), "n_harmonics must be at least 1, got 0"),
        (lambda: RBFPsi(2, n_knots=1), "at least 2 knots"),
        (lambda: RBFPsi(2, low=1.0, high=1.0), "low < high"),
    ],
)
def test_impossible_sizes_are_refused(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
