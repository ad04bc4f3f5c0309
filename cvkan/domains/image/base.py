"""What every image source shares: 8-bit images, statistics of the training part.

Legend: B batch, n images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from cvkan.domains.datamodule import DataModule, TensorSplit
from cvkan.spec import Batch


class ImageData(DataModule):
    """Base of the image sources: ``x`` (B, C, H, W) uint8 in the splits, standardised float32 in the model.

    ``mean`` and ``std`` are one float a channel on the scale 0..1, taken from the training part (after
    ``limit_train``) and carried by the checkpoint, so that a model is always fed as it was trained.
    """

    mean: list[float] | None = None
    std: list[float] | None = None

    def statistics_images(self) -> Tensor:
        """Training images (n, C, H, W) uint8 that the statistics are taken from; all of them by default."""
        return cast(TensorSplit, self.splits["train"]).tensors["x"]

    def setup(self, stage: str | None = None) -> None:
        """Load the splits and, unless a checkpoint brought them, take the statistics."""
        super().setup(stage)
        if self.mean is None:
            self.mean, self.std = channel_statistics(self.statistics_images())

    def preprocess(self, batch: Batch) -> Batch:
        """``x`` uint8 0..255 -> float32, each channel with mean 0 and standard deviation 1."""
        if self.mean is None or self.std is None:
            raise RuntimeError("call setup() or load_state_dict() before preprocess(): no statistics yet")
        x = batch["x"].float() / 255  # (B, C, H, W)
        mean, std = x.new_tensor(self.mean).view(-1, 1, 1), x.new_tensor(self.std).view(-1, 1, 1)  # (C, 1, 1)
        return {**batch, "x": (x - mean) / std}

    def summary(self, batch: Batch) -> Tensor:
        """The image at 8x8 pixels, (B, 64 C)."""
        return torch.nn.functional.adaptive_avg_pool2d(batch["x"], 8).flatten(1)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "std": self.std}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.mean, self.std = state_dict["mean"], state_dict["std"]


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Exact mean and standard deviation of each channel, on the scale 0..1.

    Args:
        images: (n, C, H, W) uint8.

    Returns:
        Two lists of C floats. A constant channel gets the deviation of one grey level, never 0.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):  # (n, H, W)
        # Counting grey levels is exact and needs no float copy of a data set that fills memory as uint8.
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()  # (256,)
        mean = (share * values).sum()
        std = (share * (values - mean) ** 2).sum().sqrt()
        means.append(float(mean))
        stds.append(max(float(std), 1 / 255))
    return means, stds
