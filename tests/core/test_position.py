from __future__ import annotations

import math

import pytest
import torch
from cases import GRID_2D, N_TOKENS, D, assert_same, gaussian, perturbed, planes_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvkan.core.position import (
    LearnedPolarPosition,
    LearnedPosition,
    NoPosition,
    Position,
    Rotary2DPosition,
    RotaryPosition,
)

KINDS = [NoPosition, LearnedPosition, LearnedPolarPosition, RotaryPosition, Rotary2DPosition]
LEARNED = [LearnedPosition, LearnedPolarPosition]


def theirs(module: Position, z: Tensor) -> Tensor:
    """One token and channel at a time, in complex exponentials."""
    out = torch.empty_like(z)
    for n in range(z.shape[1]):
        for d in range(D):
            value = z[:, n, d]
            if isinstance(module, LearnedPosition):
                value = value + torch.complex(module.position[0, n, d], module.position[1, n, d])
            if isinstance(module, LearnedPolarPosition):
                value = value * torch.exp(module.log_gain[n, d] + 1j * module.angle[n, d])
            if isinstance(module, Rotary2DPosition):
                row, column = divmod(n, GRID_2D[1])
                w = 10000.0 ** (-2 * (d % (D // 2)) / D)
                value = value * cmath_exp(w * (row if d < D // 2 else column))
            elif isinstance(module, RotaryPosition):
                value = value * cmath_exp(10000.0 ** (-d / D) * n)
            out[:, n, d] = value
    return out


def cmath_exp(angle: float) -> complex:
    return complex(math.cos(angle), math.sin(angle))


@pytest.mark.parametrize("kind", KINDS)
def test_position_equals_the_reference(kind: type[Position]) -> None:
    module = perturbed(kind(D, GRID_2D))
    assert_same(module, lambda z: theirs(module, z), gaussian(2, N_TOKENS, D), module)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_tokens_are_the_first_ones_and_complex_tensors_come_back_complex(kind: type[Position]) -> None:
    module, z = perturbed(kind(D, GRID_2D)), gaussian(2, N_TOKENS, D)
    out = module(z)
    assert out.dtype == torch.complex128
    assert torch.equal(module(z[:, :4]), out[:, :4])
    assert torch.equal(torch.complex(*module(planes_of(z))), out)


def test_rotary_works_for_more_tokens_than_the_layout_has() -> None:
    z = gaussian(1, 3 * N_TOKENS, D)
    shorter, longer = RotaryPosition(D, (N_TOKENS,)), RotaryPosition(D, (3 * N_TOKENS,))
    assert torch.equal(shorter(z), longer(z))


@pytest.mark.parametrize("kind", LEARNED)
def test_more_tokens_than_learned_positions_are_refused(kind: type[Position]) -> None:
    with pytest.raises(ValueError, match=r"learned positions for 6 tokens, got 7; .*position=rotary"):
        kind(D, (6,))(gaussian(1, 7, D))


@settings(max_examples=25, deadline=None)
@given(t=st.integers(0, 20), s=st.integers(0, 20), shift=st.integers(0, 40), base=st.sampled_from([100.0, 10000.0]))
def test_rotary_adds_to_a_relative_phase_a_part_of_the_distance_alone(t: int, s: int, shift: int, base: float) -> None:
    module, u = RotaryPosition(D, (64,), base=base), torch.exp(1j * gaussian(1, 1, D).real)
    z = module(u.expand(1, 64, D))[0]  # the same token everywhere
    torch.testing.assert_close(z[t] * z[s].conj(), z[t + shift] * z[s + shift].conj(), rtol=0, atol=1e-10)
    expected = torch.exp(1j * (t - s) * base ** (-torch.arange(D).double() / D))
    torch.testing.assert_close(z[t] * z[s].conj(), expected, rtol=0, atol=1e-10)


def test_rotary2d_turns_half_of_the_channels_with_the_row_and_half_with_the_column() -> None:
    z = Rotary2DPosition(D, (3, 5))(torch.ones(1, 15, D, dtype=torch.complex128)).view(3, 5, D)
    rows, columns = z[..., : D // 2], z[..., D // 2 :]
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    assert torch.equal(columns, columns[:1].expand_as(columns))
    torch.testing.assert_close(rows[2, 0, 0].angle().item(), 2.0)
    torch.testing.assert_close(columns[0, 3, 0].angle().item(), 3.0)


@pytest.mark.parametrize("kind", [RotaryPosition, Rotary2DPosition])
def test_turning_keeps_magnitudes_also_of_late_tokens(kind: type[Position]) -> None:
    z = gaussian(1, 10_000, D).to(torch.complex64)
    module = kind(D, (100, 100))
    torch.testing.assert_close(module(z).abs(), z.abs())
    exact = module(z.to(torch.complex128))  # float32 angles of thousands of radians are off by a fraction of a degree
    torch.testing.assert_close(module(z).to(torch.complex128), exact, rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    ("d_complex", "grid", "message"),
    [
        (4, (6,), r"needs tokens on a grid \(rows, columns\), got the layout \(6,\); choose position=rotary"),
        (5, (2, 3), "even number of channels.*got d_complex=5; set model.d_complex to an even number"),
    ],
)
def test_layouts_that_rotary2d_cannot_take_are_refused(d_complex: int, grid: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rotary2DPosition(d_complex, grid)


def test_base_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"base must be positive, got 0; set position\.base=10000"):
        RotaryPosition(D, (N_TOKENS,), base=0)


@pytest.mark.parametrize("kind", LEARNED)
def test_learned_positions_start_small_and_differ(kind: type[Position]) -> None:
    torch.manual_seed(0)
    z = torch.ones(1, 400, D, dtype=torch.complex64)
    change = kind(D, (20, 20), std=0.1)(z) - z
    expected = 0.1 * math.sqrt(2 if kind is LearnedPosition else 1)
    assert change.abs().square().mean().sqrt().item() == pytest.approx(expected, rel=0.1)


def test_learned_polar_keeps_magnitudes_at_the_start() -> None:
    z = gaussian(2, N_TOKENS, D).to(torch.complex64)
    torch.testing.assert_close(LearnedPolarPosition(D, GRID_2D)(z).abs(), z.abs())


@pytest.mark.parametrize("kind", KINDS[2:])
def test_half_precision_tokens_are_turned_in_float32(kind: type[Position]) -> None:
    module = kind(D, GRID_2D)
    planes = tuple(plane.bfloat16() for plane in planes_of(gaussian(2, N_TOKENS, D)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(planes)
    assert out[0].dtype == torch.float32
    torch.testing.assert_close(out[1], module(tuple(plane.float() for plane in planes))[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS[1:])
def test_compiled_position_takes_other_lengths(kind: type[Position]) -> None:
    torch._dynamo.reset()
    module = kind(D, GRID_2D)
    fast = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    for n_tokens in (N_TOKENS, 4, 5):
        planes = tuple(plane.float() for plane in planes_of(gaussian(2, n_tokens, D)))
        torch.testing.assert_close(fast(planes)[0], module(planes)[0])
