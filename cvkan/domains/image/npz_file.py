"""One npz file of labelled images, as pixels or as JPEG files laid end to end; checked before use.

Legend: n images, C channels, H height, W width.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cvkan.errors import DataUnavailableError, UserError

LAYOUT = "Save x uint8 (n, H, W, C), or jpeg uint8 with offset (n + 1,), and y integer (n,)."
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


class NpzImages:
    """Images and labels of one file; pixels are read, or decoded, only for the rows asked for.

    Layouts (names on the left of a bar are tried first):

    - pixels: ``x | images`` uint8 (n, H, W), (n, H, W, C) or (n, C, H, W) with C 1 or 3;
      ``y | labels | label`` integer (n,)
    - JPEG: ``jpeg`` uint8 (all files end to end), ``offset`` integer (n + 1,), image i is
      ``jpeg[offset[i]:offset[i + 1]]``; labels as above

    and in both optionally ``classes``, the class names in label order.

    Attributes:
        labels: (n,) int64.
        class_names: one name a label.
        shape: (C, H, W) of every image.

    Raises:
        DataUnavailableError: there is no such file.
        UserError: the file, an array or a label is not as described; pickled arrays are refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        arrays = _load(path)
        raw_labels = _pick(arrays, ("y", "labels", "label"), path)
        if raw_labels.dtype.kind not in "iu" or raw_labels.ndim != 1 or not len(raw_labels):
            raise self._error(f"labels must be integers of shape (n,), got {_describe(raw_labels)}", LAYOUT)
        self.labels = torch.from_numpy(raw_labels.astype(np.int64))
        self.class_names = self._names(arrays.get("classes"))
        self._check_labels()
        self._pixels: Tensor | None = None
        if "jpeg" in arrays:
            self._blob = torch.from_numpy(self._checked_blob(arrays["jpeg"]))
            self._offsets = self._checked_offsets(_pick(arrays, ("offset",), path)).tolist()
            # The first image says how many channels and pixels all of them have.
            self.shape = tuple(self._decode_one(0, channels=None).shape)
        else:
            self._pixels = self._channels_first(_pick(arrays, ("x", "images"), path))
            self.shape = tuple(self._pixels.shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, rows: Tensor) -> Tensor:
        """The images of some rows.

        Args:
            rows: (k,) int64.

        Returns:
            (k, C, H, W) uint8.
        """
        return self._decode(rows) if self._pixels is None else self._pixels[rows]

    def _decode(self, rows: Tensor) -> Tensor:
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        progress = track(
            rows.tolist(),
            f"decoding {self.path.name}",
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        out = torch.empty(len(rows), *self.shape, dtype=torch.uint8)
        for position, row in enumerate(progress):
            image = self._decode_one(row, self.shape[0])
            if image.shape != self.shape:
                raise self._error(
                    f"image {row} is {_size(image.shape)}, image 0 is {_size(self.shape)}",
                    "Make all one size.",
                )
            out[position] = image
        return out

    def _decode_one(self, row: int, channels: int | None) -> Tensor:
        """One JPEG (C, H, W) uint8; ``channels`` 1 or 3, None for as stored."""
        from torchvision.io import ImageReadMode, decode_jpeg  # 2.5 times as fast as Pillow on 32x32 images

        modes = {None: ImageReadMode.UNCHANGED, 1: ImageReadMode.GRAY, 3: ImageReadMode.RGB}
        try:
            return decode_jpeg(self._blob[self._offsets[row] : self._offsets[row + 1]], mode=modes[channels])
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise self._error(f"image {row} is not a whole JPEG file: {reason}", "Replace the file.") from error

    def _names(self, classes: np.ndarray | None) -> tuple[str, ...]:
        if classes is None:
            return tuple(str(label) for label in range(int(self.labels.max()) + 1))
        if classes.dtype.kind != "U" or classes.ndim != 1:
            raise self._error(f"classes must be text of shape (K,), got {_describe(classes)}", LAYOUT)
        return tuple(classes.tolist())

    def _check_labels(self) -> None:
        wrong = ((self.labels < 0) | (self.labels >= len(self.class_names))).nonzero()
        if len(wrong):
            row = int(wrong[0])
            raise self._error(
                f"label {int(self.labels[row])} of image {row} is outside 0..{len(self.class_names) - 1}",
                "Number the classes from 0.",
            )

    def _checked_blob(self, blob: np.ndarray) -> np.ndarray:
        if blob.dtype != np.uint8 or blob.ndim != 1:
            raise self._error(f"jpeg must be uint8 of shape (bytes,), got {_describe(blob)}", LAYOUT)
        return blob

    def _checked_offsets(self, offsets: np.ndarray) -> np.ndarray:
        n, size = len(self.labels), len(self._blob)
        if offsets.dtype.kind not in "iu" or offsets.shape != (n + 1,):
            raise self._error(
                f"offset must be integers of shape ({n + 1},), labels + 1, got {_describe(offsets)}",
                LAYOUT,
            )
        offsets = offsets.astype(np.int64)
        if offsets[0] < 0 or offsets[-1] > size or (np.diff(offsets) <= 0).any():
            raise self._error(f"offset must rise within 0..{size}, the size of jpeg", LAYOUT)
        return offsets

    def _channels_first(self, images: np.ndarray) -> Tensor:
        """uint8 images in any of the three layouts -> (n, C, H, W)."""
        if images.dtype != np.uint8:
            raise self._error(
                f"images must be uint8 0..255, got {_describe(images)}",
                "Convert values in 0..1 with (255 * x).round().astype('uint8').",
            )
        if len(images) != len(self.labels):
            raise self._error(f"{len(images)} images but {len(self.labels)} labels", "Save one label an image.")
        if images.ndim == 3:
            images = images[:, None]  # (n, 1, H, W)
        elif images.ndim == 4 and images.shape[-1] in (1, 3):
            images = images.transpose(0, 3, 1, 2)  # (n, C, H, W)
        elif images.ndim != 4 or images.shape[1] not in (1, 3):
            raise self._error(
                f"images must be (n, H, W), (n, H, W, C) or (n, C, H, W), got {_describe(images)}", LAYOUT
            )
        return torch.from_numpy(np.ascontiguousarray(images))

    def _error(self, what: str, fix: str) -> UserError:
        return UserError(what, self.path, fix)


def _load(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz file, each decompressed once."""
    if not path.is_file():
        raise DataUnavailableError(
            f"there is no file {path.name}",
            path.parent,
            "Set data.root to the folder that holds it, or use data=digits.",
        )
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it is a single array")
        with archive:
            return {name: archive[name] for name in archive.files}
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"not a readable npz file: {reason}", path, "Write it with numpy.savez, or copy it again."
        ) from error


def _pick(arrays: dict[str, np.ndarray], names: tuple[str, ...], path: Path) -> np.ndarray:
    for name in names:
        if name in arrays:
            return arrays[name]
    held = ", ".join(arrays) or "none"
    raise UserError(f"array {' or '.join(names)} is missing, the file holds {held}", path, LAYOUT)


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)
