"""``data=sst2``: sentences of film reviews, praise or blame (Stanford Sentiment Treebank)."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from cvkan.domains.text.archive import Archive
from cvkan.domains.text.base import Reading, TextData
from cvkan.domains.text.parts import Part, number_labels
from cvkan.domains.text.phrases import hold_out
from cvkan.domains.text.tables import Row, columns_of, read_table
from cvkan.errors import DataUnavailableError, UserError

CLASS_NAMES = ("negative", "positive")
LABELS = ("0", "1")  # of the classes, in the tables
GLUE = Archive(
    "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip",
    "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
    "SST-2",
)
TABLES = {"train": "train.tsv", "val": "dev.tsv", "test": "test.tsv"}


class SST2(TextData):
    """Film reviews of one sentence. The texts are tokenised already: words are what stands between spaces.

    The folder holds tab-separated tables with the columns ``sentence`` and ``label``, 0 or 1, in one of two layouts.

    - Sentences: ``train.tsv``, ``dev.tsv`` and ``test.tsv``, the three parts.
    - GLUE: the sentences of ``train.tsv`` and phrases of them, all with labels, and ``dev.tsv``, which is tested on.
      Its ``test.tsv`` has no labels. Validation sentences are held out of the training table, together with all of
      their phrases.

    Args:
        root: folder of the tables, or of the folder ``SST-2`` with them.
        download: fetch GLUE's archive where there are none.
        n_val: sentences held out of GLUE's training table; None holds out as many as are tested on.
        split_seed: chooses them, whatever the run's seed.
        reading: see :class:`~cvkan.domains.text.base.Reading`.

    Raises:
        DataUnavailableError: the tables are not there, or could not be fetched.
        UserError: a table is damaged, or an option does not fit the layout.

    Source: R. Socher et al., "Recursive deep models for semantic compositionality over a sentiment treebank", 2013;
    A. Wang et al., "GLUE", arXiv:1804.07461.
    """

    def __init__(
        self, *, root: str, download: bool, n_val: int | None, split_seed: int, **reading: Unpack[Reading]
    ) -> None:
        super().__init__(class_names=CLASS_NAMES, **reading)
        self.root, self.download = Path(root).expanduser(), download
        self.n_val, self.split_seed = n_val, split_seed

    def prepare_data(self) -> None:
        """Fetch GLUE's archive where no table is there and that is asked for."""
        if (self._folder() / TABLES["train"]).is_file():
            return
        if not self.download:
            raise DataUnavailableError(
                "SST-2 is not there",
                self.root,
                "Set data.root=DIR (it holds train.tsv), data.download=true to fetch 7 MB, or use data=grammar.",
            )
        GLUE.fetch(self.root)

    def read_parts(self) -> dict[str, Part]:
        folder = self._folder()
        test = folder / TABLES["test"]
        if not test.is_file() or "label" not in columns_of(test):
            return self._from_phrases(_read(folder / TABLES["train"]), _read(folder / TABLES["val"]))
        if self.n_val is not None:
            raise UserError("these tables have a validation part", "data.n_val", "Set data.n_val=null.")
        return {name: _part(_read(folder / table)) for name, table in TABLES.items()}

    def _from_phrases(self, phrases: list[Row], test: list[Row]) -> dict[str, Part]:
        n_val = len(test) if self.n_val is None else self.n_val
        try:
            train, val = hold_out([row.text.split() for row in phrases], n_val, self.split_seed)
        except ValueError as error:
            raise UserError(str(error), "data.n_val", "Set a number above 0 and below that.") from None
        whole = _part(phrases)
        return {"train": whole.rows(train), "val": whole.rows(val), "test": _part(test)}

    def _folder(self) -> Path:
        """Where the tables are, or will be."""
        return self.root if (self.root / TABLES["train"]).is_file() else self.root / GLUE.folder


def _read(path: Path) -> list[Row]:
    rows = read_table(path, "sentence", "label", None).rows
    for row in rows:
        if row.label not in LABELS:
            raise UserError(f"label {row.label!r} is not one of {', '.join(LABELS)}", row.where, "Correct the table.")
    return rows


def _part(rows: list[Row]) -> Part:
    return Part([row.text.split() for row in rows], number_labels((row.label for row in rows), LABELS))
