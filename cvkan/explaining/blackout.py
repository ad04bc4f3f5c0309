"""Copies of the images of a PNG tree with pixels blanked out, as ``data.variant`` reads them.

Legend: B images of a batch, C channels, S side in pixels.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvkan.atomic import write_text
from cvkan.domains.datamodule import DataModule
from cvkan.domains.radio.frames import StoredFrames
from cvkan.domains.radio.png_files import CLEAN, PngStore
from cvkan.domains.radio.png_tree import ConstellationImages
from cvkan.domains.radio.png_writer import save_png
from cvkan.errors import UserError
from cvkan.radio.images import GREY_LEVELS

FACTS = "blackouts.json"  # in the folder that the copies are written to: what they are
FIX = "Set method.write_png=DIR to another folder, or delete them."


class BlackoutWriter:
    """Writes blanked copies of test images under the names that the tree gives them, there or below another folder.

    What the copies are is written beside them, ``blackouts.json``. Copies of the same images and seed are replaced.

    Args:
        data: the tree, loaded.
        to: folder to write to; the tree's own, for ``data.variant`` to find the copies beside the images.
        seed: that the pixels are drawn by.

    Raises:
        UserError: the data is no tree of images without blanked pixels, or the folder holds other copies.
    """

    def __init__(self, data: DataModule, to: str, seed: int) -> None:
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
        claim(self.to, {"seed": seed, "images": data.about})

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


def claim(to: Path, facts: dict[str, Any]) -> None:
    """Write down what the copies in a folder will be, unless just these have been begun there already.

    Raises:
        UserError: there are others, or nothing can be written there.
    """
    path = to / FACTS
    try:
        if path.exists():
            begun = json.loads(path.read_text(encoding="utf-8"))
            if begun != facts:
                seeds = f"seed {begun['seed']}" if begun["seed"] != facts["seed"] else "other images"
                raise UserError(f"the folder holds copies of {seeds}", path, FIX)
        elif next(to.glob("*/SNR_*/*_blackout.png"), None) is not None:
            raise UserError(f"the folder holds copies that no {FACTS} describes", to, FIX)
        else:
            to.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(facts, indent=2) + "\n")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"what the copies are cannot be read or written: {error}", path, FIX) from error
