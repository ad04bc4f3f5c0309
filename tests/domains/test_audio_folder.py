"""AudioFolder: what it reads from folders and tables, and what it says about broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from cvkan.domains.audio.files import fit_clip
from cvkan.domains.audio.folder import AudioFolder
from cvkan.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"
SETTINGS = {
    "index": None,
    "sample_rate_hz": None,
    "duration_s": 0.5,
    "clip_s": 0.5,
    "holdout": None,
    "val_fraction": 0.2,
    "test_fraction": 0.2,
    "split_seed": 0,
    "max_memory_gb": 1.0,
    "batch_size": 4,
    "num_workers": 0,
    "seed": 0,
    "limit_train": None,
    "augment": None,
}


def folder(root: Path, **changes) -> AudioFolder:
    return AudioFolder(root=str(root), **{**SETTINGS, **changes})


def tone(path: Path, level: float, seconds: float = 0.4, rate_hz: int = 1000, channels: int = 1) -> None:
    """A constant level, exact in 16 bits, so that each clip can be recognised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.full((round(seconds * rate_hz), channels), level, dtype=np.float32)
    soundfile.write(path, samples[:, 0] if channels == 1 else samples, rate_hz)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for label, sign in (("cat", 1), ("dog", -1)):
        for k in range(10):
            tone(tmp_path / label / f"{k}.{'wav' if k % 2 else 'flac'}", sign * (k + 1) / 64)
    return tmp_path


def write_index(root: Path, text: str) -> str:
    (root / "index.csv").write_text(text)
    return "index.csv"


def long_file(root: Path, name: str = "all.flac", clips: int = 8) -> None:
    """Clips of 500 samples end to end; clip k holds the level (k + 1) / 64."""
    soundfile.write(root / name, np.repeat((np.arange(clips) + 1) / 64, 500), 1000)


def test_class_folders_become_padded_clips_with_disjoint_drawn_splits(classes: Path) -> None:
    data = folder(classes)
    assert data.spec.class_names == ("cat", "dog")
    assert (data.spec.input_shape, data.spec.sample_rate_hz, data.spec.n_outputs) == ((500,), 1000, 2)
    data.setup()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 12, "val": 4, "test": 4}
    levels = []
    for split in data.splits.values():
        x, y = split.tensors["x"], split.tensors["y"]
        assert (x[:, 400:] == 0).all()
        assert torch.equal(x[:, 0] > 0, y == 0)
        levels += x[:, 0].tolist()
    assert sorted(levels) == sorted(s * (k + 1) / 64 for s in (1, -1) for k in range(10))


def test_splits_follow_split_seed_and_not_the_runs_seed(classes: Path) -> None:
    def test_files(**changes) -> list[str]:
        return [str(clip.path) for clip in folder(classes, **changes).clips if clip.split == "test"]

    assert test_files(seed=1) == test_files(seed=2)
    assert test_files(split_seed=1) != test_files(split_seed=2)


def test_index_with_start_and_length_reads_the_only_audio_file(tmp_path: Path) -> None:
    long_file(tmp_path)
    rows = [
        f"{k}.wav,{'NA' if k % 2 else 'null'},{500 * k},{300},{s}"
        for k, s in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2)
    ]
    data = folder(tmp_path, index=write_index(tmp_path, "file,label,start,length,split\n" + "\n".join(rows)))
    data.setup()
    assert data.spec.class_names == ("NA", "null")
    x = data.splits["val"].tensors["x"]
    assert x[:, 0].tolist() == [5 / 64, 6 / 64]
    assert torch.equal((x != 0).sum(1), torch.tensor([300, 300]))
    assert data.splits["test"].tensors["y"].tolist() == [1, 0]


def test_index_with_clip_numbers_counts_clips_of_the_flac(tmp_path: Path) -> None:
    long_file(tmp_path, "a.flac"), long_file(tmp_path, "b.flac")
    rows = [f"{f}.flac,{k},{f},{s},x.wav" for f in "ab" for k, s in ((0, "train"), (3, "val"), (6, "test"))]
    data = folder(tmp_path, index=write_index(tmp_path, "flac,clip,label,split,file\n" + "\n".join(rows)))
    data.setup()
    assert data.splits["val"].tensors["x"].unique().tolist() == [4 / 64]
    assert data.splits["test"].tensors["x"].shape == (2, 500)
    with pytest.raises(UserError, match=r"not a whole number of clips .*a\.flac.*clip_s"):
        folder(tmp_path, index="index.csv", clip_s=0.7).setup()


def test_lazy_reading_gives_the_same_samples(classes: Path) -> None:
    eager, lazy = (
        folder(classes, sample_rate_hz=1500),
        folder(classes, sample_rate_hz=1500, max_memory_gb=1e-9),
    )
    eager.setup(), lazy.setup()
    for name in ("train", "val", "test"):
        items = [lazy.splits[name][k] for k in range(len(lazy.splits[name]))]
        assert torch.equal(torch.stack([item["x"] for item in items]), eager.splits[name].tensors["x"])
        assert torch.equal(torch.stack([item["y"] for item in items]), eager.splits[name].tensors["y"])
    assert len(lazy.fingerprint()) == 64
    assert lazy.fingerprint() != eager.fingerprint()


def test_resampling_keeps_a_slow_tone_and_its_time() -> None:
    time_16k, time_8k = torch.arange(16000) / 16000, torch.arange(8000) / 8000
    found = fit_clip(torch.sin(2 * torch.pi * 300 * time_16k), 16000, 8000, 8000)
    torch.testing.assert_close(found[50:-50], torch.sin(2 * torch.pi * 300 * time_8k)[50:-50], atol=2e-3, rtol=0)


def test_stereo_is_mixed_to_mono(classes: Path) -> None:
    (classes / "cat" / "1.wav").unlink()
    soundfile.write(classes / "cat" / "1.wav", np.tile([[0.5, -0.25]], (400, 1)), 1000)
    data = folder(classes)
    data.setup()
    levels = torch.cat([split.tensors["x"][:, 0] for split in data.splits.values()])
    assert 0.125 in levels.tolist()


def test_holdout_takes_all_clips_of_a_value_and_frees_the_other_test_clips(tmp_path: Path) -> None:
    long_file(tmp_path)
    rows = [
        f"{k}.wav,{'ab'[k // 2 % 2]},{500 * k},{'theo' if k % 2 else 'george'},{s}"
        for k, s in enumerate(["train", "train", "train", "val", "val", "test", "test", "test"])
    ]
    index = write_index(tmp_path, "file,label,start,speaker,split\n" + "\n".join(rows))
    parts = {clip.line - 2: clip.split for clip in folder(tmp_path, index=index, holdout="speaker:theo").clips}
    assert parts == {0: "train", 1: "test", 2: "train", 3: "test", 4: "val", 5: "test", 6: "train", 7: "test"}
    same = folder(tmp_path, index=index, holdout="speaker=theo")
    assert [clip.split for clip in same.clips] == [parts[k] for k in range(8)]
    for rule, match in (
        ("speaker", "cannot read holdout"),
        ("age:3", "no column 'age'.*speaker"),
        ("speaker:bob", "no clip has speaker = 'bob'.*george, theo"),
    ):
        with pytest.raises(UserError, match=match):
            folder(tmp_path, index=index, holdout=rule)


def test_parts_that_the_index_does_not_name_are_drawn_from_its_training_part(tmp_path: Path) -> None:
    long_file(tmp_path, clips=20)
    rows = [f"{k},{k % 2},{500 * k},500,{'test' if k >= 16 else 'train'}" for k in range(20)]
    index = write_index(tmp_path, "file,label,start,length,split\n" + "\n".join(rows))
    data = folder(tmp_path, index=index, val_fraction=0.25)
    parts = {
        name: {clip.start // 500 for clip in data.clips if clip.split == name} for name in ("train", "val", "test")
    }
    assert parts["test"] == {16, 17, 18, 19}
    assert (len(parts["train"]), len(parts["val"])) == (12, 4)
    assert {k % 2 for k in parts["val"]} == {0, 1}


def break_missing_root(root: Path) -> dict:
    return {"root": str(root / "nowhere")}


def break_no_root(root: Path) -> dict:
    return {"root": None}


def break_empty_folder(root: Path) -> dict:
    (root / "empty").mkdir()
    return {"root": str(root / "empty")}


def break_class_without_files(root: Path) -> dict:
    (root / "cow").mkdir()
    return {}


def break_one_class(root: Path) -> dict:
    (root / "one" / "cat").mkdir(parents=True)
    tone(root / "one" / "cat" / "a.wav", 0.5)
    return {"root": str(root / "one")}


def break_split_folders(root: Path) -> dict:
    for name in ("train", "test"):
        tone(root / "new" / name / "a.wav", 0.5)
    return {"root": str(root / "new")}


def break_missing_index(root: Path) -> dict:
    return {"index": "none.csv"}


def break_columns(root: Path) -> dict:
    return {"index": write_index(root, "path,word\na.wav,cat\n")}


def break_no_rows(root: Path) -> dict:
    return {"index": write_index(root, "file,label\n")}


def break_split_name(root: Path) -> dict:
    return {"index": write_index(root, "file,label,split\ncat/1.wav,cat,training\n")}


def break_label(root: Path) -> dict:
    return {"index": write_index(root, "file,label\ncat/1.wav,\n")}


def break_number(root: Path) -> dict:
    return {"index": write_index(root, "file,label,start\ncat/1.wav,cat,1.5\n")}


def break_listed_file(root: Path) -> dict:
    return {"index": write_index(root, "file,label,split\ncat/1.wav,cat,train\ndog/77.wav,dog,train\n")}


def break_extent(root: Path) -> dict:
    table = "file,label,split,start,length\ncat/1.wav,cat,train,0,9\ndog/1.wav,dog,train,200,201\n"
    return {"index": write_index(root, table)}


def break_truncated_wav(root: Path) -> dict:
    whole = (root / "cat" / "3.wav").read_bytes()
    (root / "cat" / "3.wav").write_bytes(whole[:300])
    return {}


def break_truncated_flac(root: Path) -> dict:
    noise = np.random.default_rng(0).normal(size=4000) * 0.1
    soundfile.write(root / "cat" / "2.flac", noise, 1000)
    whole = (root / "cat" / "2.flac").read_bytes()
    (root / "cat" / "2.flac").write_bytes(whole[: len(whole) // 2])
    return {}


def break_text_as_wav(root: Path) -> dict:
    (root / "cat" / "3.wav").write_text("this is no sound at all")
    return {}


def break_nan(root: Path) -> dict:
    soundfile.write(root / "cat" / "3.wav", np.array([0.0, np.nan]), 1000, subtype="FLOAT")
    return {}


def break_no_samples(root: Path) -> dict:
    soundfile.write(root / "cat" / "3.wav", np.zeros(0), 1000)
    return {}


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (break_missing_root, "does not exist.*nowhere"),
        (break_no_root, "no folder is given.*data.root=DIR"),
        (break_empty_folder, "no audio in the folder.*empty"),
        (break_class_without_files, "class 'cow' has no wav or flac files"),
        (break_one_class, "only one class, 'cat'"),
        (break_split_folders, "the subfolders are splits"),
        (break_missing_index, "index file not found.*none.csv"),
        (break_columns, "no column file or label; it has path, word"),
        (break_no_rows, "no rows"),
        (break_split_name, "unknown split 'training'.*line 2.*train, val, test"),
        (break_label, "the label is empty.*line 2"),
        (break_number, "start '1.5' is not a number.*line 2"),
        (break_listed_file, r"not found.*77\.wav"),
        (break_extent, r"samples 200 to 401 of .*1\.wav are wanted, it has 400 \(index line 3\)"),
        (break_truncated_wav, r"truncated.*3\.wav"),
        (break_truncated_flac, r"cannot read.*2\.flac"),
        (break_text_as_wav, r"cannot read.*3\.wav"),
        (break_nan, r"NaN.*3\.wav"),
        (break_no_samples, r"no samples.*3\.wav"),
    ],
)
def test_broken_data_is_named_in_one_line(classes: Path, damage, match: str) -> None:
    changes = {"root": str(classes), **damage(classes)}
    with pytest.raises(UserError, match=match) as caught:
        AudioFolder(**{**SETTINGS, **changes}).setup()
    assert "\n" not in str(caught.value)


def test_streamed_wav_of_unknown_length_is_read(classes: Path) -> None:
    whole, streamed = folder(classes), folder(classes)
    whole.setup()
    path = classes / "cat" / "3.wav"
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    streamed.setup()
    assert streamed.fingerprint() == whole.fingerprint()


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "index", "sizes", "n_classes", "n_samples"),
    [
        ("fsdd", "fsdd.csv", (1600, 200, 200), 10, 8000),
        ("speech_commands12", "index.csv", (3132, 461, 571), 12, 16000),
    ],
)
def test_shared_sets_are_read_with_settings_alone(name: str, index: str, sizes, n_classes: int, n_samples: int) -> None:
    root = SHARED / name
    if not root.is_dir():
        pytest.skip(f"{root} is not on this machine")
    data = folder(root, index=index, duration_s=1.0, clip_s=1.0)
    data.setup()
    assert tuple(len(data.splits[part]) for part in ("train", "val", "test")) == sizes
    assert (data.spec.n_outputs, data.spec.input_shape) == (n_classes, (n_samples,))
    start = {"fsdd": ("fsdd.flac", 0, 2384), "speech_commands12": ("silence.flac", 0, 16000)}[name]
    direct, _ = soundfile.read(root / start[0], start=start[1], frames=start[2], dtype="float32")
    first = data.splits["test" if name == "fsdd" else "train"].tensors["x"][0]
    assert torch.equal(first[: len(direct)], torch.from_numpy(direct))
