"""Folders of image files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cvkan.domains.image.files import decode_image
from cvkan.domains.image.folder import ImageFolder
from cvkan.errors import DataUnavailableError, UserError

COLOURS = {"blue": (10, 20, 200), "red": (200, 20, 10)}


def folder(root: Path, **options: Any) -> ImageFolder:
    settings = {
        "image_size": 8,
        "channels": 3,
        "val_fraction": 0.2,
        "test_fraction": 0.2,
        "split_seed": 0,
        "batch_size": 4,
        "num_workers": 0,
        "seed": 0,
        "limit_train": None,
    }
    return ImageFolder(root=str(root), **{**settings, **options})


def fill(root: Path, n: int, classes: tuple[str, ...] = ("blue", "red")) -> Path:
    """``n`` images of one colour in each class folder, with a shade of their own."""
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            Image.new("RGB", (12, 10), (*COLOURS[name][:2], COLOURS[name][2] + i)).save(root / name / f"{i}.png")
    return root


def all_of(data: ImageFolder, name: str) -> dict[str, torch.Tensor]:
    split = data.splits[name]
    return split.__getitems__(list(range(len(split))))


def test_class_folders_are_cut_into_stratified_parts_by_the_split_seed_alone(tmp_path: Path) -> None:
    fill(tmp_path, 10)
    data, other_run = folder(tmp_path), folder(tmp_path, seed=3)
    assert (data.spec.input_shape, data.spec.class_names) == ((3, 8, 8), ("blue", "red"))
    data.setup()
    other_run.setup()
    assert {name: all_of(data, name)["y"].tolist() for name in data.splits} == {
        "train": [0] * 6 + [1] * 6,
        "val": [0] * 2 + [1] * 2,
        "test": [0] * 2 + [1] * 2,
    }
    assert all(torch.equal(all_of(data, name)["x"], all_of(other_run, name)["x"]) for name in data.splits)
    seen = torch.cat([all_of(data, name)["x"][:, :, 0, 0] for name in data.splits])
    assert len({tuple(pixel) for pixel in seen.tolist()}) == 20  # each image in one part


def test_split_folders_are_used_as_they_are(tmp_path: Path) -> None:
    for name, n in (("train", 10), ("val", 3), ("test", 2)):
        fill(tmp_path / name, n)
    data = folder(tmp_path)
    data.setup()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 20, "val": 6, "test": 4}
    assert all_of(data, "test")["x"][:, 2, 0, 0].tolist() == [200, 201, 10, 11]


def test_validation_is_cut_from_train_where_there_is_none(tmp_path: Path) -> None:
    fill(tmp_path / "train", 10)
    fill(tmp_path / "test", 2)
    data = folder(tmp_path, val_fraction=0.1)
    data.setup()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 18, "val": 2, "test": 4}


def test_limited_lazy_training_loader_yields_standardised_batches(tmp_path: Path) -> None:
    data = folder(fill(tmp_path, 10), limit_train=8)
    data.setup()
    batches = [data.preprocess(batch) for batch in data.train_dataloader()]
    assert [tuple(batch["x"].shape) for batch in batches] == [(4, 3, 8, 8)] * 2
    x = torch.cat([batch["x"] for batch in batches])
    assert x.mean((0, 2, 3)).abs().max() < 1e-5


def test_statistics_and_shapes_of_grey_images(tmp_path: Path) -> None:
    data = folder(fill(tmp_path, 5), channels=1)
    data.setup()
    assert data.spec.input_shape == (1, 8, 8)
    assert len(data.mean) == 1
    assert all_of(data, "train")["x"].shape == (6, 1, 8, 8)


def test_decode_covers_the_square_crops_the_centre_and_turns_upright(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:5, 10:20] = 255  # the centre square is white above, black below
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    square = decode_image(tmp_path / "a.png", 10, 3)
    assert square.shape == (3, 10, 10)
    assert square[:, :4].min() > 250
    assert square[:, 6:].max() < 5
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    image.save(tmp_path / "b.png", exif=exif)
    assert torch.equal(decode_image(tmp_path / "b.png", 10, 3), square.flip(1, 2))


def test_fingerprint_follows_the_files(tmp_path: Path) -> None:
    data = folder(fill(tmp_path, 3))
    before = data.fingerprint()
    (tmp_path / "red" / "2.png").rename(tmp_path / "red" / "3.png")
    assert data.fingerprint() != before


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match=r"no such folder \(data.root=.*none\)"):
        folder(tmp_path / "none")


def test_folder_without_class_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no class subfolder"):
        folder(tmp_path)


def test_split_folders_without_test_are_no_classes(tmp_path: Path) -> None:
    for name in ("train", "val"):
        fill(tmp_path / name, 4)
    with pytest.raises(UserError, match=r"splits \(train, val\), not classes.*train and test"):
        folder(tmp_path)


def test_folder_with_one_class(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only one class, red"):
        folder(fill(tmp_path, 3, ("red",)))


def test_class_folder_without_images_is_named(tmp_path: Path) -> None:
    (fill(tmp_path, 3) / "zebra").mkdir()
    with pytest.raises(UserError, match=r"holds no image .*zebra"):
        folder(tmp_path)


def test_class_that_train_lacks_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "train", 3)
    fill(tmp_path / "test", 3)
    (tmp_path / "test" / "zebra").mkdir()
    with pytest.raises(UserError, match="class zebra is not among those of train"):
        folder(tmp_path).setup()


def read_all(data: ImageFolder) -> None:
    data.setup()
    for name in data.splits:
        all_of(data, name)


@pytest.mark.parametrize("content", ["text", "truncated", "empty"])
def test_undecodable_image_is_named_in_one_line(tmp_path: Path, content: str) -> None:
    fill(tmp_path, 5)
    bad = tmp_path / "red" / "0.png"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(bad)
    whole = bad.read_bytes()
    bad.write_bytes({"text": b"not an image", "truncated": whole[: len(whole) // 2], "empty": b""}[content])
    with pytest.raises(UserError, match=r"cannot be decoded: .*0\.png") as caught:
        decode_image(bad, 8, 3)
    assert "\n" not in str(caught.value)
    data = folder(tmp_path)
    with pytest.raises(UserError, match=r"0\.png"):
        read_all(data)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"image_size": 0}, "data.image_size"),
        ({"channels": 4}, "data.channels"),
        ({"val_fraction": 0.0}, "data.val_fraction"),
        ({"val_fraction": 0.6, "test_fraction": 0.6}, "test_fraction"),
        ({"batch_size": 0}, "data.batch_size"),
    ],
)
def test_bad_option_is_named(tmp_path: Path, options: dict, key: str) -> None:
    with pytest.raises(UserError, match=key):
        folder(fill(tmp_path, 2), **options)
