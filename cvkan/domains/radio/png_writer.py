"""``layout=constellation_png``: a tree of constellation images as :mod:`cvkan.domains.radio.png_files` names it.

Legend: b frames of a cell, C channels, S side in pixels.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from cvkan.atomic import atomic_file, remove_leftovers, write_text
from cvkan.domains.datamodule import DataModule
from cvkan.domains.radio.layout import snr_folder
from cvkan.domains.radio.png_files import CHANNELS, FACTS, MARKS_FILE, image_prefix, read_facts
from cvkan.domains.radio.source import Source, source_of, tracked
from cvkan.domains.radio.target import TARGET_FIX, unfinished, written_to
from cvkan.errors import UserError
from cvkan.radio.images import ConstellationImage

DRAWN = 256  # frames drawn at a time
KINDS = {n_channels: kind for kind, n_channels in CHANNELS.items()}


class PngTreeWriter:
    """Draws every frame of a source into a PNG file. Files that are there are kept: an interrupted writing goes on.

    The frames are normalized as the source says. What the images are is written beside them, ``constellations.json``,
    and beside those of a cell the marks of their frames, ``frames.npz``.

    Args:
        image: how a frame is drawn.
        threads: files written at the same time.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, image: ConstellationImage, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"threads is {threads}; set 1 or more")
        self.image, self.threads = image, threads

    def write(self, data: DataModule, to: Path) -> None:
        """Write all frames of a source below the folder ``to``.

        Raises:
            UserError: they are no I/Q frames, there are images of other data or settings, or nothing can be written.
        """
        source = source_of(data)
        with written_to(to):
            _claim(to, self._facts(data, source))
            with unfinished(to), ThreadPoolExecutor(self.threads) as pool:
                for modulation, snr_db, positions in tracked(source):
                    level = snr_folder(snr_db)
                    folder = to / modulation / level
                    folder.mkdir(parents=True, exist_ok=True)
                    prefix = image_prefix(KINDS[self.image.n_channels], modulation, level)
                    missing = _missing(folder, prefix, len(positions))
                    _save_marks(folder / MARKS_FILE, source.marks_of(positions))
                    for start in range(0, len(missing), DRAWN):
                        numbers = missing[start : start + DRAWN]
                        drawn = self._draw(data, source, positions[numbers])
                        paths = [folder / f"{prefix}{number}.png" for number in numbers]
                        list(pool.map(save_png, paths, drawn))  # a list: the first error is raised here

    def _draw(self, data: DataModule, source: Source, positions: Tensor) -> np.ndarray:
        """Frames of a source as grey levels (b, S, S) or colours (b, S, S, 3), uint8."""
        batch = source.frames.__getitems__(positions.tolist())  # type: ignore[attr-defined]
        levels = self.image.levels(data.preprocess(batch)["x"])  # (b, C, S, S)
        return levels.squeeze(1).numpy() if levels.shape[1] == 1 else levels.permute(0, 2, 3, 1).contiguous().numpy()

    def _facts(self, data: DataModule, source: Source) -> dict[str, Any]:
        """What the images are: their settings, the meaning of the labels, the layout that numbers them."""
        layout = source.layout.attributes()
        return {
            "kind": KINDS[self.image.n_channels],
            **self.image.settings(),
            "normalization": data.normalization,  # type: ignore[attr-defined]
            "snr_definition": source.snr_definition,
            "layout": {**layout, "snr_db": layout["snr_db"].tolist()},
            "marks": sorted(source.marks),
            "source": source.digest,
        }


def _claim(to: Path, facts: dict[str, Any]) -> None:
    """Write down what the images will be, unless just these have been begun here already."""
    if (to / FACTS).exists():
        begun = read_facts(to)
        changed = sorted(name for name in {*facts, *begun} if facts.get(name) != begun.get(name))
        if changed:
            raise UserError(f"the folder holds images with another {', '.join(changed)}", to / FACTS, TARGET_FIX)
    elif any(to.glob("*/SNR_*")):
        raise UserError(f"the folder holds data that no {FACTS} describes", to, TARGET_FIX)
    else:
        to.mkdir(parents=True, exist_ok=True)
        write_text(to / FACTS, json.dumps(facts, indent=2) + "\n")


def _missing(folder: Path, prefix: str, n: int) -> list[int]:
    """Numbers of the images of a cell that are not there yet, ascending."""
    remove_leftovers(folder)
    there = {path.name for path in folder.iterdir() if path.stat().st_size}  # a power cut may leave empty files
    return [number for number in range(n) if f"{prefix}{number}.png" not in there]


def _save_marks(path: Path, marks: dict[str, np.ndarray]) -> None:
    """Write the marks (b, ...) of the frames of a cell, unless there are none or they are there."""
    if marks and not path.exists():
        with atomic_file(path) as file:
            np.savez_compressed(file, allow_pickle=False, **marks)


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write grey levels (S, S) or colours (S, S, 3), uint8, whole or not at all."""
    from PIL import Image

    with atomic_file(path, durable=False) as file:
        Image.fromarray(pixels).save(file, "PNG")
