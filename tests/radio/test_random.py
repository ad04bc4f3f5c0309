"""Addressed random numbers: their distributions, their independence, and that nothing but the address decides them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from cvkan.radio.random import GOLDEN, FrameRandom, _mix

N_FRAMES, N = 400, 500
KINDS = ["uniform", "normal", "complex_normal"]


def frames(seed: int = 0, first: int = 0) -> FrameRandom:
    return FrameRandom(seed, torch.arange(first, first + N_FRAMES))


def p_value(values: Tensor, distribution: str) -> float:
    """Of the Kolmogorov-Smirnov test against a distribution of scipy."""
    return stats.kstest(values.flatten().double().numpy(), distribution).pvalue


def mixed(z: int) -> int:
    """The mixer in Python's own integers."""
    z %= 2**64
    for multiplier in (0xD6E8FEB86659FD93, 0xD6E8FEB86659FD93, 1):
        z = (z ^ (z >> 32)) * multiplier % 2**64
    return z


def test_words_are_the_mixed_addresses() -> None:
    golden, index = 0x9E3779B97F4A7C15, [7, -1, 2**62, 0]
    words = FrameRandom(3, torch.tensor(index)).words("a", 50)
    base = int.from_bytes(hashlib.sha256(b"3/a").digest()[:8])
    expected = [[mixed(mixed(base + golden * i) + golden * c) for c in range(50)] for i in index]
    assert [[word % 2**64 for word in row] for row in words.tolist()] == expected


@pytest.mark.parametrize("start", [torch.arange(2**12), torch.arange(2**12) << 40, GOLDEN * torch.arange(2**12)])
def test_one_bit_of_an_address_changes_every_bit_of_the_word_half_of_the_time(start: Tensor) -> None:
    bits = torch.arange(64)
    inputs = start[:, None] ^ (torch.ones(64, dtype=torch.int64) << bits)  # (n, 64)
    changed = _mix(inputs.contiguous()) ^ _mix(start.clone())[:, None]
    share = ((changed[..., None] >> bits) & 1).float().mean(dim=0)  # (64, 64)
    assert (share - 0.5).abs().max() < 6.5 * 0.5 / len(start) ** 0.5
    assert (share - 0.5).square().mean().sqrt() < 1.5 * 0.5 / len(start) ** 0.5


@pytest.mark.parametrize("seed", [0, 1, -5, 2**70])
def test_uniform_is_uniform_and_open(seed: int) -> None:
    u = frames(seed).uniform("a", N)
    assert u.dtype == torch.float32
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert p_value(u, "uniform") > 1e-3


def test_extreme_words_stay_inside_the_open_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    extremes = torch.tensor([[0, -1, 2**63 - 1, -(2**63), 2**31, -(2**31)]])
    monkeypatch.setattr(FrameRandom, "words", lambda self, stream, *shape: extremes.clone())
    random = FrameRandom(0, torch.tensor([0]))
    u = random.uniform("a", 6)
    assert (u > 0).all()
    assert (u < 1).all()
    assert random.complex_normal("a", 6).isfinite().all()
    assert random.integers("a", 256, 6).tolist() == [[0, 255, 127, 128, 0, 255]]


def test_complex_normal_is_circular_and_has_unit_power() -> None:
    x = frames().complex_normal("a", N)
    assert x.dtype == torch.complex64
    n = x.numel()
    assert abs(x.abs().square().mean() - 1) < 4 / n**0.5
    assert abs(x.mean()) < 4 / n**0.5
    assert abs(x.square().mean()) < 4 * 2**0.5 / n**0.5  # E x^2 = 0: circular
    assert p_value(x.real * 2**0.5, "norm") > 1e-3
    assert p_value(x.imag * 2**0.5, "norm") > 1e-3
    assert p_value(x.angle() / (2 * torch.pi) + 0.5, "uniform") > 1e-3
    assert p_value(x.abs().square(), "expon") > 1e-3
    assert stats.pearsonr(x.abs().flatten().numpy(), x.angle().flatten().numpy()).pvalue > 1e-3


def test_complex_normal_has_the_tail_of_a_normal() -> None:
    power = frames().complex_normal("tail", 20 * N).abs().square()  # 4e6 numbers
    for level in (5.0, 8.0, 11.0):
        expected = power.numel() * np.exp(-level)
        assert abs((power > level).sum() - expected) < 5 * expected**0.5


def test_normal_has_mean_0_and_variance_1() -> None:
    assert p_value(frames().normal("a", N), "norm") > 1e-3


@pytest.mark.parametrize("high", [2, 12, 256])
def test_integers_are_equally_frequent(high: int) -> None:
    values = frames().integers("a", high, N)
    counts = torch.bincount(values.flatten(), minlength=high)
    assert len(counts) == high
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_integers_take_a_bound_for_each_frame() -> None:
    high = torch.arange(N_FRAMES) % 7 + 1
    assert (frames().integers("a", high, N).amax(dim=1) == high - 1).all()


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (frames(first=1).uniform("a", N), "the next frame"),
        (frames(first=2**40).uniform("a", N), "a frame far away"),
        (frames(seed=1).uniform("a", N), "the next seed"),
        (frames(seed=-1).uniform("a", N), "the seed with another sign"),
        (frames().uniform("b", N), "another stream"),
        (frames().uniform("a", N + 1)[:, 1:], "the next place"),
    ],
)
def test_numbers_of_neighbouring_addresses_are_uncorrelated(other: Tensor, what: str) -> None:
    own = frames().uniform("a", N)
    assert not (own == other).all(dim=1).any(), what
    for power in (1, 2):
        correlation = np.corrcoef(own.flatten() ** power, other.flatten() ** power)[0, 1]
        assert abs(correlation) < 4.5 / own.numel() ** 0.5, what


def test_no_frame_has_the_words_of_another() -> None:
    words = FrameRandom(0, torch.arange(20_000)).words("a", 16)
    assert len(words.unique()) == words.numel()


@given(st.permutations(range(9)), st.integers(-(2**80), 2**80), st.sampled_from(KINDS))
@settings(max_examples=30, deadline=None)
def test_a_frame_has_the_same_numbers_in_every_order(order: list[int], seed: int, kind: str) -> None:
    index = torch.tensor([5, 0, -3, 2**62, 17, 18, 19, 1000, 4])
    whole = getattr(FrameRandom(seed, index), kind)("a", 33)
    assert torch.equal(getattr(FrameRandom(seed, index[order]), kind)("a", 33), whole[order])
    assert torch.equal(getattr(FrameRandom(seed, index).take(torch.tensor(order[:2])), kind)("a", 33), whole[order[:2]])


def test_a_shorter_request_is_the_beginning_of_a_longer_one() -> None:
    assert torch.equal(frames().words("a", 20), frames().words("a", 70)[:, :20])


def test_shapes_are_those_asked_for() -> None:
    random = frames()
    assert random.uniform("a").shape == (N_FRAMES,)
    assert random.complex_normal("a", 2, 3).shape == (N_FRAMES, 2, 3)
    assert random.integers("a", torch.full((N_FRAMES,), 3), 2, 3).shape == (N_FRAMES, 2, 3)
    assert FrameRandom(0, torch.zeros(0, dtype=torch.int64)).complex_normal("a", 5).shape == (0, 5)


def test_global_generator_is_not_touched() -> None:
    state = torch.get_rng_state()
    frames().complex_normal("a", N)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("index", [torch.arange(3.0), torch.arange(4).view(2, 2), torch.tensor(0)])
def test_index_of_another_kind_is_refused(index: Tensor) -> None:
    with pytest.raises(ValueError, match="give frame numbers"):
        FrameRandom(0, index)
