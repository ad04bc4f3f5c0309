"""A folder of image files, one subfolder a class.

Legend: B batch, C channels, S side.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Unpack, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from cvkan.domains.datamodule import Loading, refuse_split_names
from cvkan.domains.image.base import ImageData
from cvkan.domains.image.files import MODES, SUFFIXES, ImageFiles, image_files, subfolders
from cvkan.domains.labels import check_fraction, stratified_split
from cvkan.errors import DataUnavailableError, UserError
from cvkan.spec import Batch, Spec

N_STATISTICS = 1000  # images that mean and std are taken from: the error of a mean is then below 0.01
LAYOUT = "Put the images of each class into a subfolder named after it, at least two of them."


class ImageFolder(ImageData):
    """Images decoded when a batch asks for them; more ``num_workers`` decode in parallel.

    The folder holds either class subfolders, which are cut into stratified parts, or ``train``, ``test`` and
    optionally ``val`` with class subfolders in each (no ``val``: it is cut from ``train``).

    Args:
        root: the folder.
        image_size: side in pixels; images are scaled to cover the square and cropped at the centre.
        channels: 1 (grey) or 3 (colour).
        val_fraction, test_fraction: shares of the parts that are cut.
        split_seed: seed of the cut, independent of the run's seed.
        loading: see :class:`~cvkan.domains.datamodule.Loading`.

    Raises:
        DataUnavailableError: there is no such folder.
        UserError: no images, fewer than two classes, or an option out of range. A file that cannot be decoded
            raises it, with its name, when it is read.
    """

    def __init__(
        self,
        *,
        root: str,
        image_size: int,
        channels: int,
        val_fraction: float,
        test_fraction: float,
        split_seed: int,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        if image_size < 1:
            raise UserError(f"image_size must be at least 1, got {image_size}", "data.image_size", "Set pixels.")
        if channels not in MODES:
            raise UserError(
                f"channels must be 1 or 3, got {channels}", "data.channels", "Set 1 for grey, 3 for colour."
            )
        check_fraction("val_fraction", val_fraction)
        check_fraction("test_fraction", test_fraction)
        check_fraction("val_fraction + test_fraction", val_fraction + test_fraction)
        self.root, self.image_size, self.channels = Path(root).expanduser(), image_size, channels
        self.val_fraction, self.test_fraction, self.split_seed = val_fraction, test_fraction, split_seed
        if not self.root.is_dir():
            raise DataUnavailableError(
                "there is no such folder", f"data.root={root}", "Set data.root=DIR, or data=digits."
            )
        if not self._has_split_folders():
            fix = "Give train and test (val is optional), each with class subfolders."
            refuse_split_names(self.root, subfolders(self.root), fix)
        self.class_names = _class_names(self.root / "train" if self._has_split_folders() else self.root)
        self.spec = Spec(
            input_shape=(channels, image_size, image_size),
            target="classes",
            n_outputs=len(self.class_names),
            class_names=self.class_names,
        )

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        if not self._has_split_folders():
            shares = {"val": self.val_fraction, "test": self.test_fraction}
            return self._cut(self._files(self.root), {"train": 1 - sum(shares.values()), **shares})
        train, test = self._files(self.root / "train"), self._files(self.root / "test")
        if (self.root / "val").is_dir():
            return {"train": train, "val": self._files(self.root / "val"), "test": test}
        shares = {"train": 1 - self.val_fraction, "val": self.val_fraction}
        return {**self._cut(train, shares), "test": test}

    def statistics_images(self) -> Tensor:
        split = cast(ImageFiles, self.splits["train"])
        rows = torch.linspace(0, len(split) - 1, min(len(split), N_STATISTICS)).long()
        return split.__getitems__(rows.tolist())["x"]

    def fingerprint(self) -> str:
        """SHA-256 of the files' names and sizes: reading every image would cost an epoch."""
        digest = hashlib.sha256()
        for path in image_files(self.root):
            digest.update(f"{path.relative_to(self.root).as_posix()}:{path.stat().st_size}\n".encode())
        return digest.hexdigest()

    def _has_split_folders(self) -> bool:
        """``train/CLASS`` and ``test/CLASS`` exist; classes of these names would hold images directly."""
        return all(subfolders(self.root / name) for name in ("train", "test"))

    def _files(self, folder: Path) -> ImageFiles:
        """All images of a folder's class subfolders."""
        unknown = [path.name for path in subfolders(folder) if path.name not in self.class_names]
        if unknown:
            raise UserError(f"class {unknown[0]} is not among those of train", folder, "Use the same class folders.")
        groups = [image_files(folder / name) for name in self.class_names]
        labels = torch.arange(len(groups)).repeat_interleave(torch.tensor([len(group) for group in groups]))
        return ImageFiles([path for group in groups for path in group], labels, self.image_size, self.channels)

    def _cut(self, files: ImageFiles, shares: dict[str, float]) -> dict[str, Dataset[Batch]]:
        parts = stratified_split(files.labels, shares, self.split_seed)
        return {name: files.subset(rows) for name, rows in parts.items()}


def _class_names(folder: Path) -> tuple[str, ...]:
    """Names of the class subfolders, each of which must hold an image."""
    classes = subfolders(folder)
    if len(classes) < 2:
        found = f"only one class, {classes[0].name}" if classes else "no class subfolder"
        raise UserError(f"the folder has {found}", folder, LAYOUT)
    empty = [path for path in classes if not image_files(path)]
    if empty:
        raise UserError("the class folder holds no image", empty[0], f"Add {', '.join(sorted(SUFFIXES))} or remove it.")
    return tuple(path.name for path in classes)
