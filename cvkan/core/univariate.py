"""The learned univariate functions: psi of the log-magnitude and phi of the phase, one function a channel.

Legend: D complex channels, K knots, M harmonics; (...) any leading dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvkan.core.fused import Fourier, Polynomial
from cvkan.core.polar import Planes, log_magnitude, polar_coordinates, squared_magnitude, unit_phase

# Coefficients are stored in units of 4. A function that acts through a bounded gate has small gradients; in this unit
# they are, number by number, of the size of the gradients of the matrices, and plain SGD trains both at one rate.
UNIT = 4.0


class Psi(nn.Module):
    """Base of the functions of the log-magnitude: built as ``Psi(d_complex)``, zero at the start."""

    @staticmethod
    def coordinates(z: Planes) -> tuple[Tensor, Planes]:
        """The magnitude coordinate (..., D) this form works on and the unit phase of planes (..., D)."""
        raise NotImplementedError

    def forward(self, coordinate: Tensor) -> Tensor:
        """Values (..., D) at coordinates (..., D)."""
        raise NotImplementedError


class PolynomialPsi(Psi):
    """psi(t) = 4 t (c_1 + t (c_2 + t (c_3 + ...))) on t = tanh(log r), by Horner; zero at the start.

    Bounded, smooth, without log and exp: the cheap form. Source: own choice, ``docs/core.md``.

    Args:
        d_complex: number of channels D, one function each.
        degree: number of coefficients a channel.
    """

    def __init__(self, d_complex: int, degree: int = 4) -> None:
        super().__init__()
        if degree < 1:
            raise ValueError(f"degree must be at least 1, got {degree}")
        self.coefficients = nn.Parameter(torch.zeros(degree, d_complex))

    @staticmethod
    def coordinates(z: Planes) -> tuple[Tensor, Planes]:
        """(t, u), each (..., D), of planes (..., D); computed once a tensor, shared by all its functions."""
        return polar_coordinates(z)

    def forward(self, t: Tensor) -> Tensor:
        """Values (..., D) at coordinates (..., D)."""
        return Polynomial.apply(t, UNIT * self.coefficients)


class RBFPsi(Psi):
    """psi(s) = 4 (l s + sum_k c_k exp(-((s - g_k)/h)^2)) on s = log r; 0 at the start, linear outside the knots.

    Knots g_k are equally spaced, h is their spacing. The sum runs knot by knot: a (..., D, K) tensor
    would cost K times the memory. Source: Gaussian radial bases in the place of the B-splines of
    Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024 (eq. 2.10).

    Args:
        d_complex: number of channels D, one function each.
        n_knots: number of knots K.
        low: first knot, in units of log r.
        high: last knot, in units of log r.
    """

    def __init__(self, d_complex: int, n_knots: int = 8, low: float = -3.0, high: float = 2.0) -> None:
        super().__init__()
        if n_knots < 2 or not low < high:
            raise ValueError(f"need at least 2 knots and low < high, got {n_knots} knots on [{low}, {high}]")
        self.slope = nn.Parameter(torch.zeros(d_complex))
        self.coefficients = nn.Parameter(torch.zeros(n_knots, d_complex))
        self.knots = torch.linspace(low, high, n_knots, dtype=torch.float64).tolist()
        self.inverse_width = (n_knots - 1) / (high - low)

    @staticmethod
    def coordinates(z: Planes) -> tuple[Tensor, Planes]:
        """(s, u), each (..., D), of planes (..., D)."""
        r2 = squared_magnitude(z)
        return log_magnitude(r2), unit_phase(z, r2)

    def forward(self, s: Tensor) -> Tensor:
        """Values (..., D) at coordinates (..., D)."""
        value = UNIT * self.slope * s
        for knot, coefficient in zip(self.knots, self.coefficients.unbind(), strict=True):
            value = value + UNIT * coefficient * torch.exp(-(((s - knot) * self.inverse_width) ** 2))
        return value


class Harmonic(nn.Module):
    """phi(theta) = 4 sum_{m=1..M} (a_m cos(m theta) + b_m sin(m theta)), from powers of the unit phase.

    A truncated Fourier series is the natural univariate function on the circle: periodic, no wrap at pi.

    Args:
        d_complex: number of channels D, one function each.
        n_harmonics: number of harmonics M.
        first_cosine: amplitude of cos(theta) at the start, 1 for the cardioid of Virtue et al., 2017; else 0.
    """

    def __init__(self, d_complex: int, n_harmonics: int = 2, first_cosine: float = 0.0) -> None:
        super().__init__()
        if n_harmonics < 1:
            raise ValueError(f"n_harmonics must be at least 1, got {n_harmonics}")
        self.cosines = nn.Parameter(torch.zeros(n_harmonics, d_complex))
        self.sines = nn.Parameter(torch.zeros(n_harmonics, d_complex))
        with torch.no_grad():
            self.cosines[0] = first_cosine / UNIT

    def forward(self, u: Planes) -> Tensor:
        """Values (..., D) at unit phases (cos, sin), each (..., D)."""
        return Fourier.apply(*u, UNIT * self.cosines, UNIT * self.sines)
