"""CIFAR-10 from a miniature of the published files, and the one line when there are none."""

from __future__ import annotations

import hashlib
import pickle
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from cvkan.domains.image.cifar10 import CIFAR10
from cvkan.errors import DataUnavailableError, UserError


def cifar10(root: Path, **options: Any) -> CIFAR10:
    settings = {"download": False, "n_val": 10, "split_seed": 0, "batch_size": 8, "num_workers": 0, "seed": 0}
    return CIFAR10(root=str(root), **{**settings, "limit_train": None, **options})


@pytest.fixture
def miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of the published format with 20 images each; torchvision checks them by their own checksums."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)

    def write(name: str, content: dict) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(number: int) -> dict:
        return {
            "data": rng.integers(0, 256, (20, 3072), dtype=np.uint8),
            "labels": [i % 10 for i in range(20)],
        }

    names = [f"data_batch_{i}" for i in range(1, 6)]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [write(name, batch(0)) for name in names])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [write("test_batch", batch(0))])
    meta = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    return tmp_path


def test_split_is_a_fixed_permutation_of_the_training_part(miniature: Path) -> None:
    data, other_run = cifar10(miniature), cifar10(miniature, seed=5)
    data.setup()
    other_run.setup()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 90, "val": 10, "test": 20}
    assert data.fingerprint() == other_run.fingerprint()
    official = torch.from_numpy(datasets.CIFAR10(miniature).data).permute(0, 3, 1, 2)
    both = torch.cat([data.splits["train"].tensors["x"], data.splits["val"].tensors["x"]])
    assert both.dtype == torch.uint8
    assert sorted(map(bytes, both.flatten(1).numpy())) == sorted(map(bytes, official.flatten(1).numpy()))


def test_n_val_must_leave_training_images(miniature: Path) -> None:
    with pytest.raises(UserError, match=r"n_val must be between 1 and 99, got 100 \(data.n_val\)"):
        cifar10(miniature, n_val=100).setup()


def test_damaged_file_is_not_read(miniature: Path) -> None:
    (miniature / "cifar-10-batches-py" / "test_batch").write_bytes(b"cut")
    with pytest.raises(DataUnavailableError, match=r"missing or damaged .*\. Delete cifar-10-batches-py there"):
        cifar10(miniature).setup()


def test_missing_data_names_the_three_ways_out(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError) as caught:
        cifar10(tmp_path / "none").setup()
    line = str(caught.value)
    assert "\n" not in line
    assert all(way in line for way in ("data.download=true", "data.root=DIR", "data=digits"))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.mark.usefixtures("no_network")
def test_download_without_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match=r"could not be downloaded: .*not known") as caught:
        cifar10(tmp_path, download=True).prepare_data()
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_network")
def test_files_in_place_are_verified_when_read_and_not_before(miniature: Path) -> None:
    (miniature / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"cut")
    cifar10(miniature, download=True).prepare_data()
    (miniature / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(DataUnavailableError, match="could not be downloaded"):
        cifar10(miniature, download=True).prepare_data()
