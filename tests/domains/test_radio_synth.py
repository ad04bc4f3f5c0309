"""The generated radio source: streams, limits, curriculum, and when the physical limit is known."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from cvkan.domains.radio.curriculum import SnrCurriculum
from cvkan.domains.radio.synth import RadioSynth
from cvkan.errors import UserError
from cvkan.radio.generator import FrameGenerator

PULSED = {"n_samples": 64, "samples_per_symbol": 8, "rolloff": [0.1, 0.4], "span": 4}
OFFSETS = {"carrier_offset_std": 0.0, "clock_offset_std": 0.0, "fading": None, "multipath": None}
CLEAN = {**PULSED, **OFFSETS, "random_phase": True, "random_timing": True, "snr_definition": "es_n0"}
SNRS = list(range(-20, 31, 2))


def source(generator: dict[str, Any] | None = None, **changes: Any) -> RadioSynth:
    sizes = {"n_train": 61, "n_val": 60, "n_test": 60, "data_seed": 0, "stream": True}
    loading = {"normalization": "power", "batch_size": 16, "num_workers": 0, "seed": 0, "limit_train": None}
    given = {"classes": ["QPSK", "BPSK"], "snr_db": [20, 0, 10], **sizes, **loading, **changes}
    data = RadioSynth(generator=partial(FrameGenerator, **{**CLEAN, **(generator or {})}), **given)
    data.setup()
    return data


def epoch(data: RadioSynth, number: int) -> dict[str, torch.Tensor]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)
    batches = list(loader)
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def test_every_pair_takes_its_turn_and_labels_are_those_of_the_frames() -> None:
    data = source()
    assert data.spec.class_names == ("BPSK", "QPSK")
    assert data.spec.snr_db == (0.0, 10.0, 20.0)
    for split in data.splits.values():
        counts = split.labels.unique(dim=0, return_counts=True)[1]
        assert len(counts) == 6
        assert counts.max() - counts.min() <= 1
        batch = split.__getitems__([5, 0, 17])
        assert torch.equal(batch["y"], split.labels[[5, 0, 17]])


def test_every_epoch_of_a_stream_has_new_frames_and_the_same_labels() -> None:
    data = source()
    first, second = epoch(data, 0), epoch(data, 1)
    assert not set(first["id"].tolist()) & set(second["id"].tolist())
    assert torch.equal(data.splits["train"].labels[second["id"] % 61], second["y"])
    repeated = source(stream=False)
    assert set(epoch(repeated, 1)["id"].tolist()) <= set(range(61))


def test_curriculum_draws_the_same_snrs_in_every_epoch_of_a_stream_of_any_size() -> None:
    data = source(n_train=601, curriculum=SnrCurriculum(epochs_per_shift=100))
    for number in range(3):
        low, middle, high = epoch(data, number)["y"][:, 1].bincount(minlength=3).tolist()
        assert low < middle < high  # in epoch 100 p the highest p + 1 levels have weight 1, the next ones 1/2, 1/4, ...


def test_limited_training_frames_are_the_same_in_every_epoch() -> None:
    data = source(limit_train=20)
    ids = [set(epoch(data, number)["id"].tolist()) for number in (0, 1)]
    assert len(ids[0] | ids[1]) <= 20


def test_frames_depend_on_the_seed_of_the_data_and_on_the_part_alone() -> None:
    frames = [source(**options).splits["train"].__getitems__([3])["x"] for options in ({}, {"seed": 9, "n_train": 90})]
    assert torch.equal(*frames)
    other = source(data_seed=1).splits["train"].__getitems__([3])["x"]
    assert not torch.equal(frames[0], other)
    parts = [source().splits[name].__getitems__([3])["x"] for name in ("train", "val")]
    assert not torch.equal(*parts)
    assert source().fingerprint() == source(batch_size=7).fingerprint() != source(data_seed=1).fingerprint()


@pytest.mark.parametrize(
    ("generator", "options", "known"),
    [
        ({}, {}, True),
        ({"rolloff": [0.2, 0.2]}, {}, False),  # the tables are of other pulses
        ({}, {"normalization": "max"}, True),
        ({}, {"normalization": "none"}, False),  # then power alone tells the SNR
        ({"constellations": {"unipolar_ask": True}}, {}, True),  # no ASK among the classes
        ({"n_samples": 512}, {}, False),
    ],
)
def test_physical_limit_is_that_of_these_frames_or_unknown(
    generator: dict[str, Any], options: dict[str, Any], known: bool
) -> None:
    five = {"classes": ["BPSK", "QPSK", "8PSK", "16QAM", "64QAM"], "snr_db": SNRS}
    sizes = {"n_train": 130, "n_val": 130, "n_test": 130}
    data = source({"n_samples": 1024, **generator}, **five, **sizes, **options)
    assert (data.bound() is not None) == known
    assert data.snr_definition == "es_n0"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_test": 5}, "n_test=5 frames cannot hold each of the 6 pairs"),
        ({"classes": ["QPSK", "QPSK"]}, "name"),
        ({"snr_db": []}, "snr_db names nothing"),
        ({"normalization": "rms"}, "unknown normalization rms"),
    ],
)
def test_what_cannot_be_generated_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((UserError, ValueError), match=message):
        source(**options)
