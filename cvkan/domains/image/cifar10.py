"""CIFAR-10 as published (lossless pixels), read by torchvision.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import torch
from torch.utils.data import Dataset

from cvkan.domains.datamodule import Loading, TensorSplit
from cvkan.domains.image.base import ImageData
from cvkan.errors import DataUnavailableError, UserError
from cvkan.spec import Batch, Spec

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER = "cifar-10-batches-py"  # as in the archive
FETCH = f"Set data.download=true (170 MB), data.root=DIR (it holds {FOLDER}), or use data=digits."
FETCH_AGAIN = f"Delete {FOLDER} there and set data.download=true, or use data=digits."


class CIFAR10(ImageData):
    """60,000 images 3x32x32 in 10 classes: 45,000 train, 5,000 validation, 10,000 test.

    The validation part is cut from the official training part by a fixed permutation.

    Args:
        root: folder that holds, or will hold, ``cifar-10-batches-py``.
        download: fetch the archive when a file is missing. torchvision verifies the checksum of the archive, and
            of each file whenever it is read.
        n_val: images of the validation part.
        split_seed: seed of the permutation, independent of the run's seed.
        loading: see :class:`~cvkan.domains.datamodule.Loading`.

    Raises:
        DataUnavailableError: the files are missing or damaged and cannot be, or must not be, downloaded.
    """

    def __init__(
        self,
        *,
        root: str,
        download: bool,
        n_val: int,
        split_seed: int,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        self.root, self.download = Path(root).expanduser(), download
        self.n_val, self.split_seed = n_val, split_seed
        self.spec = Spec(input_shape=(3, 32, 32), target="classes", n_outputs=10, class_names=CLASS_NAMES)

    def prepare_data(self) -> None:
        """Download once, in one process, if that is asked for."""
        # Files that are there are verified as they are read: hashing them here too would cost the same again.
        if not self._is_complete():
            self._read(train=True, download=self.download)

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        x, y = self._read(train=True)
        if not 0 < self.n_val < len(x):
            raise UserError(
                f"n_val must be between 1 and {len(x) - 1}, got {self.n_val}",
                "data.n_val",
                "Set the number of validation images, usually 5000.",
            )
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.split_seed))
        val, train = order[: self.n_val].sort().values, order[self.n_val :].sort().values
        x_test, y_test = self._read(train=False)
        return {
            "train": TensorSplit(x=x[train], y=y[train]),
            "val": TensorSplit(x=x[val], y=y[val]),
            "test": TensorSplit(x=x_test, y=y_test),
        }

    def _is_complete(self) -> bool:
        """Every file is there, whatever it holds."""
        from torchvision import datasets

        listed = datasets.CIFAR10.train_list + datasets.CIFAR10.test_list
        names = [name for name, _ in listed] + [datasets.CIFAR10.meta["filename"]]
        return all((self.root / FOLDER / name).is_file() for name in names)

    def _read(self, train: bool, download: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (n, 3, 32, 32) uint8 and labels (n,) of the official training or test part."""
        from torchvision import datasets

        try:
            part = datasets.CIFAR10(str(self.root), train=train, download=download)
        except OSError as error:  # includes URLError: no network, or a folder that cannot be written
            raise DataUnavailableError(
                f"CIFAR-10 could not be {'downloaded' if download else 'read'}: {error}",
                f"data.root={self.root}",
                FETCH,
            ) from error
        except RuntimeError as error:  # torchvision's "not found or corrupted"
            fix = FETCH_AGAIN if self._is_complete() else FETCH
            raise DataUnavailableError("CIFAR-10 is missing or damaged", f"data.root={self.root}", fix) from error
        images = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous()  # (n, 3, 32, 32)
        return images, torch.tensor(part.targets)
