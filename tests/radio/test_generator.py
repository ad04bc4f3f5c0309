"""Frames keep what their label says: SNR, class, impairments; and are the same whenever they are asked for."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cvkan.radio.constellations import CLASSES, DEFAULT_CLASSES, WITHOUT_CONSTELLATION, constellation
from cvkan.radio.generator import CHUNK, FrameGenerator
from cvkan.radio.random import FrameRandom
from cvkan.radio.waveform import linear_frames, n_symbols, root_raised_cosine

SETTINGS: dict[str, Any] = {
    "classes": DEFAULT_CLASSES,
    "n_samples": 1024,
    "samples_per_symbol": 8,
    "rolloff": (0.1, 0.4),
    "span": 8,
    "random_phase": False,
    "random_timing": False,
    "carrier_offset_std": 0.0,
    "clock_offset_std": 0.0,
    "fading": None,
    "multipath": None,
    "snr_definition": "es_n0",
}
SYMBOL_RATE = {"samples_per_symbol": 1, "rolloff": None, "span": None}
PATHS = {"delays": [0.0, 0.9, 1.7], "magnitudes": [1.0, 0.8, 0.3], "k_factor": 4.0}
EVERYTHING = {
    "classes": CLASSES,
    "random_phase": True,
    "random_timing": True,
    "carrier_offset_std": 0.01,
    "clock_offset_std": 1e-4,
    "fading": {"k_factor": 0.0},
    "multipath": PATHS,
}


def generator(**changed: Any) -> FrameGenerator:
    return FrameGenerator(**{**SETTINGS, **changed})


def labels(own: FrameGenerator, n_frames: int) -> tuple[Tensor, Tensor]:
    """Modulations in turns, and frame numbers."""
    index = torch.arange(n_frames)
    return index % len(own.classes), index


def received_symbols(own: FrameGenerator, y: Tensor, random: FrameRandom, first: int, n: int, q_late: float) -> Tensor:
    """Matched filter at n symbols from ``first`` on: real parts on time, imaginary parts ``q_late`` symbols later."""
    assert own.span is not None
    sps, reach = own.samples_per_symbol, own.span + 1
    rolloff, timing = own.pulse(random)
    t = torch.arange(-reach * sps, reach * sps) / sps + timing[:, None]  # (B, window), from each symbol's peak
    windows = y[:, (first - own.span - reach) * sps :].unfold(1, 2 * reach * sps, sps)[:, :n]  # (B, symbols, window)
    parts = []
    for part, late in ((windows.real, 0.0), (windows.imag, q_late)):
        g = root_raised_cosine(t - late, rolloff[:, None]) * ((t - late).abs() <= own.span)
        parts.append((part @ g[..., None])[..., 0] / sps)
    return torch.complex(*parts)


def estimated_snr_db(received: Tensor, sent: Tensor) -> float:
    """Es/N0 of received = h sent + noise, data-aided, over all symbols."""
    h = (received * sent.conj()).sum() / sent.abs().square().sum()
    noise = (received - h * sent).abs().square().mean()
    return float(10 * torch.log10(h.abs().square() * sent.abs().square().mean() / noise))


@pytest.mark.parametrize("name", [*DEFAULT_CLASSES, "OOK"])
def test_snr_at_the_matched_filter_is_the_label(name: str) -> None:
    # 8 frames of 1024 symbols: the estimate's own standard error is 0.05 dB (one frame: 0.14 dB).
    own = generator(classes=[name], n_samples=8 * 1050, rolloff=(0.2, 0.4), random_timing=True)
    index, modulation, label = torch.arange(8), torch.zeros(8, dtype=torch.int64), 6.0
    y = own.frames(modulation, torch.full((8,), label), 1, index)
    random = FrameRandom(1, index)
    received = received_symbols(own, y, random, 20, 1024, 0.5 if name == "OQPSK" else 0.0)
    sent = own.symbols(modulation, random, 1044)[:, 20:]
    assert abs(estimated_snr_db(received, sent) - label) < 0.2


@pytest.mark.parametrize("definition", ["es_n0", "sample"])
@pytest.mark.parametrize(
    "changed", [{"classes": CLASSES}, EVERYTHING, SYMBOL_RATE], ids=["plain", "everything", "symbols"]
)
def test_snr_to_the_clean_frame_is_the_label(changed: dict[str, Any], definition: str) -> None:
    own = generator(**{**changed, "n_samples": 8192, "snr_definition": definition})
    modulation, index = labels(own, 2 * len(own.classes))
    label = torch.linspace(-20, 30, len(index))
    clean = own.clean(modulation, 5, index)
    noise = own.frames(modulation, label, 5, index) - clean
    power, noise_power = (values.abs().square().mean(dim=1) for values in (clean, noise))
    per_energy = own.samples_per_symbol if definition == "es_n0" else 1
    measured = 10 * torch.log10(per_energy * power / noise_power)
    assert (measured - label).abs().max() < 0.2
    assert abs((measured - label).mean()) < 0.03


def test_es_n0_is_the_snr_of_a_sample_plus_the_oversampling() -> None:
    modulation, index = labels(generator(), 34)
    label = torch.full((34,), 4.0)
    as_es_n0 = generator().frames(modulation, label, 0, index)
    as_sample = generator(snr_definition="sample").frames(modulation, label - 10 * math.log10(8), 0, index)
    torch.testing.assert_close(as_es_n0, as_sample, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_transmits_mean_power_1(name: str) -> None:
    own = generator(classes=[name])
    modulation, index = labels(own, 200)
    power = own.clean(modulation, 0, index).abs().square().mean(dim=1)  # (B,)
    assert abs(power.mean() - 1) < 5 * power.std() / 200**0.5 + 2e-3


def test_frames_are_the_same_in_every_batch_and_order() -> None:
    own = generator(**EVERYTHING)
    modulation, index = labels(own, 3 * len(CLASSES))
    label = torch.linspace(-20, 30, len(index))
    whole = own.frames(modulation, label, 3, index)
    order = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))
    assert torch.equal(own.frames(modulation[order], label[order], 3, index[order]), whole[order])
    single = [own.frames(modulation[[i]], label[[i]], 3, index[[i]]) for i in range(len(index))]
    torch.testing.assert_close(torch.cat(single), whole)


def test_frames_beyond_a_chunk_are_those_of_smaller_batches() -> None:
    own = generator(n_samples=64, random_phase=True)
    modulation, index = labels(own, 2 * CHUNK + 5)
    label = torch.full((len(index),), 10.0)
    whole = own.frames(modulation, label, 0, index)
    last = slice(2 * CHUNK - 3, None)
    torch.testing.assert_close(own.frames(modulation[last], label[last], 0, index[last]), whole[last])


def test_frames_differ_by_number_and_seed_but_not_by_process() -> None:
    own = generator(random_phase=True)
    modulation, label = torch.zeros(2, dtype=torch.int64), torch.full((2,), 20.0)
    x = own.frames(modulation, label, 0, torch.tensor([4, 5]))
    other_seed = own.frames(modulation, label, 1, torch.tensor([4, 5]))
    for one, another in ((x[0], x[1]), (x[0], other_seed[0])):
        assert abs((one * another.conj()).mean()) < 0.3 * one.abs().square().mean()
    copy = pickle.loads(pickle.dumps(own))
    assert copy == own
    assert torch.equal(copy.frames(modulation, label, 0, torch.tensor([4, 5])), x)


def test_symbols_are_points_of_their_class_all_equally_often() -> None:
    own = generator()
    modulation, index = labels(own, 17 * 20)
    symbols = own.symbols(modulation, FrameRandom(0, index), 400)
    for position, name in enumerate(own.classes):
        points = constellation(name).to(torch.complex64)
        distance = (symbols[modulation == position].flatten()[:, None] - points).abs()
        assert distance.min(dim=1).values.max() < 1e-6
        counts = torch.bincount(distance.argmin(dim=1), minlength=len(points))
        expected = counts.sum() / len(points)
        assert (counts - expected).abs().max() < 5 * expected.sqrt()


def test_one_sample_a_symbol_gives_the_symbols_themselves() -> None:
    own = generator(**SYMBOL_RATE)
    modulation, index = labels(own, 34)
    clean = own.clean(modulation, 0, index)
    assert torch.equal(clean, own.symbols(modulation, FrameRandom(0, index), 1024))


def test_off_means_untouched_and_each_switch_changes_the_frame() -> None:
    modulation, index = labels(generator(), 34)
    plain = generator().clean(modulation, 0, index)
    random = FrameRandom(0, index)
    rail_delay = 0.5 * (modulation == DEFAULT_CLASSES.index("OQPSK"))
    symbols = generator().symbols(modulation, random, n_symbols(1024, 8, 8))
    sizes = {"n_samples": 1024, "samples_per_symbol": 8, "span": 8}
    assert torch.equal(plain, linear_frames(symbols, *generator().pulse(random), rail_delay, **sizes))
    for changed in [*EVERYTHING.items()][1:]:
        assert not torch.allclose(generator(**dict([changed])).clean(modulation, 0, index), plain, atol=0.01), changed


def test_phase_timing_and_rolloff_are_uniform() -> None:
    modulation, index = labels(generator(), 4000)
    x = generator(random_phase=True, n_samples=16).clean(modulation, 0, index)
    turned = x * generator(n_samples=16).clean(modulation, 0, index).conj()
    phase = turned.sum(dim=1).angle()
    torch.testing.assert_close(turned.angle().sub(phase[:, None]).cos(), torch.ones(4000, 16), atol=1e-3, rtol=0)
    rolloff, timing = generator(random_timing=True).pulse(FrameRandom(0, index))
    for values, low, high in ((phase, -math.pi, math.pi), (timing, 0.0, 1.0), (rolloff, 0.1, 0.4)):
        quantiles = torch.quantile(values, torch.linspace(0, 1, 5))
        torch.testing.assert_close(quantiles, torch.linspace(low, high, 5), atol=0.04 * (high - low), rtol=0)
    assert (generator().pulse(FrameRandom(0, index))[1] == 0).all()


def test_carrier_offset_is_the_slope_of_the_phase() -> None:
    modulation, index = labels(generator(), 1000)
    own = generator(carrier_offset_std=0.01, n_samples=256)
    turn = own.clean(modulation, 0, index) * generator(n_samples=256).clean(modulation, 0, index).conj()
    step = turn[:, 1:] * turn[:, :-1].conj()  # (B, n - 1), of one angle a frame
    frequency = step.sum(dim=1).angle() / (2 * math.pi)
    straight = torch.polar(step.abs(), 2 * math.pi * frequency[:, None].expand_as(step))
    torch.testing.assert_close(step, straight, atol=1e-3, rtol=1e-3)
    assert abs(frequency.std() / 0.01 - 1) < 0.1
    assert abs(frequency.mean()) < 4 * 0.01 / 1000**0.5


def test_clock_offset_moves_the_ends_of_a_frame_against_each_other() -> None:
    n = 4096
    plain = generator(n_samples=n, classes=["QPSK"])
    own = replace(plain, clock_offset_std=1e-4)
    index = torch.arange(200)
    modulation = torch.zeros_like(index)
    # Both draw the same symbols; the one with a clock offset sends `margin` samples more before the frame.
    margin = own._clock_margin
    x = own.clean(modulation, 0, index)
    reference = plain._transmitted(modulation, FrameRandom(0, index), n + 2 * margin)[:, margin:-margin]
    slope = (reference[:, 2:] - reference[:, :-2]) / 2
    left, right = (
        ((x[:, a:b] - reference[:, a:b]) * slope[:, a - 1 : b - 1].conj()).real.sum(dim=1)
        / slope[:, a - 1 : b - 1].abs().square().sum(dim=1)
        for a, b in ((1, 401), (n - 401, n - 1))
    )
    torch.testing.assert_close(left, -right, atol=0.02, rtol=0.1)
    # The middles of both stretches are n - 402 samples apart.
    assert abs((right - left).std() / (n - 402) / 1e-4 - 1) < 0.2


def test_fading_and_multipath_keep_the_mean_power() -> None:
    for changed in (
        {"fading": {"k_factor": 0.0}},
        {"multipath": PATHS},
        {"fading": {"k_factor": 2.0}, "multipath": PATHS},
    ):
        own = generator(n_samples=128, classes=["QPSK"], **changed)
        index = torch.arange(4000)
        power = own.clean(torch.zeros_like(index), 0, index).abs().square().mean(dim=1)
        assert abs(power.mean() - 1) < 5 * power.std() / 4000**0.5, changed


def test_oqpsk_never_passes_through_the_origin() -> None:
    own = generator(classes=["QPSK", "OQPSK"], n_samples=4096, rolloff=(0.4, 0.4))
    index = torch.arange(20)
    x = own.clean(index % 2, 0, index)
    smallest = x.abs().amin(dim=1)
    assert smallest[0::2].max() < 0.1
    assert smallest[1::2].min() > 0.2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": []}, "name at least one"),
        ({"classes": ["QPSK", "QPSK"]}, "none twice"),
        ({"classes": ["qpsk"]}, "unknown modulation 'qpsk'"),
        ({"samples_per_symbol": 0}, "two symbols"),
        ({"n_samples": 15}, "two symbols"),
        ({"rolloff": (0.4, 0.1)}, "low, high"),
        ({"n_samples": 10**11}, "at most 1048576 samples"),
        ({"rolloff": (0.4,)}, "low, high"),
        ({"rolloff": (0.1, 1.1)}, "low, high"),
        ({"rolloff": None}, "rolloff and span"),
        ({"span": None}, "rolloff and span"),
        ({"span": 0}, "span"),
        ({"carrier_offset_std": -0.1}, "carrier_offset_std"),
        ({"carrier_offset_std": math.nan}, "carrier_offset_std"),
        ({"clock_offset_std": 0.02}, "clock_offset_std"),
        ({"fading": {"k_factor": -1.0}}, "k_factor of fading"),
        ({"multipath": {**PATHS, "delays": [0.0]}}, "one of each a path"),
        ({"snr_definition": "eb_n0"}, "es_n0 or sample"),
        ({**SYMBOL_RATE, "span": 8}, "no pulse"),
        ({**SYMBOL_RATE, "rolloff": (0.1, 0.4)}, "no pulse"),
        ({**SYMBOL_RATE, "random_timing": True}, "no pulse"),
        ({**SYMBOL_RATE, "clock_offset_std": 1e-4}, "no pulse"),
        ({"samples_per_symbol": 2, "clock_offset_std": 1e-4}, "clock_offset_std needs at least 4"),
        *[({**SYMBOL_RATE, "classes": [name]}, f"{name} needs at least 4") for name in WITHOUT_CONSTELLATION],
    ],
)
def test_impossible_settings_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generator(**changed)


@pytest.mark.parametrize("fading", [{}, {"k": 1.0}, {"k_factor": 1.0, "k": 1.0}, 4, [4.0]])
def test_channels_of_other_arguments_are_refused(fading: Any) -> None:
    with pytest.raises(ValueError, match=r"fading is .* give {k_factor: ...}, or null"):
        generator(fading=fading)


def test_arguments_of_unlike_length_are_refused() -> None:
    index = torch.arange(3)
    with pytest.raises(ValueError, match="one of each a frame"):
        generator().frames(index, torch.zeros(2), 0, index)


def test_no_frames_are_an_empty_batch() -> None:
    index = torch.zeros(0, dtype=torch.int64)
    assert generator(**EVERYTHING).frames(index, torch.zeros(0), 0, index).shape == (0, 1024)
