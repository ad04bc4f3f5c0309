"""``data=imdb``: long film reviews, praise or blame (Large Movie Review Dataset)."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from cvkan.domains.labels import check_fraction
from cvkan.domains.text.archive import Archive
from cvkan.domains.text.base import Reading, TextData
from cvkan.domains.text.parts import Part, draw_parts
from cvkan.domains.text.tables import read_utf8
from cvkan.domains.text.words import split_words
from cvkan.errors import DataUnavailableError, UserError

FOLDERS = {"neg": "negative", "pos": "positive"}  # and the names of the classes
LINE_BREAK = "<br />"  # the reviews come from web pages
ARCHIVE = Archive(
    "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
    "aclImdb",
)


class IMDB(TextData):
    """25,000 reviews to train on, of which the validation part is drawn, and 25,000 to test on; one text file each.

    The files are in ``train/pos``, ``train/neg``, ``test/pos`` and ``test/neg``.

    Args:
        root: folder of these, or of the folder ``aclImdb`` with them.
        download: fetch the archive (84 MB) where they are missing.
        lowercase: capital and small letters are the same.
        val_fraction: share of the training reviews to validate on, equal in both classes; equal reviews stay together.
        split_seed: chooses them, whatever the run's seed.
        reading: see :class:`~cvkan.domains.text.base.Reading`.

    Raises:
        DataUnavailableError: the reviews are not there, or could not be fetched.
        UserError: a review is empty or not UTF-8, a folder is empty, or an option is out of range.

    Source: A. Maas et al., "Learning word vectors for sentiment analysis", 2011.
    """

    def __init__(
        self,
        *,
        root: str,
        download: bool,
        lowercase: bool,
        val_fraction: float,
        split_seed: int,
        **reading: Unpack[Reading],
    ) -> None:
        super().__init__(class_names=tuple(FOLDERS.values()), **reading)
        check_fraction("val_fraction", val_fraction)
        self.root, self.download = Path(root).expanduser(), download
        self.lowercase, self.val_fraction, self.split_seed = lowercase, val_fraction, split_seed

    def prepare_data(self) -> None:
        """Fetch the archive where no reviews are there and that is asked for."""
        if (self._folder() / "train").is_dir():
            return
        if not self.download:
            raise DataUnavailableError(
                "the IMDB reviews are not there",
                self.root,
                "Set data.root=DIR (it holds aclImdb), data.download=true to fetch 84 MB, or use data=grammar.",
            )
        ARCHIVE.fetch(self.root)

    def read_parts(self) -> dict[str, Part]:
        folder = self._folder()
        shares = {"train": 1 - self.val_fraction, "val": self.val_fraction}
        drawn = draw_parts(self._read(folder / "train"), shares, self.split_seed)
        return {**drawn, "test": self._read(folder / "test")}

    def _read(self, folder: Path) -> Part:
        sentences: list[list[str]] = []
        labels: list[int] = []
        for label, name in enumerate(FOLDERS):
            files = sorted((folder / name).glob("*.txt"))
            if not files:
                raise UserError("there are no reviews", folder / name, "Delete the folder and fetch the set again.")
            for path in files:
                words = split_words(read_utf8(path).replace(LINE_BREAK, " "), self.lowercase)
                if not words:
                    raise UserError("the review is empty", path, "Remove the file.")
                sentences.append(words)
            labels += [label] * len(files)
        return Part(sentences, labels)

    def _folder(self) -> Path:
        """Where the reviews are, or will be."""
        return self.root if (self.root / "train").is_dir() else self.root / ARCHIVE.folder
