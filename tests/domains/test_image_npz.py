"""Images from npz files: both layouts, which rows are decoded, every way to be malformed."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cvkan.domains.image.npz import ImageNpz
from cvkan.domains.image.npz_file import NpzImages
from cvkan.errors import DataUnavailableError, UserError

CIFAR_JPEG = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "cifar10_jpeg"
Arrays = dict[str, np.ndarray]


def npz(root: Path, **options: Any) -> ImageNpz:
    settings = {"val_fraction": 0.2, "split_seed": 0, "batch_size": 4, "num_workers": 0, "seed": 0}
    return ImageNpz(root=str(root), **{**settings, "limit_train": None, **options})


def pixels(n: int) -> Arrays:
    x = np.random.default_rng(n).integers(0, 256, (n, 6, 5, 3), dtype=np.uint8)
    return {"x": x, "y": np.arange(n) % 2, "classes": np.array(["cat", "dog"])}


def jpeg(n: int, size: tuple[int, int] = (16, 8)) -> Arrays:
    """``n`` JPEG files of one grey level each, 10 levels apart."""
    files = []
    for i in range(n):
        buffer = io.BytesIO()
        Image.new("RGB", size, (10 * i,) * 3).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    return {
        "jpeg": np.frombuffer(b"".join(files), dtype=np.uint8),
        "offset": np.cumsum([0] + [len(file) for file in files]),
        "label": np.arange(n, dtype=np.uint8) % 2,
        "classes": np.array(["cat", "dog"]),
    }


def save(root: Path, make: Callable[[int], Arrays], train: int = 20, test: int = 4) -> Path:
    root.mkdir(exist_ok=True)
    np.savez(root / "train.npz", **make(train))
    np.savez(root / "test.npz", **make(test))
    return root


def rewrite(path: Path, change: Callable[[Arrays], Any]) -> Path:
    with np.load(path) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(path, **arrays)
    return path


def test_pixels_are_split_seeded_and_channels_first(tmp_path: Path) -> None:
    save(tmp_path, pixels)
    data, other_run = npz(tmp_path), npz(tmp_path, seed=9)
    assert (data.spec.input_shape, data.spec.class_names) == ((3, 6, 5), ("cat", "dog"))
    data.setup()
    other_run.setup()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 16, "val": 4, "test": 4}
    assert data.fingerprint() == other_run.fingerprint()
    assert torch.equal(data.splits["test"].tensors["x"][1, 2], torch.from_numpy(pixels(4)["x"][1, :, :, 2]))


def test_validation_file_is_used_where_it_exists(tmp_path: Path) -> None:
    save(tmp_path, pixels)
    np.savez(tmp_path / "val.npz", **pixels(7))
    data = npz(tmp_path)
    data.setup()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 20, "val": 7, "test": 4}


@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 6, 5, 1), (4, 1, 6, 5)])
def test_layouts_of_grey_images_mean_the_same(tmp_path: Path, shape: tuple[int, ...]) -> None:
    grey = np.arange(120, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=grey.reshape(shape), labels=np.arange(4))
    file = NpzImages(tmp_path / "a.npz")
    assert (file.shape, file.class_names) == ((1, 6, 5), ("0", "1", "2", "3"))
    assert torch.equal(file.images(torch.arange(4)).flatten(), torch.from_numpy(grey))


def test_limit_train_decodes_only_the_rows_the_base_class_would_keep(tmp_path: Path) -> None:
    save(tmp_path, jpeg)
    whole, limited = npz(tmp_path, seed=3), npz(tmp_path, seed=3, limit_train=5)
    decoded: list[int] = []
    file = limited.files["train"]
    decode = file._decode
    file._decode = lambda rows: decoded.extend(rows.tolist()) or decode(rows)  # type: ignore[method-assign]
    limited.setup()
    assert len(decoded) == 5 + 4  # training rows and the validation part
    whole.limit_train = None
    whole.setup()
    kept = torch.randperm(16, generator=torch.Generator().manual_seed(3))[:5].sort().values
    assert torch.equal(limited.splits["train"].tensors["x"], whole.splits["train"].tensors["x"][kept])
    assert torch.equal(limited.splits["val"].tensors["x"], whole.splits["val"].tensors["x"])


def test_jpeg_rows_come_in_the_order_asked_for(tmp_path: Path) -> None:
    save(tmp_path, jpeg)
    images = NpzImages(tmp_path / "train.npz").images(torch.tensor([7, 2]))
    assert images.shape == (2, 3, 8, 16)
    assert images[:, 0, 0, 0].tolist() == [70, 20]


def test_missing_file_names_the_folder_and_the_fix(tmp_path: Path) -> None:
    save(tmp_path, pixels)
    (tmp_path / "test.npz").unlink()
    with pytest.raises(DataUnavailableError, match=r"no file test\.npz .*data\.root"):
        npz(tmp_path)


@pytest.mark.parametrize("content", [b"hello", b"", b"PK\x03\x04 cut"])
def test_file_that_is_no_npz(tmp_path: Path, content: bytes) -> None:
    (save(tmp_path, pixels) / "train.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"not a readable npz file.*train\.npz") as caught:
        npz(tmp_path)
    assert "\n" not in str(caught.value)


def test_pickled_array_is_refused(tmp_path: Path) -> None:
    rewrite(save(tmp_path, pixels) / "train.npz", lambda a: a.update(y=np.array([{}] * 20, dtype=object)))
    with pytest.raises(UserError, match="not a readable npz file"):
        npz(tmp_path)


MALFORMED: list[tuple[Callable[[int], Arrays], Callable[[Arrays], Any], str]] = [
    (pixels, lambda a: a.pop("y"), "array y or labels or label is missing, the file holds x, classes"),
    (pixels, lambda a: a.pop("x"), "array x or images is missing"),
    (pixels, lambda a: a.update(x=a["x"] / 255.0), "images must be uint8 0..255, got float64"),
    (pixels, lambda a: a.update(x=a["x"][:5]), "5 images but 20 labels"),
    (pixels, lambda a: a.update(x=a["x"][..., :2]), r"got uint8 \(20, 6, 5, 2\)"),
    (pixels, lambda a: a.update(y=a["y"] * 1.0), "labels must be integers"),
    (pixels, lambda a: a.update(y=a["y"] + 1), "label 2 of image 1 is outside 0..1"),
    (pixels, lambda a: a.update(y=a["y"] - 1), "label -1 of image 0 is outside 0..1"),
    (pixels, lambda a: a.update(classes=np.arange(2)), "classes must be text"),
    (jpeg, lambda a: a.pop("offset"), "array offset is missing"),
    (jpeg, lambda a: a.update(jpeg=a["jpeg"].astype(float)), "jpeg must be uint8"),
    (jpeg, lambda a: a.update(offset=a["offset"][:-1]), r"offset must be integers of shape \(21,\)"),
    (jpeg, lambda a: a.update(offset=a["offset"] + 1), "offset must rise within"),
    (jpeg, lambda a: a.update(offset=a["offset"][::-1]), "offset must rise within"),
]


@pytest.mark.parametrize(("make", "change", "message"), MALFORMED, ids=[case[2][:30] for case in MALFORMED])
def test_malformed_file_is_one_line(
    tmp_path: Path, make: Callable[[int], Arrays], change: Callable[[Arrays], Any], message: str
) -> None:
    rewrite(save(tmp_path, make) / "train.npz", change)
    with pytest.raises(UserError, match=message) as caught:
        npz(tmp_path)
    assert "train.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_corrupt_jpeg_is_named_by_its_index(tmp_path: Path) -> None:
    def cut(arrays: Arrays) -> None:
        blob = arrays["jpeg"].copy()
        blob[arrays["offset"][3] : arrays["offset"][3] + 40] = 0
        arrays["jpeg"] = blob

    rewrite(save(tmp_path, jpeg) / "test.npz", cut)
    with pytest.raises(UserError, match=r"image 3 is not a whole JPEG file.*test\.npz"):
        npz(tmp_path).setup()


def test_files_that_disagree_are_refused(tmp_path: Path) -> None:
    save(tmp_path, pixels)
    rewrite(tmp_path / "test.npz", lambda a: a.update(classes=np.array(["cat", "cow"])))
    with pytest.raises(UserError, match=r"classes \[cat, cow\] differ from \[cat, dog\]"):
        npz(tmp_path)
    np.savez(tmp_path / "test.npz", **jpeg(4))
    with pytest.raises(UserError, match=r"images are \(3, 8, 16\), those of train.npz are \(3, 6, 5\)"):
        npz(tmp_path)


def test_jpeg_of_another_size_is_named(tmp_path: Path) -> None:
    small, large = jpeg(1, (8, 8)), jpeg(1, (16, 16))
    offset = np.array([0, small["offset"][1], small["offset"][1] + large["offset"][1]])
    blob = np.concatenate([small["jpeg"], large["jpeg"]])
    np.savez(tmp_path / "a.npz", jpeg=blob, offset=offset, label=np.array([0, 1]))
    with pytest.raises(UserError, match="image 1 is 3x16x16, image 0 is 3x8x8"):
        NpzImages(tmp_path / "a.npz").images(torch.arange(2))


@pytest.mark.shared_data
@pytest.mark.skipif(not CIFAR_JPEG.is_dir(), reason="the shared data folder is absent")
def test_cifar_jpeg_decodes_to_the_documented_statistics() -> None:
    data = npz(CIFAR_JPEG, val_fraction=0.02, limit_train=3000)
    data.setup()
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 3000,
        "val": 1000,
        "test": 8000,
    }
    assert data.mean == pytest.approx([0.491, 0.481, 0.444], abs=0.01)
    assert data.std == pytest.approx([0.243, 0.241, 0.259], abs=0.01)
