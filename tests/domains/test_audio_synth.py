"""The speech synthesiser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from cvkan.domains.audio import synth as synth_module
from cvkan.domains.audio.synth import AudioSynth, speaker_split
from cvkan.domains.audio.voice import SAMPLE_RATE_HZ, WORDS, Speakers, synthesize
from cvkan.errors import UserError

SETTINGS = {
    "n_train": 60,
    "n_val": 20,
    "n_test": 20,
    "n_speakers": 20,
    "snr_db": [5, 30],
    "data_seed": 0,
    "batch_size": 8,
    "num_workers": 0,
    "seed": 0,
    "limit_train": None,
    "augment": None,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def synth(**changes) -> AudioSynth:
    data = AudioSynth(**{**SETTINGS, **changes})
    data.setup()
    return data


def test_clips_are_finite_balanced_and_below_full_scale() -> None:
    data = synth()
    for split, size in zip(data.splits.values(), (60, 20, 20), strict=True):
        x, y = split.tensors["x"], split.tensors["y"]
        assert x.shape == (size, 8000)
        assert x.isfinite().all()
        assert x.abs().amax(1).min() > 0.05
        assert x.abs().max() < 1
        assert torch.equal(y.bincount(), torch.full((10,), size // 10))
    assert data.spec.class_names == tuple(WORDS)
    assert data.spec.sample_rate_hz == SAMPLE_RATE_HZ


def test_no_speaker_is_in_two_splits() -> None:
    parts = [set(part.tolist()) for part in speaker_split(80)]
    assert set.union(*parts) == set(range(80))
    assert sum(map(len, parts)) == 80
    assert min(map(len, parts)) >= 8


def test_data_seed_alone_decides_the_clips() -> None:
    prints = [synth(**changes).fingerprint() for changes in ({}, {"seed": 5}, {"data_seed": 1}, {"snr_db": [0, 0]})]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_clips_come_from_the_cache_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = synth()
    monkeypatch.setattr(synth_module, "synthesize", None)  # from here on only the cache can answer
    assert synth().fingerprint() == first.fingerprint()


def test_pitch_of_a_vowel_is_the_speakers() -> None:
    generator = torch.Generator().manual_seed(0)
    speakers = Speakers.draw(64, generator)
    words = torch.zeros(64, dtype=torch.long)
    x = synthesize(words, speakers, (60.0, 60.0), generator)
    spectrum = torch.fft.rfft(x, 2 * x.shape[1]).abs().square()
    correlation = torch.fft.irfft(spectrum)[:, 25:120]  # lags of 67 to 320 Hz
    # The strongest lag is one or more whole periods; melody moves the pitch by a fifth of an octave or so.
    pitch = SAMPLE_RATE_HZ / (25 + correlation.argmax(1).float())
    periods = speakers.f0_hz / pitch
    error = (periods.log2() - periods.round().clamp_min(1).log2()).abs()
    assert error.median() < 0.12


def test_long_term_spectrum_does_not_solve_the_words() -> None:
    data = synth(n_train=400, n_test=100, n_speakers=40)

    def mean_spectrum(name: str) -> np.ndarray:
        frames = data.splits[name].tensors["x"].unfold(1, 256, 128) * torch.hann_window(256)
        return torch.fft.rfft(frames).abs().square().add(1e-6).log().mean(1).div(10).numpy()

    model = LogisticRegression(C=1.0, max_iter=1000).fit(mean_spectrum("train"), data.splits["train"].tensors["y"])
    score = model.score(mean_spectrum("test"), data.splits["test"].tensors["y"])
    assert 0.25 < score < 0.8


@pytest.mark.parametrize("change", [{"n_speakers": 3}, {"n_test": 5}, {"snr_db": [30, 5]}])
def test_settings_out_of_range_are_refused(change: dict) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        AudioSynth(**{**SETTINGS, **change})
