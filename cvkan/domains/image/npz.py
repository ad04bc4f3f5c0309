"""A folder with ``train.npz``, ``test.npz`` and optionally ``val.npz``."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cvkan.domains.datamodule import Loading, TensorSplit
from cvkan.domains.image.base import ImageData
from cvkan.domains.image.npz_file import NpzImages
from cvkan.domains.labels import check_fraction, stratified_split
from cvkan.errors import UserError
from cvkan.spec import Batch, Spec


class ImageNpz(ImageData):
    """Images from npz files, held in memory as uint8; the layouts are those of :class:`NpzImages`.

    Args:
        root: the folder.
        val_fraction: share of the training file used for validation where there is no ``val.npz``.
        split_seed: seed of that cut, independent of the run's seed and of ``limit_train``.
        loading: see :class:`~cvkan.domains.datamodule.Loading`; training images beyond ``limit_train`` are not decoded.

    Raises:
        DataUnavailableError: a file is missing.
        UserError: a file is not as described, or the files do not agree.
    """

    def __init__(
        self,
        *,
        root: str,
        val_fraction: float,
        split_seed: int,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        check_fraction("val_fraction", val_fraction)
        self.val_fraction, self.split_seed = val_fraction, split_seed
        folder = Path(root).expanduser()
        names = ["train", "test"] + (["val"] if (folder / "val.npz").is_file() else [])
        self.files = {name: NpzImages(folder / f"{name}.npz") for name in names}
        train = self.files["train"]
        for file in self.files.values():
            _check_agreement(file, train)
        self.spec = Spec(
            input_shape=train.shape,
            target="classes",
            n_outputs=len(train.class_names),
            class_names=train.class_names,
        )

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        train, test = self.files["train"], self.files["test"]
        if "val" in self.files:
            train_rows, val, val_rows = _all_rows(train), self.files["val"], _all_rows(self.files["val"])
        else:
            shares = {"train": 1 - self.val_fraction, "val": self.val_fraction}
            parts = stratified_split(train.labels, shares, self.split_seed)
            train_rows, val, val_rows = parts["train"], train, parts["val"]
        splits: dict[str, Dataset[Batch]] = {
            "train": _read(train, self._limited(train_rows)),
            "val": _read(val, val_rows),
            "test": _read(test, _all_rows(test)),
        }
        self.files = {}  # the splits hold copies: a large data set must not stay in memory twice
        return splits

    def _limited(self, rows: Tensor) -> Tensor:
        """The very rows :meth:`DataModule.setup` would keep, chosen before anything is decoded."""
        if self.limit_train is None or self.limit_train >= len(rows):
            return rows
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.seed))
        return rows[order[: self.limit_train].sort().values]


def _read(file: NpzImages, rows: Tensor) -> TensorSplit:
    return TensorSplit(x=file.images(rows), y=file.labels[rows])


def _all_rows(file: NpzImages) -> Tensor:
    return torch.arange(len(file))


def _check_agreement(file: NpzImages, train: NpzImages) -> None:
    """Every file has images of the training file's size and no class that it lacks."""
    if file.shape != train.shape:
        raise UserError(
            f"images are {file.shape}, those of train.npz are {train.shape} (channels, height, width)",
            file.path,
            "Make all images one size.",
        )
    if file.class_names != train.class_names[: len(file.class_names)]:
        raise UserError(
            f"classes {_listed(file)} differ from {_listed(train)} of train.npz",
            file.path,
            "Use one list of classes.",
        )


def _listed(file: NpzImages) -> str:
    return f"[{', '.join(file.class_names[:20])}]"
