"""The modulation classes in label order, and the points of those that have a constellation.

Points are complex128: they are constants, and a table that starts exact stays exact in every dtype it is cast to.

Legend: M points of a constellation, R rings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

CLASSES = (
    "OOK", "4ASK", "8ASK", "BPSK", "QPSK", "8PSK", "16PSK", "32PSK", "16APSK", "32APSK", "64APSK", "128APSK", "16QAM",
    "32QAM", "64QAM", "128QAM", "256QAM", "AM-SSB-WC", "AM-SSB-SC", "AM-DSB-WC", "AM-DSB-SC", "FM", "GMSK", "OQPSK",
)  # fmt: skip
WITHOUT_CONSTELLATION = ("AM-SSB-WC", "AM-SSB-SC", "AM-DSB-WC", "AM-DSB-SC", "FM", "GMSK")
DEFAULT_CLASSES = tuple(name for name in CLASSES if name not in ("OOK", *WITHOUT_CONSTELLATION))

# Outer radius of 16APSK in units of the inner one. DVB-S2 has one a code rate: 3.15 is 2/3, 2.85 is 3/4, 2.57 is 9/10.
APSK16_RATIOS = (3.15, 2.85, 2.75, 2.70, 2.60, 2.57)
APSK64_RINGS = {
    "8+16+20+20": ((1.0, 2.2, 3.6, 5.2), (8, 16, 20, 20)),
    "4+12+20+28": ((1.0, 2.4, 4.3, 7.0), (4, 12, 20, 28)),
}
APSK128_RADII = (1.0, 1.715, 2.118, 2.681, 2.75, 3.819)
# Angles of the first quadrant in units of pi; the other quadrants mirror it in both axes.
APSK128_ANGLES = (
    (83 / 1260, 103 / 560, 177 / 560, 243 / 560),
    (121 / 2520, 113 / 560, 167 / 560, 1139 / 2520),
    (23 / 280, 169 / 1008, 239 / 720, 117 / 280),
    (61 / 720, 139 / 840, 281 / 840, 349 / 840),
    (19 / 720, 563 / 2520, 199 / 720, 341 / 720),
    (37 / 1680, 11 / 168, 11 / 105, 61 / 420, 929 / 5040, 383 / 1680, 49 / 180, 53 / 168, 1789 / 5040, 1993 / 5040,
     73 / 168, 43 / 90),
)  # fmt: skip


def constellation(
    name: str, *, unipolar_ask: bool = False, apsk16_ratio: float = 2.85, apsk64: str = "8+16+20+20"
) -> Tensor:
    """Points of a linear modulation, scaled to a mean energy of 1.

    Args:
        name: one of :data:`CLASSES`. OQPSK has the points of QPSK; that its Q rail comes half a symbol later is a
            matter of the waveform.
        unipolar_ask: 4ASK and 8ASK carry amplitudes 0 ... M - 1, not -(M - 1) ... M - 1. OOK always is {0, 1}.
        apsk16_ratio: outer by inner radius of 16APSK, one of :data:`APSK16_RATIOS`.
        apsk64: points a ring of 64APSK, one of :data:`APSK64_RINGS`.

    Returns:
        Points (M,) complex128 of equal probability: mean |a|^2 = 1, and mean a = 0 but for unipolar ASK and OOK.

    Raises:
        ValueError: the class is unknown or has no constellation, or an option is not one of its choices.

    Source: ETSI EN 302 307-1 and 302 307-2 (DVB-S2, DVB-S2X) for the APSKs; the rest are the classical grids.
    """
    if name in WITHOUT_CONSTELLATION:
        raise ValueError(f"{name} has no constellation: it is no linear modulation; leave it out")
    if name not in CLASSES:
        raise ValueError(f"unknown modulation {name!r}; choose among {', '.join(CLASSES)}")
    if apsk16_ratio not in APSK16_RATIOS:
        raise ValueError(f"apsk16_ratio is {apsk16_ratio}; choose among {', '.join(map(str, APSK16_RATIOS))}")
    if apsk64 not in APSK64_RINGS:
        raise ValueError(f"apsk64 is {apsk64!r}; choose among {', '.join(APSK64_RINGS)}")
    return _constellations(unipolar_ask, apsk16_ratio, apsk64)[name].clone()


@cache
def _constellations(unipolar_ask: bool, apsk16_ratio: float, apsk64: str) -> dict[str, Tensor]:
    """Points of every class that has some, scaled to unit mean energy."""
    radii64, sizes64 = APSK64_RINGS[apsk64]
    points = {
        "OOK": _ask(2, unipolar=True),
        "4ASK": _ask(4, unipolar_ask),
        "8ASK": _ask(8, unipolar_ask),
        "BPSK": _ring(2),
        "QPSK": _ring(4, offset=math.pi / 4),
        "8PSK": _ring(8),
        "16PSK": _ring(16),
        "32PSK": _ring(32),
        "16APSK": _rings((1.0, apsk16_ratio), (4, 12), (math.pi / 4, math.pi / 12)),
        "32APSK": _rings((1.0, 2.84, 5.27), (4, 12, 16), (math.pi / 4, math.pi / 12, 0.0)),
        "64APSK": _rings(radii64, sizes64, [math.pi / size for size in sizes64]),
        "128APSK": _mirrored_rings(APSK128_RADII, APSK128_ANGLES),
        "16QAM": _qam(4),
        "32QAM": _qam(6, corner=1),
        "64QAM": _qam(8),
        "128QAM": _qam(12, corner=2),
        "256QAM": _qam(16),
        "OQPSK": _ring(4, offset=math.pi / 4),
    }
    return {name: a / a.abs().square().mean().sqrt() for name, a in points.items()}


def _ask(size: int, unipolar: bool) -> Tensor:
    """M amplitudes on the real axis: 0 ... M - 1, or the odd integers -(M - 1) ... M - 1."""
    steps = torch.arange(size, dtype=torch.float64)
    return (steps if unipolar else 2 * steps - (size - 1)).to(torch.complex128)  # (M,)


def _ring(size: int, radius: float = 1.0, offset: float = 0.0) -> Tensor:
    """radius exp(j (offset + 2 pi k / M)), k = 0 ... M - 1."""
    angles = offset + 2 * math.pi / size * torch.arange(size, dtype=torch.float64)
    return torch.polar(torch.full_like(angles, radius), angles)  # (M,)


def _rings(radii: Sequence[float], sizes: Sequence[int], offsets: Sequence[float]) -> Tensor:
    """R rings of evenly spaced points, from the innermost outwards."""
    return torch.cat([_ring(*ring) for ring in zip(sizes, radii, offsets, strict=True)])  # (M,)


def _mirrored_rings(radii: Sequence[float], quadrants: Sequence[Sequence[float]]) -> Tensor:
    """R rings, each given by the angles of its first quadrant in units of pi and mirrored in both axes."""
    rings = []
    for radius, quadrant in zip(radii, quadrants, strict=True):
        angles = math.pi * torch.tensor(quadrant, dtype=torch.float64)
        first = torch.polar(torch.full_like(angles, radius), angles)
        rings.append(torch.cat([first, -first.conj(), -first, first.conj()]))
    return torch.cat(rings)  # (M,)


def _qam(side: int, corner: int = 0) -> Tensor:
    """Odd-integer grid of side x side points without its four corner x corner squares, row by row."""
    axis = 2 * torch.arange(side, dtype=torch.float64) - (side - 1)
    re, im = torch.meshgrid(axis, axis, indexing="xy")  # (side, side)
    edge = side - 2 * corner
    kept = (re.abs() < edge) | (im.abs() < edge)
    return torch.complex(re, im)[kept]  # (M,)
