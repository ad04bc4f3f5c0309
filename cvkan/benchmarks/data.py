"""``suite=data``: what it costs to make signal frames and their images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cvkan.benchmarks.constellation_images import image_rows
from cvkan.benchmarks.frames import frame_rows
from cvkan.benchmarks.rows import Row
from cvkan.benchmarks.suite import Suite


class DataSuite(Suite):
    """Signal frames against TorchSig, constellation images against a loop over numpy; one CPU thread.

    Args:
        budget: see :class:`Suite`.
        budgets: for each budget ``frames`` and ``images``: arguments of :func:`frame_rows` and :func:`image_rows`.
        seed: seeds the frames.
    """

    def __init__(self, budget: str, budgets: Mapping[str, Mapping[str, Any]], seed: int) -> None:
        super().__init__(budget, budgets)
        self.seed = seed

    def run(self) -> Iterator[Row]:
        """Rows of the images, then of the frames, which need TorchSig."""
        yield from image_rows(**self.settings["images"], seed=self.seed)
        yield from frame_rows(**self.settings["frames"], seed=self.seed)
