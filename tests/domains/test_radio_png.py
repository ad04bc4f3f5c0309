"""Trees of constellation images: what is written is read, with the same ids and the same split as the frames."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from radio_files import LAYOUT, STANDARD, STORED, one_file, signals, write_one_file
from torch import Tensor

from cvkan.domains.radio.hdf5 import RadioML2018
from cvkan.domains.radio.layout import LayoutOptions
from cvkan.domains.radio.png_files import FACTS
from cvkan.domains.radio.png_tree import ConstellationImages
from cvkan.domains.radio.png_writer import PngTreeWriter
from cvkan.errors import DataUnavailableError, UserError
from cvkan.radio.images import ConstellationImage, Histogram, Splat

SIZE = 12
HISTOGRAM = Histogram(SIZE, 3.0, 8)
SPLAT = Splat(SIZE, 2.5, [1, 2, 4], [1, 2, 4], grey=False)


def images(root: Path, **changes: Any) -> ConstellationImages:
    own = {"kind": "grayscale", "size": SIZE, "variant": None, "layout": STANDARD, "threads": 2}
    return ConstellationImages(**{**STORED, "normalization": "none", "root": str(root), **own, **changes})


def written(frames: RadioML2018, to: Path, image: ConstellationImage = HISTOGRAM) -> Path:
    PngTreeWriter(image, threads=2).write(frames, to)
    return to


def by_id(data: Any, name: str) -> dict[int, tuple[Tensor, list[int]]]:
    """Every sample of a part as the model gets it, by its id."""
    split = data.splits[name]
    batch = data.preprocess(split.__getitems__(list(range(len(split)))))
    return {number: (batch["x"][k], batch["y"][k].tolist()) for k, number in enumerate(batch["id"].tolist())}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> RadioML2018:
    path = tmp_path_factory.mktemp("frames") / "all.h5"
    write_one_file(path)
    data = one_file(path)
    data.setup()
    return data


@pytest.fixture(scope="module")
def original(frames: RadioML2018, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(frames, tmp_path_factory.mktemp("png") / "tree")


@pytest.fixture
def tree(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(original, tmp_path / "tree"))


@pytest.mark.parametrize(
    ("image", "kind"), [(HISTOGRAM, "grayscale"), (SPLAT, "three_channel")], ids=["histogram", "splat"]
)
def test_images_have_the_ids_labels_and_parts_of_their_frames(
    image: ConstellationImage, kind: str, frames: RadioML2018, tmp_path: Path
) -> None:
    data = images(written(frames, tmp_path / "tree", image), kind=kind)
    data.setup()
    assert (data.spec.class_names, data.spec.snr_db) == (frames.spec.class_names, frames.spec.snr_db)
    assert (data.spec.input_shape, data.spec.is_complex) == ((image.n_channels, SIZE, SIZE), False)
    for name in ("train", "val", "test"):
        expected, found = by_id(frames, name), by_id(data, name)
        assert found.keys() == expected.keys()
        for number, (frame, label) in expected.items():
            assert found[number][1] == label
            assert torch.equal(found[number][0] * 255, image.levels(frame[None])[0].float())
            assert found[number][0].max() > 0


def test_tree_has_the_names_of_the_layout_and_says_what_it_is(original: Path) -> None:
    names = sorted(str(path.relative_to(original)) for path in original.rglob("*.png"))
    assert len(names) == LAYOUT.n_rows
    assert names[0] == "16QAM/SNR_-2/grayscale_16QAM_SNR_-2_sample_0.png"
    with Image.open(original / names[0]) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (SIZE, SIZE))
    facts = json.loads((original / FACTS).read_text())
    del facts["source"]
    assert facts == {
        **{"kind": "grayscale", "image": "Histogram", "size": SIZE, "limit": 3.0, "reference": 8},
        **{"normalization": "power", "snr_definition": None, "marks": ["id"]},
        "layout": {"classes": list(LAYOUT.classes), "snr_db": list(LAYOUT.snr_db), "frames_per_cell": 10},
    }


def test_tree_keeps_what_the_file_says_about_its_snr(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        file.attrs["snr_definition"] = "sample"
    tree = written(one_file(tmp_path / "a.hdf5"), tmp_path / "tree")
    assert images(tree).snr_definition == "sample"


def test_interrupted_writing_goes_on_with_what_is_missing(frames: RadioML2018, tree: Path) -> None:
    files = sorted(tree.rglob("*.png"))
    contents = {path: path.read_bytes() for path in files}
    lost, spared = files[::3], [path for k, path in enumerate(files) if k % 3]
    for path in lost:
        path.unlink()
    (files[1].parent / f".{files[0].name}.1.tmp").write_bytes(b"half")  # what a killed process leaves
    stamps = {path: path.stat().st_mtime_ns for path in spared}
    written(frames, tree)
    assert {path: path.read_bytes() for path in sorted(tree.rglob("*.png"))} == contents
    assert {path: path.stat().st_mtime_ns for path in spared} == stamps
    assert not list(tree.rglob("*.tmp"))


class Interrupted(Histogram):
    """Ctrl-C at the fourth cell."""

    drawn = 0

    def levels(self, x: Tensor) -> Tensor:
        self.drawn += 1
        if self.drawn == 4:
            raise KeyboardInterrupt
        return super().levels(x)

    def settings(self) -> dict[str, object]:
        return HISTOGRAM.settings()


def test_interrupt_leaves_whole_images_alone(frames: RadioML2018, original: Path, tmp_path: Path) -> None:
    to = tmp_path / "new" / "tree"
    with pytest.raises(KeyboardInterrupt):
        written(frames, to, Interrupted(SIZE, 3.0, 8))
    names = {path.relative_to(to): path.read_bytes() for path in to.rglob("*.png")}
    assert len(names) == 3 * 10
    assert all((original / name).read_bytes() == content for name, content in names.items())
    assert not list(to.rglob("*.tmp"))
    with pytest.raises(UserError, match=r"was not finished \(.*tree\)\. Run the same cvkan-data convert again"):
        images(to)
    written(frames, to)
    assert len(list(to.rglob("*.png"))) == LAYOUT.n_rows
    assert len(images(to).frames) == LAYOUT.n_rows


def test_a_frame_that_cannot_be_drawn_leaves_no_whole_tree(tmp_path: Path) -> None:
    x = signals(LAYOUT.n_rows)
    x[LAYOUT.first_row("8PSK", 0.0) + 3] = np.nan
    write_one_file(tmp_path / "a.hdf5", X=x)
    with pytest.raises(UserError, match="NaN or infinite samples"):
        written(one_file(tmp_path / "a.hdf5"), tmp_path / "tree")
    assert list((tmp_path / "tree").rglob("*.png"))
    with pytest.raises(UserError, match="was not finished"):
        images(tmp_path / "tree")


def test_a_refused_command_leaves_a_whole_tree_whole(frames: RadioML2018, tree: Path) -> None:
    with pytest.raises(UserError, match="images with another limit"):
        written(frames, tree, Histogram(SIZE, 2.0, 8))
    assert len(images(tree).frames) == LAYOUT.n_rows


def test_images_of_other_settings_are_not_mixed(frames: RadioML2018, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the folder holds images with another limit"):
        written(frames, tree, Histogram(SIZE, 2.0, 8))
    (tree / FACTS).unlink()
    with pytest.raises(UserError, match=f"holds data that no {FACTS} describes"):
        written(frames, tree)


def test_only_frames_are_drawn_and_options_are_checked(original: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no I/Q frames"):
        PngTreeWriter(HISTOGRAM, 1).write(images(original), tmp_path)
    with pytest.raises(ValueError, match="threads is 0; set"):
        PngTreeWriter(HISTOGRAM, 0)


def blank(tree: Path, variant: str, numbers: range = range(10)) -> None:
    """Copies of the images of every cell, all black."""
    for path in tree.rglob("*_sample_0.png"):
        for number in numbers:
            name = path.name.replace("sample_0", f"sample_{number}_{variant}_blackout")
            Image.new("L", (SIZE, SIZE)).save(path.with_name(name))


def test_variant_is_the_test_part_with_the_same_frames(tree: Path) -> None:
    blank(tree, "top5")
    blank(tree, "random10", range(3))
    clean, blanked = images(tree), images(tree, variant="top5")
    for data in (clean, blanked):
        data.setup()
    for name in ("train", "val", "test"):
        expected, found = by_id(clean, name), by_id(blanked, name)
        assert list(found) == list(expected)
        assert [label for _, label in found.values()] == [label for _, label in expected.values()]
        same = [torch.equal(found[number][0], expected[number][0]) for number in expected]
        assert all(same) if name != "test" else not any(same)
    assert clean.fingerprint() != blanked.fingerprint()


def test_variant_without_a_copy_of_every_test_image_names_the_missing_one(tree: Path) -> None:
    blank(tree, "bottom1", range(1))
    with pytest.raises(UserError, match=r"have no copy bottom1.*_sample_\d+_bottom1_blackout\.png"):
        images(tree, variant="bottom1").setup()


def test_copies_without_their_images_are_told_from_no_images(tree: Path) -> None:
    blank(tree, "top5")
    for path in tree.rglob("*.png"):
        if not path.name.endswith("_blackout.png"):
            path.unlink()
    with pytest.raises(UserError, match=r"pixels blanked out, without .*tree\)\. Copy both into one folder"):
        images(tree, variant="top5")


def test_samples_are_ordered_by_number_and_other_kinds_are_ignored(tree: Path) -> None:
    folder = tree / "QPSK" / "SNR_0"
    shutil.copy(folder / "grayscale_QPSK_SNR_0_sample_0.png", folder / "three_channel_QPSK_SNR_0_sample_77.png")
    (folder / "notes.txt").touch()
    shutil.rmtree(tree / "8PSK" / "SNR_4")
    data = images(tree)
    first = LAYOUT.first_row("QPSK", 0.0)
    assert [number for number in data.frames.ids.tolist() if first <= number < first + 10] == [
        *range(first, first + 10)
    ]
    assert len(data.frames) == LAYOUT.n_rows - 10
    chosen = images(tree, classes=["QPSK", "8PSK"], snr_db={"min": -2, "max": 0})
    assert (chosen.spec.class_names, chosen.spec.snr_db) == (("8PSK", "QPSK"), (-2.0, 0.0))
    assert set(chosen.frames.ids.tolist()) < set(data.frames.ids.tolist())


def test_loader_processes_read_the_same_images(original: Path) -> None:
    batches = []
    for num_workers in (0, 1):
        data = images(original, num_workers=num_workers)
        data.setup()
        batches.append(next(iter(data.test_dataloader())))
    assert all(torch.equal(batches[0][key], batches[1][key]) for key in ("x", "y", "id"))
    assert batches[0]["x"].dtype == torch.uint8


def test_images_without_a_description_are_numbered_as_radioml_2018(tree: Path) -> None:
    (tree / FACTS).unlink()
    data = images(tree)
    assert data.layout().frames_per_cell == 4096
    assert data.spec.class_names == ("16QAM", "8PSK", "QPSK")
    data = images(tree, layout=LayoutOptions(LAYOUT.classes, LAYOUT.snr_db, 10))
    assert sorted(data.frames.ids.tolist()) == list(range(LAYOUT.n_rows))


def one_of(tree: Path) -> Path:
    return tree / "QPSK" / "SNR_0" / "grayscale_QPSK_SNR_0_sample_3.png"


def marks_of(tree: Path) -> Path:
    return one_of(tree).with_name("frames.npz")


SPANS = np.stack([np.arange(10), np.arange(10) + 8], axis=1)


def truncate(tree: Path) -> None:
    one_of(tree).write_bytes(one_of(tree).read_bytes()[:-30])


def rename(tree: Path, old: str, new: str) -> None:
    (tree / old).rename(tree / new)


def read_all(tree: Path) -> None:
    data = images(tree)
    data.setup()
    for name in data.splits:
        by_id(data, name)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tree: Image.new("L", (8, 9)).save(one_of(tree)), "has 8 x 9 pixels, not 12 x 12 .*sample_3.png"),
        (truncate, r"cannot be decoded: .*truncated.*sample_3\.png"),
        (lambda tree: one_of(tree).write_bytes(b"text"), r"cannot be decoded: it is not an image .*sample_3\.png"),
        (lambda tree: one_of(tree).write_bytes(b""), r"cannot be decoded: it is not an image .*sample_3\.png"),
        (lambda tree: rename(tree, "QPSK", "QPSQ"), "the layout has no QPSQ at -?[024] dB .*QPSQ"),
        (lambda tree: rename(tree, "QPSK/SNR_0", "QPSK/0dB"), "names no SNR .*0dB"),
        (lambda tree: rename(tree, "QPSK/SNR_0", "QPSK/SNR_6"), "the layout has no QPSK at 6 dB .*SNR_6"),
        (lambda tree: shutil.copy(one_of(tree), one_of(tree).with_name("preview.png")), "not named .*preview.png"),
        (lambda tree: one_of(tree).rename(str(one_of(tree)).replace("_3", "_03")), "is not named .*_03.png"),
        (lambda tree: one_of(tree).rename(str(one_of(tree)).replace("_3", "_10")), "10 frames a cell .*_10.png"),
        (lambda tree: [path.unlink() for path in tree.rglob("*.png")], "the folder holds no grayscale images"),
        (lambda tree: marks_of(tree).write_bytes(b"PK"), r"the ids of the images cannot be read: .*frames\.npz"),
        (lambda tree: np.savez(marks_of(tree), id=np.arange(9)), r"id holds no numbers of the 10 images .*frames\.npz"),
        (lambda tree: np.savez(marks_of(tree), id=np.arange(10) - 1), "id holds no numbers of the 10 images"),
        (lambda tree: np.savez(marks_of(tree), id=np.zeros(10, int)), r"11 frames have the id 0 \(.*tree\)"),
        (lambda tree: np.savez(marks_of(tree), span=SPANS), "the id of the images is not there"),
        (lambda tree: (tree / FACTS).write_text("{"), f"description .* cannot be read: .*{FACTS}"),
        (lambda tree: (tree / FACTS).write_text("[]"), f"description .* is not one of cvkan .*{FACTS}"),
    ],
)
def test_bad_trees_end_in_one_line_that_names_the_file(
    spoil: Callable[[Path], object], message: str, tree: Path
) -> None:
    spoil(tree)
    with pytest.raises(UserError, match=message) as raised:
        read_all(tree)
    assert re.search(r"\. [A-Z]", str(raised.value))  # what to do about it


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "grey"}, "unknown kind 'grey'"),
        ({"size": 0}, "size must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"variant": "top"}, "unknown variant 'top'"),
        ({"variant": "top05"}, "unknown variant 'top05'"),
        ({"normalization": "power"}, "normalization=power has no effect"),
        ({"kind": "three_channel"}, "holds no three_channel images"),
        ({"classes": ["BPSK"]}, "no class 'BPSK'"),
    ],
)
def test_bad_options_are_refused(change: dict[str, Any], message: str, original: Path) -> None:
    with pytest.raises(UserError, match=message):
        images(original, **change)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match=r"no such folder .*nowhere"):
        images(tmp_path / "nowhere")


def test_colour_files_of_grey_images_are_read_as_grey(tree: Path) -> None:
    path = one_of(tree)
    with Image.open(path) as image:
        grey = np.array(image)
        image.convert("RGB").save(path)
    row = LAYOUT.first_row("QPSK", 0.0) + 3
    data = images(tree)
    position = data.frames.ids.tolist().index(row)
    np.testing.assert_array_equal(data.frames.__getitems__([position])["x"][0, 0], grey)
