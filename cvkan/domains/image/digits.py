"""Handwritten digits, the embedded image source: no network, no file.

Source: scikit-learn ``load_digits`` = test part of UCI "Optical Recognition of Handwritten Digits"
(Alpaydin & Kaynak, 1998): 1797 images of 8x8 pixels with 17 grey levels.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch.utils.data import Dataset

from cvkan.domains.datamodule import Loading, TensorSplit
from cvkan.domains.image.base import ImageData
from cvkan.domains.labels import stratified_split
from cvkan.spec import Batch, Spec

FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}


class Digits(ImageData):
    """Digits 0-9, 60/20/20 stratified. The source names no writers, so the same hand may be in two splits.

    Args:
        split_seed: seed of the split, independent of the run's seed.
        loading: see :class:`~cvkan.domains.datamodule.Loading`.
    """

    def __init__(
        self,
        *,
        split_seed: int,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        self.split_seed = split_seed
        self.spec = Spec(input_shape=(1, 8, 8), target="classes", n_outputs=10, class_names=tuple("0123456789"))

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        # 0..16 -> 0..255: the scale of every other 8-bit image, also of a user's own file at prediction.
        x = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8).unsqueeze(1)  # (n, 1, 8, 8)
        y = torch.from_numpy(digits.target).long()
        rows = stratified_split(y, FRACTIONS, self.split_seed)
        return {name: TensorSplit(x=x[part], y=y[part]) for name, part in rows.items()}
