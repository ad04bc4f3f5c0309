"""``data=constellation_png``: constellation images from the files that :mod:`cvkan.domains.radio.png_files` names.

Legend: B images of a batch, C channels, S side in pixels.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any, NoReturn, Unpack

import numpy as np
from torch.utils.data import Dataset

from cvkan.domains.radio.frames import StoredFrames
from cvkan.domains.radio.layout import CellLayout, LayoutOptions
from cvkan.domains.radio.marks import MARKS, completed
from cvkan.domains.radio.png_files import (
    CHANNELS,
    CLEAN,
    VARIANT,
    PngStore,
    image_prefix,
    list_cells,
    read_facts,
    read_marks,
)
from cvkan.domains.radio.stored import FrameIndex, StoredLoading, StoredRadio
from cvkan.errors import UserError
from cvkan.spec import Batch

# What a tree says of itself that is no setting of an image; the labels are compared on their own.
NOT_OF_AN_IMAGE = {"kind", "snr_definition", "layout", "marks", "source"}


class ConstellationImages(StoredRadio):
    """Constellation images decoded when a batch asks for them. ``x`` is (B, C, S, S) float32 in 0..1 for the model.

    An image has the id and the recording of its frame, as the tree says, else the id that :class:`CellLayout` gives to
    its number: the same split seed cuts I/Q frames and their images alike.

    Args:
        kind: ``grayscale`` or ``three_channel``.
        size: side S in pixels that every image must have.
        variant: blanked copies, such as ``top5``, that the test part consists of; None for the images themselves.
            The other parts stay as they are, and so does the split.
        layout: numbers the images.
        threads: images of a batch that are decoded at the same time.
        loading: see :class:`~cvkan.domains.radio.stored.StoredLoading`; ``normalization`` must be ``none``.

    Raises:
        DataUnavailableError: there is no such folder.
        UserError: no images, one that is not named as described, an unknown modulation or SNR, or an option out of
            range. An image that cannot be decoded or has another size raises it, with its name, when it is read.
    """

    def __init__(
        self,
        *,
        kind: str,
        size: int,
        variant: str | None,
        layout: LayoutOptions,
        threads: int,
        **loading: Unpack[StoredLoading],
    ) -> None:
        super().__init__(**loading)
        _check_options(kind, size, variant, threads, self.normalization)
        self.size, self.threads = size, threads
        self.n_channels = CHANNELS[kind]
        self.variant = CLEAN if variant is None else variant
        self.about = read_facts(self.root)
        self.snr_definition = self.about.get("snr_definition")
        self._layout = layout.resolve(self.about.get("layout", {}), self.root)
        self.cells = list_cells(self.root, kind, self._layout)
        if not self.cells:
            self._refuse(kind)
        names, levels = (set(values) for values in zip(*self.cells, strict=True))
        shape = (self.n_channels, size, size)
        self.spec = replace(self.chosen_spec(names, levels, 1), input_shape=shape, is_complex=False)

    def _refuse(self, kind: str) -> NoReturn:
        """Say what a folder without images holds in their place."""
        if any(self.root.glob("*/SNR_*/*_blackout.png")):
            raise UserError(
                "the folder holds copies with pixels blanked out, without the images that they are of",
                self.root,
                "Copy both into one folder: data.variant reads the copies beside their images.",
            )
        name = f"MOD/SNR_s/{image_prefix(kind, 'MOD', 'SNR_s')}0.png"
        raise UserError(f"the folder holds no {kind} images {name}", self.root, "Check data.root and data.kind.")

    def layout(self) -> CellLayout:
        return self._layout

    def index(self) -> FrameIndex:
        chosen = {
            (name, level): cell
            for (name, level), cell in self.cells.items()
            if name in self.spec.class_names and level in self.spec.snr_db
        }
        sizes = [len(cell.samples[CLEAN]) for cell in chosen.values()]
        places = np.concatenate([self._layout.first_row(*key) + cell.samples[CLEAN] for key, cell in chosen.items()])
        held = [read_marks(cell, self.about.get("marks", [])) for cell in chosen.values()]
        marks = {name: np.concatenate([of_cell[name] for of_cell in held]) for name in MARKS}
        return FrameIndex(
            PngStore(list(chosen.values()), CLEAN, self.n_channels, self.size, self.threads),
            np.arange(sum(sizes)),
            np.repeat([self._layout.classes.index(name) for name, _ in chosen], sizes),
            self._layout.classes,
            np.repeat(np.array([level for _, level in chosen], dtype=np.float32), sizes),
            *completed(marks, places, self.root),
        )

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        parts = super().load_splits()
        test = parts["test"]
        assert isinstance(test, StoredFrames)
        assert isinstance(test.store, PngStore)
        store = test.store.of_variant(self.variant, test.rows.numpy())
        return {**parts, "test": test.in_store(store)}

    def facts(self, drawing: dict[str, Any] | None) -> dict[str, Any]:
        image = {name: value for name, value in self.about.items() if name not in NOT_OF_AN_IMAGE}
        return {**super().facts(drawing), "image": image or None}

    def preprocess(self, batch: Batch) -> Batch:
        return {**batch, "x": batch["x"].float() / 255}

    def content_digest(self) -> str:
        """SHA-256 of the numbers of all images: to read or even ask for the size of millions takes long."""
        digest = hashlib.sha256(json.dumps([self.about, self.variant], sort_keys=True).encode())
        for _, cell in sorted(self.cells.items()):
            digest.update(cell.prefix.encode() + cell.samples[CLEAN].tobytes())
        return digest.hexdigest()


def _check_options(kind: str, size: int, variant: str | None, threads: int, normalization: str) -> None:
    if kind not in CHANNELS:
        raise UserError(f"unknown kind {kind!r} of images", "data.kind", f"Choose one of: {', '.join(CHANNELS)}.")
    for name, value in {"size": size, "threads": threads}.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1, got {value}", f"data.{name}", "Set a positive number.")
    if variant is not None and not VARIANT.fullmatch(variant):
        raise UserError(f"unknown variant {variant!r}", "data.variant", "Write top5, bottom5, random5 or null.")
    if normalization != "none":
        raise UserError(
            f"normalization={normalization} has no effect on images that are drawn already",
            "data.normalization",
            "Set none; cvkan-data convert normalizes the frames that it draws.",
        )
