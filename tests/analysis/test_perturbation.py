"""Perturbations and their score: exactly n elements go, the right ones, and the accuracy lost is counted in pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from cvkan.analysis.perturbation import (
    ORDERS,
    erased,
    impact,
    intensity,
    removal_mask,
    removal_order,
    removed_counts,
    removed_shares,
)
from cvkan.radio.random import FrameRandom

LEVELS = (1, 2, 3, 4, 5, 10)


def random_bits(brightness: Tensor, seed: int = 0, ids: Tensor | None = None) -> Tensor:
    ids = torch.arange(len(brightness)) if ids is None else ids
    return FrameRandom(seed, ids).words("test", brightness.shape[1])


def mask_of(
    brightness: Tensor, order: str, percent: int, seed: int = 0, ids: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    counts = removed_counts(brightness, percent)
    first = removal_order(brightness, order, random_bits(brightness, seed, ids), int(counts.max()))
    return removal_mask(first, counts, brightness.shape[1]), counts


def with_ties(seed: int, n_images: int = 4, n_pixels: int = 400) -> Tensor:
    """Images as histograms are: mostly black, most lit pixels equal, a few brighter."""
    counts = np.random.default_rng(seed).poisson(0.15, (n_images, n_pixels))
    return torch.from_numpy((np.log1p(counts) / np.log(33)).astype(np.float32))


@pytest.mark.parametrize("percent", [*LEVELS, 7, 50, 57, 100])
def test_counts_are_those_of_the_formula(percent: int) -> None:
    present = torch.arange(1001)
    brightness = (torch.arange(1000) < present[:, None]).float()  # (1001, 1000)
    expected = [0, *(max(1, round(percent / 100 * nnz)) for nnz in range(1, 1001))]
    assert removed_counts(brightness, percent).tolist() == expected


@given(seed=st.integers(0, 1000), order=st.sampled_from(sorted(ORDERS)), percent=st.integers(1, 100))
def test_exactly_n_lit_elements_go_and_the_right_ones(seed: int, order: str, percent: int) -> None:
    brightness = with_ties(seed)
    mask, counts = mask_of(brightness, order, percent, seed)
    assert mask.sum(dim=1).tolist() == counts.tolist()
    assert (brightness[mask] > 0).all()
    for row, removed in zip(brightness, mask, strict=True):
        kept = row[(row > 0) & ~removed]
        if len(kept) and order == "top":
            assert row[removed].min() >= kept.max()
        if len(kept) and order == "bottom":
            assert row[removed].max() <= kept.min()


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_levels_contain_each_other(order: str) -> None:
    brightness = with_ties(1)
    smaller, larger = (mask_of(brightness, order, percent)[0] for percent in (3, 10))
    assert (larger | ~smaller).all()


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_images_of_one_histogram_lose_equally_many_pixels(order: str) -> None:
    brightness = with_ties(2, n_images=1)
    shuffled = brightness[:, torch.randperm(brightness.shape[1], generator=torch.Generator().manual_seed(0))]
    for percent in LEVELS:
        (mask, _), (other, _) = mask_of(brightness, order, percent), mask_of(shuffled, order, percent)
        assert mask.sum() == other.sum()


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_equals_are_chosen_by_the_seed_and_uniformly(order: str) -> None:
    brightness = torch.full((4000, 20), 0.2)
    mask, _ = mask_of(brightness, order, 10)
    assert torch.equal(mask, mask_of(brightness, order, 10)[0])
    assert not torch.equal(mask, mask_of(brightness, order, 10, seed=1)[0])
    times = mask.sum(dim=0).numpy()  # 400 of 4000 expected of each pixel
    assert stats.chisquare(times).pvalue > 1e-4


def test_mask_of_a_frame_depends_on_no_other() -> None:
    brightness, ids = with_ties(3, n_images=6), torch.tensor([7, 3, 90, 4, 12, 1])
    turned = torch.tensor([4, 0, 5, 2, 1, 3])
    for order in ORDERS:
        whole, _ = mask_of(brightness, order, 10, ids=ids)
        other, _ = mask_of(brightness[turned], order, 10, ids=ids[turned])
        alone, _ = mask_of(brightness[:1], order, 10, ids=ids[:1])
        assert torch.equal(other, whole[turned])
        assert torch.equal(alone, whole[:1])


def test_brightness_of_colours_and_of_samples() -> None:
    images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(intensity(images), images.numpy().mean(axis=1).reshape(2, 20), rtol=1e-6)
    frames = torch.randn(2, 9, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(intensity(frames), np.abs(frames.numpy()) ** 2, rtol=1e-6)


def test_all_channels_of_a_pixel_go_and_nothing_else() -> None:
    images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) + 0.1
    mask = torch.zeros(2, 20, dtype=torch.bool)
    mask[0, 7] = mask[1, 19] = True  # row 1, column 2; row 3, column 4
    expected = images.numpy().copy()
    expected[0, :, 1, 2] = expected[1, :, 3, 4] = 0
    np.testing.assert_array_equal(erased(images, mask), expected)
    frames = images.flatten(1)[:, :20].to(torch.complex64)
    np.testing.assert_array_equal(erased(frames, mask), np.where(mask, 0, frames))


def test_shares_are_stated_three_ways() -> None:
    brightness = torch.tensor([[0.0, 0.1, 0.2, 0.7], [0.0, 0.0, 0.0, 0.0]])
    mask = torch.tensor([[False, False, False, True], [False] * 4])
    shares = removed_shares(brightness, mask, percent=5)
    np.testing.assert_allclose(shares, [[0.05, 0.25, 0.7], [0.05, 0.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_black_image_loses_nothing(order: str) -> None:
    brightness = torch.zeros(2, 50)
    mask, counts = mask_of(brightness, order, 5)
    assert counts.tolist() == [0, 0]
    assert not mask.any()
    brightness[1, 3] = 0.5  # beside one that is not black
    assert mask_of(brightness, order, 5)[0].nonzero().tolist() == [[1, 3]]


def test_impact_is_the_paired_loss_of_accuracy_over_the_share() -> None:
    generator = np.random.default_rng(0)
    clean, perturbed = generator.random((200, 3)) < 0.8, generator.random((200, 3)) < 0.5
    shares = generator.random((200, 2))
    found = impact(torch.from_numpy(clean), torch.from_numpy(perturbed), torch.from_numpy(shares))
    drop = clean.mean(axis=0) - perturbed.mean(axis=0)
    np.testing.assert_allclose(found.drop, drop)
    np.testing.assert_allclose(found.score, drop / shares.mean(axis=0)[:, None])
    np.testing.assert_allclose(found.standard_error, stats.sem(clean.astype(float) - perturbed, axis=0))


def test_nothing_removed_has_no_score() -> None:
    right, wrong = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.bool)
    found = impact(right, wrong, torch.tensor([[0.0, 0.5]], dtype=torch.float64))
    assert found.score[0].isnan().all()
    assert found.score[1].tolist() == [2.0, 2.0, 2.0]
    assert found.standard_error.isnan().all()
