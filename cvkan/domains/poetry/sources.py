"""``data=poems_embedded`` and ``data=poems_file``: where poems come from."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from cvkan.domains.poetry.base import PoetryData, Reading
from cvkan.poetry.poems_file import Poem, embedded_poems, read_poems


class PoemsEmbedded(PoetryData):
    """Short poems that come with cvkan, written for it.

    Args:
        reading: see :class:`~cvkan.domains.poetry.base.Reading`.
    """

    def read_poems(self) -> list[Poem]:
        return embedded_poems()


class PoemsFile(PoetryData):
    """Poems of a file: JSON, JSON lines, CSV or text, see :func:`~cvkan.poetry.poems_file.read_poems`.

    Args:
        path: the file.
        reading: see :class:`~cvkan.domains.poetry.base.Reading`.
    """

    def __init__(self, *, path: str, **reading: Unpack[Reading]) -> None:
        super().__init__(**reading)
        self.path = Path(path).expanduser()

    def read_poems(self) -> list[Poem]:
        return read_poems(self.path)
