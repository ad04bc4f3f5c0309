"""Speech Commands: the folder that torchaudio expects, its lists, and the words when it is not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from cvkan.domains.audio.speech_commands import WORDS, SpeechCommands
from cvkan.errors import DataUnavailableError, UserError

SETTINGS = {
    "download": False,
    "check_sizes": False,
    "batch_size": 2,
    "num_workers": 0,
    "seed": 0,
    "limit_train": None,
    "augment": None,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two words, four speakers, in the layout of the real set; clips a little shorter than a second."""
    folder = tmp_path / "SpeechCommands" / "speech_commands_v0.02"
    for word, level in (("cat", 0.25), ("yes", 0.5)):
        (folder / word).mkdir(parents=True)
        for k in range(4):
            soundfile.write(folder / word / f"{k}a0b_nohash_0.wav", np.full(15000, level), 16000)
    (folder / "_background_noise_").mkdir()
    soundfile.write(folder / "_background_noise_" / "white_noise.wav", np.zeros(100), 16000)
    (folder / "validation_list.txt").write_text("cat/1a0b_nohash_0.wav\nyes/1a0b_nohash_0.wav\n")
    (folder / "testing_list.txt").write_text("yes/2a0b_nohash_0.wav\n")
    return tmp_path


def test_official_lists_make_the_splits(root: Path) -> None:
    data = SpeechCommands(root=str(root), **SETTINGS)
    assert (data.spec.n_outputs, data.spec.input_shape, data.spec.sample_rate_hz) == (35, (16000,), 16000)
    data.prepare_data()
    data.setup()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 5, "val": 2, "test": 1}
    batch = next(iter(data.val_dataloader()))
    assert batch["y"].tolist() == [WORDS.index("cat"), WORDS.index("yes")]
    torch.testing.assert_close(batch["x"][:, [0, 14999, 15000]], torch.tensor([[0.25, 0.25, 0], [0.5, 0.5, 0]]))


def test_incomplete_set_is_refused(root: Path) -> None:
    data = SpeechCommands(root=str(root), **{**SETTINGS, "check_sizes": True})
    with pytest.raises(UserError, match=r"not complete.*84843.*check_sizes=false"):
        data.setup()


def test_missing_set_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match=r"data\.download=true.*data=audio_synth"):
        SpeechCommands(root=str(tmp_path), **SETTINGS).prepare_data()
    with pytest.raises(UserError, match=r"data\.root=DIR"):
        SpeechCommands(root=None, **SETTINGS)


def test_failed_download_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy nobody answers on: the download fails at once on any machine.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    data = SpeechCommands(root=str(tmp_path), **{**SETTINGS, "download": True})
    with pytest.raises(DataUnavailableError, match=r"could not fetch.*data=audio_synth") as caught:
        data.prepare_data()
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
