"""Constellation images in files, ``ROOT/MOD/SNR_s/KIND_MOD_SNR_s_sample_i.png``: names, listing, reading.

A copy with pixels blanked out ends in ``_top5_blackout``, ``_bottom5_blackout`` or ``_random5_blackout``; the number is
the share of its lit pixels in percent.

Legend: B images of a batch, C channels, S side in pixels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvkan.domains.radio.layout import LAYOUT_FIX, CellLayout, cell_folders
from cvkan.domains.radio.marks import MARKS, are_marks, no_marks
from cvkan.domains.radio.splits import UNREADABLE
from cvkan.errors import UserError

CHANNELS = {"grayscale": 1, "three_channel": 3}
MARKS_FILE = "frames.npz"  # in the folder of a cell that cvkan wrote: the marks of its frames, by the images' numbers
MODES = {1: "L", 3: "RGB"}
FACTS = "constellations.json"  # in the root of a tree that cvkan wrote: what its images are
MARKS_FILE_FIX = "Copy it again, or delete it and run the same cvkan-data convert again."
CLEAN = ""  # name of the variant without blanked pixels
VARIANT = re.compile(r"(top|bottom|random)[1-9]\d*")
REST_OF_NAME = re.compile(rf"(0|[1-9]\d*)(?:_({VARIANT.pattern})_blackout)?\.png")


def image_prefix(kind: str, modulation: str, level: str) -> str:
    """What the names of all images of a cell begin with; ``level`` is the name of its folder, such as ``SNR_-4``."""
    return f"{kind}_{modulation}_{level}_sample_"


@dataclass(frozen=True)
class ImageCell:
    """The images of one kind of one pair of modulation and SNR.

    Attributes:
        folder: holds them.
        prefix: see :func:`image_prefix`.
        samples: numbers of the images of each variant, ascending.
    """

    folder: Path
    prefix: str
    samples: Mapping[str, np.ndarray]

    def path(self, sample: int, variant: str) -> Path:
        suffix = f"_{variant}_blackout" if variant else ""
        return self.folder / f"{self.prefix}{sample}{suffix}.png"


def list_cells(root: Path, kind: str, layout: CellLayout) -> dict[tuple[str, float], ImageCell]:
    """The cells that hold images of a kind, by modulation and SNR in dB; images are listed, not opened.

    Raises:
        UserError: a folder is not named after a cell of the layout, or a PNG file not after its cell and a number.
    """
    cells = {}
    for folder, modulation, snr_db in cell_folders(root):
        if modulation not in layout.classes or snr_db not in layout.snr_db:
            raise UserError(f"the layout has no {modulation} at {snr_db:g} dB", folder, LAYOUT_FIX)
        prefix = image_prefix(kind, modulation, folder.name)
        others = tuple(image_prefix(other, modulation, folder.name) for other in CHANNELS if other != kind)
        found: dict[str, list[int]] = {CLEAN: []}
        for path in folder.iterdir():
            if path.suffix != ".png" or path.name.startswith((".", *others)):
                continue
            match = REST_OF_NAME.fullmatch(path.name.removeprefix(prefix))
            if match is None or not path.name.startswith(prefix):
                raise UserError(
                    "the image is not named after its cell and a number", path, f"Name it {prefix}0.png, or remove it."
                )
            found.setdefault(match[2] or CLEAN, []).append(int(match[1]))
        if found[CLEAN]:
            samples = {variant: np.sort(np.array(numbers)) for variant, numbers in found.items()}
            cell = ImageCell(folder, prefix, samples)
            last = int(samples[CLEAN][-1])
            if last >= layout.frames_per_cell:
                what = f"the layout has {layout.frames_per_cell} frames a cell"
                raise UserError(what, cell.path(last, CLEAN), LAYOUT_FIX)
            cells[modulation, snr_db] = cell
    return cells


def read_marks(cell: ImageCell, expected: Collection[str]) -> dict[str, np.ndarray]:
    """The marks of the clean images of a cell, see :mod:`~cvkan.domains.radio.marks`; -1 where nothing says them.

    Args:
        cell: of the images.
        expected: names of marks that the tree says it has.

    Raises:
        UserError: the file that says them is damaged, or lacks some that are expected.
    """
    path, samples = cell.folder / MARKS_FILE, cell.samples[CLEAN]
    held: dict[str, np.ndarray] = {}
    if path.exists():
        try:
            with np.load(path, allow_pickle=False) as archive:
                held = {name: archive[name] for name in MARKS if name in archive}
        except UNREADABLE as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"the ids of the images cannot be read: {reason}", path, MARKS_FILE_FIX) from error
    if missing := sorted(set(expected) - set(held)):
        raise UserError(f"the {missing[0]} of the images is not there", path, MARKS_FILE_FIX)
    for name, numbers in held.items():
        n = len(numbers) if numbers.ndim else 0
        if not are_marks(name, numbers.shape, numbers.dtype, n) or n <= samples[-1] or numbers.min() < 0:
            raise UserError(f"{name} holds no numbers of the {samples[-1] + 1} images", path, MARKS_FILE_FIX)
    return {name: held[name][samples] if name in held else no_marks(name, len(samples)) for name in MARKS}


class PngStore:
    """The images of some cells, numbered through in the order of cells and samples.

    Args:
        cells: hold the images.
        variant: which copy of each is read.
        n_channels: C.
        size: S.
        threads: images decoded at the same time.
    """

    def __init__(self, cells: Sequence[ImageCell], variant: str, n_channels: int, size: int, threads: int) -> None:
        self.cells, self.variant, self.threads = list(cells), variant, threads
        self.n_channels, self.size = n_channels, size
        self.first = np.cumsum([0] + [len(cell.samples[CLEAN]) for cell in cells])

    def of_variant(self, variant: str, rows: np.ndarray) -> PngStore:
        """The copies of the same images.

        Raises:
            UserError: one of the images ``rows`` has no such copy.
        """
        other = PngStore(self.cells, variant, self.n_channels, self.size, self.threads)
        for k, cell in enumerate(self.cells):
            here = rows[(rows >= self.first[k]) & (rows < self.first[k + 1])] - self.first[k]
            samples = cell.samples[CLEAN][here]
            missing = np.setdiff1d(samples, cell.samples.get(variant, []))
            if len(missing):
                raise UserError(
                    f"{len(missing)} of {len(samples)} test images of this cell have no copy {variant}, the first is",
                    cell.path(int(missing[0]), variant),
                    "Write the copies, or set data.variant=null.",
                )
        return other

    def path(self, row: int) -> Path:
        """The file of an image."""
        k = int(np.searchsorted(self.first, row, side="right")) - 1
        cell = self.cells[k]
        return cell.path(int(cell.samples[CLEAN][row - self.first[k]]), self.variant)

    def describe(self, row: int) -> str:
        return str(self.path(row))

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images ``rows`` (B,) in that order, (B, C, S, S) uint8."""
        # A pool for each batch: threads do not survive the fork of a loader process, and cost little.
        with ThreadPoolExecutor(self.threads) as pool:
            return np.stack(list(pool.map(self._decode, rows)))

    def _decode(self, row: int) -> np.ndarray:
        return decode_png(self.path(row), self.n_channels, self.size)


def decode_png(path: Path, n_channels: int, size: int) -> np.ndarray:
    """One image, (C, S, S) uint8.

    Raises:
        UserError: it is missing, no image, damaged or of another size.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if image.size != (size, size):
                width, height = image.size
                raise UserError(
                    f"the image has {width} x {height} pixels, not {size} x {size}",
                    path,
                    "Set data.size, or remove it.",
                )
            pixels = np.array(image.convert(MODES[n_channels]))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = "it is not an image" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise UserError(f"the image cannot be decoded: {reason}", path, "Write it again, or remove it.") from error
    return pixels[None] if n_channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_facts(root: Path) -> dict[str, Any]:
    """What the images of a tree are, as far as it says so.

    Raises:
        UserError: the file that says so is damaged.
    """
    path = root / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"the description of the images cannot be read: {error}", path, "Remove the file.") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("layout", {}), dict):
        raise UserError("the description of the images is not one of cvkan", path, "Remove the file.")
    return facts
