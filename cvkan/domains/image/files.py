"""Image files that are decoded when they are asked for.

Legend: B batch, C channels, S side in pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cvkan.errors import UserError
from cvkan.spec import Batch

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
MODES = {1: "L", 3: "RGB"}


class ImageFiles(Dataset[Batch]):
    """Labelled image files; a batch is ``x`` (B, C, S, S) uint8 and ``y`` (B,) int64.

    Args:
        paths: one file an image.
        labels: (n,) int64.
        size: side S in pixels.
        channels: 1 (grey) or 3 (colour).
    """

    def __init__(self, paths: list[Path], labels: Tensor, size: int, channels: int) -> None:
        self.paths, self.labels, self.size, self.channels = paths, labels, size, channels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Batch:
        return {"x": self._decode(index), "y": self.labels[index]}

    def __getitems__(self, indices: list[int]) -> Batch:
        return {
            "x": torch.stack([self._decode(i) for i in indices]),
            "y": self.labels[torch.as_tensor(indices)],
        }

    def subset(self, rows: Tensor) -> ImageFiles:
        """The given rows, in their order."""
        return ImageFiles([self.paths[row] for row in rows.tolist()], self.labels[rows], self.size, self.channels)

    def _decode(self, index: int) -> Tensor:
        return decode_image(self.paths[index], self.size, self.channels)


def decode_image(path: Path, size: int, channels: int) -> Tensor:
    """One image file, upright, scaled to cover the square and cropped at the centre.

    Args:
        path: a file Pillow can read.
        size: side S of the square in pixels.
        channels: 1 (grey) or 3 (colour).

    Returns:
        (C, S, S) uint8.

    Raises:
        UserError: the file is not an image, or it is damaged.
    """
    from PIL import Image, ImageOps

    mode = MODES[channels]
    try:
        with Image.open(path) as image:
            image.draft(mode, (size, size))  # lets JPEG decode at a fraction of a large size
            upright = ImageOps.exif_transpose(image)
            square = ImageOps.fit(upright.convert(mode), (size, size), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = "it is not an image" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise UserError(f"the image cannot be decoded: {reason}", path, "Replace the file or remove it.") from error
    pixels = torch.from_numpy(np.array(square))
    return pixels.unsqueeze(0) if channels == 1 else pixels.permute(2, 0, 1).contiguous()  # (C, S, S)


def image_files(folder: Path) -> list[Path]:
    """Image files below a folder, at any depth, sorted; hidden ones are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def subfolders(folder: Path) -> list[Path]:
    """Direct subfolders, sorted; hidden ones are left out. A missing folder has none."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
