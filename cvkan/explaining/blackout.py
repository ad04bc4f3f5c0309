"""Copies of the images of a PNG tree with pixels blanked out, as ``data.variant`` reads them.

Legend: B images of a batch, C channels, S side in pixels.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cvkan.domains.datamodule import DataModule
from cvkan.domains.radio.frames import StoredFrames
from cvkan.domains.radio.png_files import CLEAN, PngStore
from cvkan.domains.radio.png_tree import ConstellationImages
from cvkan.domains.radio.png_writer import save_png
from cvkan.errors import UserError
from cvkan.radio.images import GREY_LEVELS


class BlackoutWriter:
    """Writes blanked copies of test images under the names that the tree gives them, there or below another folder.

    Args:
        data: the tree, loaded.
        to: folder to write to; the tree's own, for ``data.variant`` to find the copies beside the images.

    Raises:
        UserError: the data is no tree of images without blanked pixels.
    """

    def __init__(self, data: DataModule, to: str) -> None:
        if not isinstance(data, ConstellationImages) or data.variant != CLEAN:
            raise UserError(
                "only the images of a PNG tree can be copied with pixels blanked out",
                "method.write_png",
                "Set data=constellation_png data.root=DIR data.variant=null.",
            )
        test = data.splits["test"]
        assert isinstance(test, StoredFrames)
        assert isinstance(test.store, PngStore)
        self.store, self.root, self.to = test.store, data.root, Path(to).expanduser()
        self.row = dict(zip(test.ids.tolist(), test.rows.tolist(), strict=True))

    def write(self, ids: Tensor, images: Tensor, variant: str) -> None:
        """Write blanked images.

        Args:
            ids: (B,) of the images.
            images: (B, C, S, S) float32, the files' pixels / 255 or 0.
            variant: such as ``top5``.
        """
        copies = self.store.of_variant(variant, np.array([], dtype=np.int64))
        paths = [self.to / copies.path(self.row[number]).relative_to(self.root) for number in ids.tolist()]
        for folder in {path.parent for path in paths}:
            folder.mkdir(parents=True, exist_ok=True)
        levels = (images * GREY_LEVELS).round_().to(torch.uint8).movedim(1, -1).cpu()  # (B, S, S, C)
        pixels = levels.squeeze(-1).contiguous().numpy()  # grey ones without channels
        with ThreadPoolExecutor(self.store.threads) as pool:
            list(pool.map(save_png, paths, pixels))  # a list: the first error is raised here
