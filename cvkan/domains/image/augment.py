"""Random shift, flip and cutout of a batch of images.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvkan.errors import UserError
from cvkan.spec import Batch

PADDINGS = ("zero", "reflect")


class ImageAugment(nn.Module):
    """Each image on its own: shift by up to ``pad`` pixels, mirror left-right, erase a square.

    Shift and mirror are one gather for the whole batch, equal to "pad, crop, flip" of torchvision. It runs on
    standardised images, where 0 is the mean colour of the training part.

    Args:
        pad: largest shift in pixels, each way; 0 for none.
        flip: probability of mirroring left-right.
        padding: what a shift uncovers: ``"zero"``, or ``"reflect"`` (mirrored at the border pixel).
        cutout: side in pixels of a square set to 0, centred anywhere (so it may hang over the border); 0 for
            none. Source: DeVries & Taylor, arXiv 1708.04552.

    Raises:
        UserError: a value is out of range, or ``pad`` is not smaller than the image.
    """

    def __init__(self, *, pad: int, flip: float, padding: str, cutout: int) -> None:
        super().__init__()
        for name, value in (("pad", pad), ("cutout", cutout)):
            if value < 0:
                raise UserError(f"{name} must not be negative, got {value}", f"data.augment.{name}", "Set 0 or more.")
        if not 0 <= flip <= 1:
            raise UserError(f"flip must be a probability, got {flip}", "data.augment.flip", "Set a number from 0 to 1.")
        if padding not in PADDINGS:
            raise UserError(
                f"unknown padding {padding!r}",
                "data.augment.padding",
                f"Choose one of {', '.join(PADDINGS)}.",
            )
        self.pad, self.flip, self.padding, self.cutout = pad, flip, padding, cutout

    def forward(self, batch: Batch) -> Batch:
        """``batch`` with a new ``x`` (B, C, H, W), uint8 or float; draws from torch's global generator."""
        x = batch["x"]
        if self.pad or self.flip:
            x = self._shift_and_flip(x)
        if self.cutout:
            x = self._erase(x)
        return {**batch, "x": x}

    def _shift_and_flip(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        if self.pad >= min(height, width):
            raise UserError(
                f"pad must be smaller than the image of {height}x{width} pixels, got {self.pad}",
                "data.augment.pad",
                "Set fewer pixels.",
            )
        shift = torch.randint(-self.pad, self.pad + 1, (2, n, 1), device=x.device)
        rows = torch.arange(height, device=x.device) + shift[0]  # (B, H) source row of each output row
        columns = torch.arange(width, device=x.device).expand(n, -1)  # (B, W)
        mirrored = torch.rand(n, 1, device=x.device) < self.flip
        columns = torch.where(mirrored, width - 1 - columns, columns) + shift[1]
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
        rows, columns = _fold(rows, height), _fold(columns, width)
        source = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)  # (B, H W)
        moved = x.flatten(2).gather(2, source[:, None].expand(-1, channels, -1)).view_as(x)  # (B, C, H, W)
        return moved if self.padding == "reflect" else moved.masked_fill(~inside[:, None], 0)

    def _erase(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        top = torch.randint(0, height, (n, 1), device=x.device) - self.cutout // 2
        left = torch.randint(0, width, (n, 1), device=x.device) - self.cutout // 2
        rows = torch.arange(height, device=x.device) - top  # (B, H) position within the square
        columns = torch.arange(width, device=x.device) - left
        hit_rows, hit_columns = (rows >= 0) & (rows < self.cutout), (columns >= 0) & (columns < self.cutout)
        return x.masked_fill((hit_rows[:, :, None] & hit_columns[:, None, :])[:, None], 0)


def _fold(index: Tensor, size: int) -> Tensor:
    """Indices within ``size`` of the valid range, mirrored back into 0..size-1 at the border pixel."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
