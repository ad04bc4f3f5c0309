from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkan.radio.constellations import constellation
from cvkan.radio.cumulants import CUMULANTS, cumulants, joint_cumulants


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    """All ways to put items into groups."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for smaller in partitions(rest):
        yield [[first], *smaller]
        for i, group in enumerate(smaller):
            yield [*smaller[:i], [first, *group], *smaller[i + 1 :]]


def by_definition(x: np.ndarray, order: int, n_conjugate: int) -> complex:
    """Joint cumulant of samples (T,): (-1)^(g-1) (g-1)! times the moments of g even groups, over all partitions."""
    factors = [x] * (order - n_conjugate) + [x.conj()] * n_conjugate
    total = 0j
    for groups in partitions(list(range(order))):
        if all(len(group) % 2 == 0 for group in groups):
            moments = [np.prod([factors[i] for i in group], axis=0).mean() for group in groups]
            total += (-1) ** (len(groups) - 1) * math.factorial(len(groups) - 1) * np.prod(moments)
    return total


def samples(n_frames: int = 3, n: int = 40, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_frames, n, dtype=torch.complex128, generator=generator) + 0.3 * torch.randn(
        n_frames, n, dtype=torch.float64, generator=generator
    )


@pytest.mark.parametrize("name", CUMULANTS)
def test_cumulants_are_sums_over_partitions(name: str) -> None:
    x = samples()
    expected = [by_definition(frame.numpy(), int(name[1]), int(name[2])) for frame in x]
    np.testing.assert_allclose(joint_cumulants(x)[name].numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BPSK", {"C20": 1, "C40": -2, "C42": -2, "C63": 16}),
        ("QPSK", {"C20": 0, "C40": -1, "C42": -1, "C63": 4}),
        ("8PSK", {"C20": 0, "C40": 0, "C42": -1, "C63": 4}),
        ("16QAM", {"C20": 0, "C40": -0.68, "C42": -0.68, "C63": 2.08}),
        ("64QAM", {"C20": 0, "C40": -0.619, "C42": -0.619, "C63": 1.797}),
    ],
)
def test_constellations_have_their_published_cumulants(name: str, expected: dict[str, float]) -> None:
    found = joint_cumulants(constellation(name).unsqueeze(0))
    assert {key: found[key].item() for key in expected} == pytest.approx(expected, abs=2e-3)


def test_features_are_normalised_and_keep_the_sign_of_what_is_real() -> None:
    features = dict(zip(CUMULANTS, cumulants(0.5 * constellation("16QAM").unsqueeze(0))[0].tolist(), strict=True))
    assert features["C21"] == pytest.approx(2 * math.log(0.5))
    assert features["C20"] == pytest.approx(0, abs=1e-6)
    assert features["C40"] == pytest.approx(0.68**0.5)
    assert features["C42"] == pytest.approx(-(0.68**0.5))
    assert features["C63"] == pytest.approx(2.08 ** (1 / 3))


@given(angle=st.floats(-4, 4), log_scale=st.floats(-3, 3))
def test_features_ignore_phase_and_all_but_one_the_power(angle: float, log_scale: float) -> None:
    x = samples()
    scale = torch.polar(torch.tensor(math.exp(log_scale)), torch.tensor(angle)).to(torch.complex128)
    shift = torch.zeros(len(CUMULANTS), dtype=torch.float64)
    shift[0] = 2 * log_scale
    torch.testing.assert_close(cumulants(scale * x), cumulants(x) + shift, rtol=1e-5, atol=1e-5)


def test_noise_has_power_alone() -> None:
    noise = torch.randn(1, 1_000_000, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    found = joint_cumulants(noise)
    assert found.pop("C21").item() == pytest.approx(1, abs=5e-3)
    assert max(value.abs().item() for value in found.values()) < 0.15  # 5.6 standard deviations of C60


def test_a_silent_frame_has_finite_features() -> None:
    assert cumulants(torch.zeros(2, 8, dtype=torch.complex64)).isfinite().all()
