from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cvkan.radio.constellations import (
    APSK16_RATIOS,
    APSK64_RINGS,
    CLASSES,
    DEFAULT_CLASSES,
    WITHOUT_CONSTELLATION,
    constellation,
)

SIZES = dict(
    zip(DEFAULT_CLASSES, (4, 8, 2, 4, 8, 16, 32, 16, 32, 64, 128, 16, 32, 64, 128, 256, 4), strict=True)
)  # in label order
LINEAR = ("OOK", *DEFAULT_CLASSES)
# Closest two points at unit mean energy, from the textbooks: amplitudes 6 / (M^2 - 1), phases 2 sin(pi / M), square
# grids 6 / (M - 1), cross grids 2 / sqrt(20) and 2 / sqrt(82).
MINIMUM_DISTANCE = {
    "OOK": math.sqrt(2),
    "4ASK": math.sqrt(12 / 15),
    "8ASK": math.sqrt(12 / 63),
    "BPSK": 2.0,
    "QPSK": math.sqrt(2),
    "OQPSK": math.sqrt(2),
    "8PSK": 2 * math.sin(math.pi / 8),
    "16PSK": 2 * math.sin(math.pi / 16),
    "32PSK": 2 * math.sin(math.pi / 32),
    "16QAM": math.sqrt(6 / 15),
    "32QAM": 2 / math.sqrt(20),
    "64QAM": math.sqrt(6 / 63),
    "128QAM": 2 / math.sqrt(82),
    "256QAM": math.sqrt(6 / 255),
}


def rings(points: np.ndarray) -> dict[float, int]:
    """How many points stand at each radius, in units of the smallest."""
    radii, counts = np.unique(np.round(np.abs(points) / np.abs(points).min(), 6), return_counts=True)
    return dict(zip(radii.tolist(), counts.tolist(), strict=True))


def as_set(points: torch.Tensor) -> set[complex]:
    """Points without order; rounded, and without the sign of zero."""
    return {complex(round(z.real, 9) + 0.0, round(z.imag, 9) + 0.0) for z in points.tolist()}


def test_the_label_order_is_the_one_of_the_data_set() -> None:
    assert len(CLASSES) == 24
    assert CLASSES[0] == "OOK"
    assert CLASSES[3:9] == ("BPSK", "QPSK", "8PSK", "16PSK", "32PSK", "16APSK")
    assert CLASSES[-2:] == ("GMSK", "OQPSK")
    assert [CLASSES.index(name) for name in DEFAULT_CLASSES] == [*range(1, 17), 23]


@pytest.mark.parametrize("name", LINEAR)
def test_points_are_distinct_and_have_unit_mean_energy(name: str) -> None:
    points = constellation(name)
    assert points.dtype == torch.complex128
    assert len(as_set(points)) == len(points) == {**SIZES, "OOK": 2}[name]
    assert points.abs().square().mean().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", DEFAULT_CLASSES)
def test_points_have_zero_mean_and_mirror_in_both_axes(name: str) -> None:
    points = constellation(name)
    assert abs(points.mean().item()) < 1e-12
    assert as_set(points) == as_set(points.conj()) == as_set(-points)


@pytest.mark.parametrize("name", MINIMUM_DISTANCE)
def test_minimum_distance_is_that_of_the_textbook(name: str) -> None:
    points = constellation(name).numpy()
    distance = np.abs(points[:, None] - points[None, :])[~np.eye(len(points), dtype=bool)]  # (M (M - 1),)
    assert distance.min() == pytest.approx(MINIMUM_DISTANCE[name], rel=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("16APSK", {1.0: 4, 2.85: 12}),
        ("32APSK", {1.0: 4, 2.84: 12, 5.27: 16}),
        ("64APSK", {1.0: 8, 2.2: 16, 3.6: 20, 5.2: 20}),
        ("128APSK", {1.0: 16, 1.715: 16, 2.118: 16, 2.681: 16, 2.75: 16, 3.819: 48}),
    ],
)
def test_rings_of_apsk(name: str, expected: dict[float, int]) -> None:
    assert rings(constellation(name).numpy()) == expected


@pytest.mark.parametrize(
    ("name", "n_inner", "offset"), [("16APSK", 4, 45.0), ("32APSK", 4, 45.0), ("64APSK", 8, 22.5), ("QPSK", 4, 45.0)]
)
def test_first_ring_is_evenly_spaced_from_its_offset(name: str, n_inner: int, offset: float) -> None:
    angles = np.sort(np.angle(constellation(name).numpy()[:n_inner], deg=True) % 360)
    np.testing.assert_allclose(angles, offset + 360 / n_inner * np.arange(n_inner), atol=1e-9)


def test_angles_of_the_outer_ring_of_128apsk() -> None:
    outer = constellation("128APSK").numpy()[-48:]
    first = np.sort(np.angle(outer[(outer.real > 0) & (outer.imag > 0)])) / np.pi
    assert len(first) == 12
    assert first[0] == pytest.approx(37 / 1680)
    assert first[-1] == pytest.approx(43 / 90)


@pytest.mark.parametrize("ratio", APSK16_RATIOS)
def test_code_rates_of_16apsk_set_the_ratio_of_its_radii(ratio: float) -> None:
    assert rings(constellation("16APSK", apsk16_ratio=ratio).numpy()) == {1.0: 4, ratio: 12}


def test_64apsk_has_a_second_layout() -> None:
    points = constellation("64APSK", apsk64="4+12+20+28").numpy()
    assert rings(points) == {1.0: 4, 2.4: 12, 4.3: 20, 7.0: 28}
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1)


@pytest.mark.parametrize(("name", "size"), [("4ASK", 4), ("8ASK", 8)])
def test_unipolar_ask_counts_from_zero(name: str, size: int) -> None:
    points = constellation(name, unipolar_ask=True).numpy()
    np.testing.assert_allclose(points.real / points.real[1], np.arange(size), atol=1e-12)
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1)


def test_the_table_cannot_be_changed_by_its_users() -> None:
    constellation("BPSK").zero_()
    assert as_set(constellation("BPSK")) == {1 + 0j, -1 + 0j}


@pytest.mark.parametrize("name", WITHOUT_CONSTELLATION)
def test_analog_classes_have_no_constellation(name: str) -> None:
    with pytest.raises(ValueError, match="has no constellation"):
        constellation(name)


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown modulation .12QAM.*64QAM"):
        constellation("12QAM")
    with pytest.raises(ValueError, match=r"apsk16_ratio is 3.*3\.15"):
        constellation("QPSK", apsk16_ratio=3)
    with pytest.raises(ValueError, match="apsk64 is '8'.*" + next(iter(APSK64_RINGS)).replace("+", r"\+")):
        constellation("64APSK", apsk64="8")
