"""Constellation images: the counts of numpy, the sums of the definition, and nothing of one image in another."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvkan.benchmarks.constellation_images import image_rows
from cvkan.radio.constellations import DEFAULT_CLASSES
from cvkan.radio.generator import FrameGenerator
from cvkan.radio.images import ConstellationImage, Histogram, Splat


def noise(batch: int, n: int, seed: int = 0) -> Tensor:
    """Frames of unit power, (batch, n) complex64; some samples lie outside of any image."""
    return torch.randn(batch, n, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


def splat(**options: object) -> Splat:
    return Splat(**{"size": 16, "limit": 2.5, "reaches": [1, 2, 4], "references": [1, 2, 4], "grey": False, **options})


def numpy_counts(frame: Tensor, size: int, limit: float) -> np.ndarray:
    """Counts (S, S) with +Q at the top."""
    samples = frame.numpy()
    counts, _, _ = np.histogram2d(samples.imag, samples.real, bins=size, range=[[-limit, limit]] * 2)
    return counts[::-1]


def counts_of(images: Tensor, reference: int) -> np.ndarray:
    """The counts below c_ref that images (B, 1, S, S) show."""
    return np.round(np.expm1(images[:, 0].double().numpy() * math.log1p(reference)))


@pytest.mark.parametrize(("size", "limit", "reference"), [(224, 3.0, 32), (64, 2.5, 8), (7, 1.7, 500), (1, 0.3, 1)])
def test_histogram_has_the_counts_and_grey_levels_of_numpy(size: int, limit: float, reference: int) -> None:
    frames = noise(11, 300)
    image = Histogram(size, limit, reference)
    counts = np.stack([numpy_counts(frame, size, limit) for frame in frames])
    values = np.minimum(1, np.log1p(counts) / np.log1p(reference))
    np.testing.assert_allclose(image(frames)[:, 0].numpy(), values, rtol=1e-6)
    np.testing.assert_array_equal(image.levels(frames)[:, 0].numpy(), np.round(255 * values))


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 300), limit=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_samples_on_an_edge_and_next_to_it_fall_where_numpy_puts_them(size: int, limit: float, seed: int) -> None:
    edges = np.linspace(-limit, limit, size + 1).astype(np.float32)
    around = np.concatenate([edges, np.nextafter(edges, np.float32(-np.inf)), np.nextafter(edges, np.float32(np.inf))])
    around = np.concatenate([around, np.float32([0.0, -0.0, 1e-45, -1e-45])])
    shuffled = np.random.default_rng(seed).permutation(around)
    frame = torch.complex(torch.from_numpy(around), torch.from_numpy(shuffled))
    image = Histogram(size, limit, 10**6)  # no count reaches white
    np.testing.assert_array_equal(counts_of(image(frame[None]), 10**6)[0], numpy_counts(frame, size, limit))


def test_samples_outside_or_not_finite_are_left_out() -> None:
    beyond = [3.0001, -3.0001, 1e30, math.inf, -math.inf, math.nan]
    outside = [complex(*pair) for value in beyond for pair in ((value, 0.0), (0.0, value), (value, value))]
    frame = torch.tensor([*outside, 3.0 - 3.0j, -3.0 + 3.0j], dtype=torch.complex64)
    expected = torch.zeros(8, 8)
    expected[7, 7] = expected[0, 0] = 1  # the border itself belongs to the image
    torch.testing.assert_close(Histogram(8, 3.0, 1)(frame[None])[0, 0], expected)


def test_many_samples_in_one_pixel_are_all_counted() -> None:
    n = 40_000
    frame = torch.full((1, n), 0.1 + 0.1j, dtype=torch.complex64)
    image = Histogram(4, 3.0, 2 * n)(frame)
    assert counts_of(image, 2 * n)[0, 1, 2] == n
    assert image.count_nonzero() == 1


@pytest.mark.parametrize(
    ("snr_db", "low", "high"), [(0.0, 950, 985), (30.0, 800, 930)], ids=["noisy frames fill more pixels", "clean fewer"]
)
def test_occupied_pixels_of_real_frames(snr_db: float, low: float, high: float) -> None:
    generator = FrameGenerator(
        classes=DEFAULT_CLASSES,
        n_samples=1024,
        samples_per_symbol=8,
        rolloff=[0.1, 0.4],
        span=8,
        random_phase=True,
        random_timing=True,
        carrier_offset_std=0.0,
        clock_offset_std=0.0,
        fading=None,
        multipath=None,
        snr_definition="es_n0",
    )
    modulation = torch.arange(len(DEFAULT_CLASSES)).repeat(2)
    snr = torch.full((len(modulation),), snr_db)
    frames = generator.frames(modulation, snr, seed=0, index=torch.arange(len(modulation)))
    frames = frames / frames.abs().square().mean(1, keepdim=True).sqrt()
    counts = counts_of(Histogram(224, 3.0, 32)(frames), 32)
    assert low < (counts > 0).sum((1, 2)).mean() < high
    assert 2.5 < counts.max((1, 2)).mean() < 5


def naive_splat(frame: Tensor, size: int, limit: float, reach: int) -> np.ndarray:
    """P_b (S, S) as it is defined: one sample and one pixel after the other."""
    d = 2 * limit / size
    sums = np.zeros((size, size))
    for sample in frame.tolist():
        column, row = math.floor((sample.real + limit) / d), math.floor((limit - sample.imag) / d)
        for i, j in product(range(size), range(size)):
            if abs(i - row) <= reach and abs(j - column) <= reach:
                centre = complex(-limit + (j + 0.5) * d, limit - (i + 0.5) * d)
                sums[i, j] += math.exp(-(5 / reach) * abs(centre - sample) / (d * math.sqrt(2)))
    return sums


def test_splat_is_the_sum_of_its_definition() -> None:
    frames = noise(2, 9)
    expected = np.stack([[naive_splat(frame, 16, 2.5, reach) for reach in (1, 2, 4)] for frame in frames])
    images = splat(references=[100, 100, 100])(frames)
    np.testing.assert_allclose(images.numpy() * 100, expected, rtol=1e-4, atol=1e-5)
    references = np.array([1, 2, 4])[:, None, None]
    images = splat()(frames)
    np.testing.assert_allclose(images.numpy(), np.minimum(1, expected / references), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(splat(grey=True)(frames), images.mean(1, keepdim=True))


@pytest.mark.parametrize("sample", [2.45 + 2.45j, -2.5 - 2.5j, 2.6 + 0.1j, 0.1 - 3.1j, 3.9 + 3.9j])
def test_window_at_the_border_is_clipped_and_not_dropped(sample: complex) -> None:
    frame = torch.tensor([sample], dtype=torch.complex64)
    sums = splat(references=[1, 1, 1])(frame[None])[0].numpy()
    for channel, reach in zip(sums, (1, 2, 4), strict=True):
        np.testing.assert_allclose(channel, naive_splat(frame, 16, 2.5, reach), rtol=1e-4, atol=1e-6)
    near = max(abs(sample.real), abs(sample.imag)) < 2.5 + 4 * 5 / 16
    assert (sums[2].max() > 0) == near


def test_splat_leaves_out_what_is_far_away_or_not_finite() -> None:
    beyond = torch.tensor([[1e30, -1e30j, complex(math.nan, 0), complex(0, math.inf)]], dtype=torch.complex64)
    assert splat()(beyond).count_nonzero() == 0


def test_maximum_in_place_of_references_scales_each_channel_of_each_image() -> None:
    images = splat(references=None)(noise(3, 50))
    torch.testing.assert_close(images.amax((2, 3)), torch.ones(3, 3))
    assert splat(references=None)(torch.full((1, 4), 9 + 9j)).count_nonzero() == 0  # an empty image has no maximum


@pytest.mark.parametrize("image", [Histogram(32, 3.0, 32), splat(size=32)], ids=["histogram", "splat"])
def test_image_of_a_frame_does_not_depend_on_the_batch(image: ConstellationImage) -> None:
    frames = noise(19, 101)  # neither is a multiple of what is computed at a time
    together = image(frames)
    assert torch.equal(together, torch.cat([image(frame[None]) for frame in frames]))
    assert torch.equal(together.flip(0), image(frames.flip(0)))
    frames[3] *= 100
    kept = torch.arange(len(frames)) != 3
    assert torch.equal(together[kept], image(frames)[kept])


@pytest.mark.parametrize(
    "image", [Histogram(9, 3.0, 32), splat(), splat(grey=True)], ids=["histogram", "splat", "grey"]
)
def test_image_says_its_channels_and_size_and_stays_in_range(image: ConstellationImage) -> None:
    frames = noise(2, 500) * 0.1
    for batch in (frames, frames[:0], frames[:, ::3], frames.conj(), frames[:1].expand(2, -1)):
        images = image(batch)
        assert images.shape == (len(batch), image.n_channels, image.size, image.size)
        assert images.dtype == torch.float32
        assert not len(batch) or 0 <= images.min() <= images.max() <= 1
        assert torch.equal(image.levels(batch), (images * 255).round().to(torch.uint8))
    flipped = image(frames.conj())
    torch.testing.assert_close(flipped, image(frames).flip(2), rtol=1e-3, atol=1e-3)  # +Q is at the top


def test_bfloat16_module_counts_as_before() -> None:
    frames = noise(2, 300)
    assert torch.equal(Histogram(224, 3.0, 32).to(torch.bfloat16)(frames), Histogram(224, 3.0, 32)(frames))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Histogram(0, 3.0, 32), "size of an image is 0; set"),
        (lambda: Histogram(5000, 3.0, 32), "at most 4096"),
        (lambda: Histogram(8, -1.0, 32), "limit of an image is -1.0; set"),
        (lambda: Histogram(8, math.nan, 32), "limit of an image is nan; set"),
        (lambda: Histogram(8, 3.0, 0), "reference of the histogram is 0; set"),
        (lambda: splat(reaches=[2, 10]), "reaches are .*; set three"),
        (lambda: splat(reaches=[2, 10, 0]), "reaches are .*; set three"),
        (lambda: splat(references=[1, 1, 0]), "references are .*; set three"),
        (lambda: splat(references=[1, 1]), "references are .*; set three"),
        (lambda: Histogram(8, 3.0, 32)(torch.zeros(4, dtype=torch.complex64)), r"shape \(4,\).*give"),
        (lambda: splat()(torch.zeros(2, 4)), "float32; give"),
    ],
)
def test_wrong_values_are_refused(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]


def test_benchmark_compares_both_images_with_the_loop() -> None:
    rows = list(image_rows(n_frames=3, n_samples=64, size=16, repetitions=2, min_seconds=0.0, seed=0))
    assert [row.case.split()[0] for row in rows] == ["histogram", "splat"]
    assert all(row.value > 0 and row.ratio > 0 for row in rows)
