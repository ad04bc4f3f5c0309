"""Copies of copies: whatever layout frames are in, a frame has one id and one part, and no recording leaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from radio_files import LAYOUT, STANDARD, STORED, one_file, split_files, write_one_file

from cvkan.domains.radio.convert import OneFileWriter, SplitWriter
from cvkan.domains.radio.iq_npz import IqNpz
from cvkan.domains.radio.png_tree import ConstellationImages
from cvkan.domains.radio.png_writer import PngTreeWriter
from cvkan.domains.radio.recordings import Recordings
from cvkan.domains.radio.stored import StoredRadio
from cvkan.errors import UserError
from cvkan.radio.images import Histogram

PARTS = ("train", "val", "test")
N = 8  # samples of a frame
IMAGE = Histogram(6, 3.0, 8)


def as_split(data: StoredRadio, to: Path) -> StoredRadio:
    SplitWriter().write(data, to)
    return split_files(to, STANDARD)


def as_one_file(data: StoredRadio, to: Path) -> StoredRadio:
    OneFileWriter("a.hdf5").write(data, to)
    return one_file(to / "a.hdf5", STANDARD)


def as_images(data: StoredRadio, to: Path) -> ConstellationImages:
    PngTreeWriter(IMAGE, threads=2).write(data, to)
    return images(to)


def images(tree: Path, **changes: Any) -> ConstellationImages:
    own = {"kind": "grayscale", "size": 6, "variant": None, "layout": STANDARD, "threads": 2}
    return ConstellationImages(root=str(tree), **{**STORED, "normalization": "none", **own, **changes})


def recordings(root: Path, split_by: str, n_recordings: int = 4, n: int = 120) -> Recordings:
    """Recordings of two classes at two levels, no two samples of which are equal."""
    for k, label in enumerate(("QPSK/SNR_-4", "QPSK/SNR_10", "BPSK/SNR_-4", "BPSK/SNR_10")):
        (root / label).mkdir(parents=True)
        for number in range(n_recordings):
            x = 10_000 * k + 1000 * number + np.arange(n) + 1j
            np.save(root / label / f"{number}.npy", x.astype(np.complex64))
    own = {"index": None, "assumed_snr_db": None, "n_samples": N, "hop": 4, "split_by": split_by}
    return Recordings(root=str(root), **own, **STORED)


def rows(root: Path, split_by: str) -> IqNpz:
    iq = (np.arange(400).reshape(4, 100) + 1j).astype(np.complex64)
    labels = {"label": np.array([0, 0, 1, 1]), "snr_db": np.array([-5, 5, -5, 5])}
    root.mkdir()
    np.savez(root / "a.npz", iq=iq, classes=np.array(["QPSK", "16QAM"]), **labels)
    return IqNpz(root=str(root), file="a.npz", n_samples=N, hop=4, split_by=split_by, **STORED)


def assert_cut_alike(data: StoredRadio, copy: StoredRadio) -> None:
    for source in (data, copy):
        source.setup()
    for name in PARTS:
        assert torch.equal(data.splits[name].ids, copy.splits[name].ids)


Step = Callable[[StoredRadio, Path], StoredRadio]
CHAINS: list[list[Step]] = [[as_split], [as_one_file, as_split], [as_images], [as_split, as_one_file, as_images]]


def names(chain: list[Step]) -> str:
    return " ".join(step.__name__ for step in chain)


@pytest.mark.parametrize("chain", CHAINS, ids=names)
@pytest.mark.parametrize("split_by", ["recording", "time"])
def test_copies_of_recordings_are_cut_as_the_recordings(tmp_path: Path, split_by: str, chain: list[Step]) -> None:
    data = recordings(tmp_path / "signals", split_by)
    copy: StoredRadio = data
    for k, step in enumerate(chain):
        copy = step(copy, tmp_path / str(k))
    assert_cut_alike(data, copy)
    owners = [set(data.splits[name].groups.tolist()) for name in PARTS]
    disjoint = not owners[0] & owners[1] | owners[0] & owners[2] | owners[1] & owners[2]
    assert disjoint == (split_by == "recording")
    for name in PARTS:
        assert torch.equal(data.splits[name].groups, copy.splits[name].groups)


@pytest.mark.parametrize("make", [recordings, rows])
def test_no_sample_of_a_copy_cut_by_time_is_in_two_parts(tmp_path: Path, make: Callable) -> None:
    copy = as_split(make(tmp_path / "signals", "time"), tmp_path / "copy")
    copy.setup()
    samples = []
    for name in PARTS:
        split = copy.splits[name]
        samples.append(set(split.__getitems__(range(len(split)))["x"].real.flatten().tolist()))
    assert all(samples)
    assert not samples[0] & samples[1] | samples[0] & samples[2] | samples[1] & samples[2]


def test_a_copy_cut_by_time_takes_other_shares_and_no_split_file(tmp_path: Path) -> None:
    as_split(rows(tmp_path / "rows", "time"), tmp_path / "copy")
    copy = split_files(tmp_path / "copy", STANDARD, val_fraction=0.3, test_fraction=0.3)
    copy.setup()
    assert len(copy.splits["val"]) > 4 * 5  # of 24 frames a row, one less at the border
    with pytest.raises(UserError, match=r"a split by time is kept in no file \(data\.split_file\)"):
        split_files(tmp_path / "copy", STANDARD, split_file=str(tmp_path / "split.npz")).setup()


def test_copies_of_a_subset_show_the_same_frames(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    data = one_file(tmp_path / "a.hdf5", snr_db=[0, 4])
    chosen = split_files(as_split(one_file(tmp_path / "a.hdf5"), tmp_path / "0").root, STANDARD, snr_db=[0, 4])
    tree = as_images(as_one_file(chosen, tmp_path / "1"), tmp_path / "2")
    assert tree.layout() != LAYOUT  # its own places are others
    assert_cut_alike(data, tree)
    for name in PARTS:
        frames, drawn = (source.splits[name].__getitems__(range(6)) for source in (data, tree))
        assert torch.equal(drawn["x"], IMAGE.levels(data.preprocess(frames)["x"]))
        assert torch.equal(drawn["y"], frames["y"])


def test_a_part_of_the_images_keeps_its_ids(tmp_path: Path) -> None:
    data = recordings(tmp_path / "signals", "recording")
    tree = as_images(data, tmp_path / "tree")
    (tmp_path / "tree/QPSK/SNR_10/grayscale_QPSK_SNR_10_sample_0.png").unlink()
    chosen = images(tmp_path / "tree", classes=["QPSK"], snr_db=[10])
    cell = data.frames.ids[(data.frames.labels == torch.tensor([1, 1])).all(dim=1)]
    assert chosen.frames.ids.tolist() == cell[1:].tolist()
    assert torch.equal(tree.frames.groups, data.frames.groups)


def test_one_signal_cut_by_recording_and_by_time_is_other_data(tmp_path: Path) -> None:
    by_recording = rows(tmp_path / "rows", "recording")
    by_time = IqNpz(root=str(tmp_path / "rows"), file="a.npz", n_samples=N, hop=4, split_by="time", **STORED)
    for writer, name in ((SplitWriter(), "split"), (OneFileWriter("a.hdf5"), "one"), (PngTreeWriter(IMAGE, 2), "png")):
        writer.write(by_recording, tmp_path / name)
        with pytest.raises(UserError, match=r"not made from this data|images with another marks, source"):
            writer.write(by_time, tmp_path / name)


def test_too_few_recordings_are_told_of_the_split_by_time(tmp_path: Path) -> None:
    data = recordings(tmp_path / "signals", "recording", n_recordings=1)
    copy = as_split(data, tmp_path / "copy")
    for source, fix in ((data, "Set data.split_by=time"), (copy, "convert them with data.split_by=time")):
        with pytest.raises(UserError, match=rf"frames of a recording stay in one part .*{fix}"):
            source.setup()


def test_too_short_recordings_are_told_apart_from_too_few(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the val split is empty; .* cut by time.* use longer recordings"):
        recordings(tmp_path, "time", n=40).setup()


@pytest.mark.parametrize(
    ("make", "split_by", "level", "mark", "message"),
    [
        (rows, "time", "SNR_5", "span", "72 of 96 frames say their span, the others do not"),
        (recordings, "recording", "SNR_10", "group", "frames say their group, the others do not"),
    ],
)
def test_frames_with_and_without_a_mark_are_not_cut_together(
    tmp_path: Path, make: Callable, split_by: str, level: str, mark: str, message: str
) -> None:
    as_split(make(tmp_path / "signals", split_by), tmp_path / "copy")
    with h5py.File(tmp_path / f"copy/QPSK/{level}/QPSK_{level}.h5", "r+") as file:
        del file[mark]
    with pytest.raises(UserError, match=message):
        split_files(tmp_path / "copy", STANDARD).setup()


def test_images_that_have_lost_their_ids_are_not_cut(tmp_path: Path) -> None:
    as_images(recordings(tmp_path / "signals", "recording"), tmp_path / "tree").setup()
    (tmp_path / "tree/QPSK/SNR_10/frames.npz").unlink()
    with pytest.raises(
        UserError, match=r"the group of the images is not there \(.*SNR_10/frames.npz\)\. Copy it again"
    ):
        images(tmp_path / "tree").setup()
