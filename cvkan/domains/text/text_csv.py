"""``data=text_csv``: the user's own sentences, a table with a column of texts and one of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from cvkan.domains.labels import check_fraction, sort_labels
from cvkan.domains.text.base import Reading, TextData
from cvkan.domains.text.parts import Part, draw_parts, number_labels
from cvkan.domains.text.tables import Row, read_table
from cvkan.domains.text.words import split_words
from cvkan.errors import UserError

# Names of the parts in the split column, upper and lower case alike.
PART_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class TextCSV(TextData):
    """Texts and classes of a CSV or tab-separated file, see :func:`~cvkan.domains.text.tables.read_table`.

    A part that the split column does not name is drawn from the rows of ``train``, all rows without such a column, at
    random and in equal shares of each class; texts of the same words are not divided among parts.

    Args:
        path: the file.
        text_column: name of the column of texts.
        label_column: name of the column of classes.
        split_column: name of the column that says train, val or test; None if there is none.
        classes: the labels that may occur, in the order of their numbers; None takes those that do, in order.
        lowercase: capital and small letters are the same.
        val_fraction, test_fraction: shares of the parts that are drawn.
        split_seed: of the drawing, independent of the run's seed.
        reading: see :class:`~cvkan.domains.text.base.Reading`.

    Raises:
        DataUnavailableError: there is no such file.
        UserError: the table, a row of it or an option is wrong; the line is named.
    """

    def __init__(
        self,
        *,
        path: str,
        text_column: str,
        label_column: str,
        split_column: str | None,
        classes: list[str] | None,
        lowercase: bool,
        val_fraction: float,
        test_fraction: float,
        split_seed: int,
        **reading: Unpack[Reading],
    ) -> None:
        check_fraction("val_fraction", val_fraction)
        check_fraction("test_fraction", test_fraction)
        check_fraction("val_fraction + test_fraction", val_fraction + test_fraction)
        file = Path(path).expanduser()
        table = read_table(file, text_column, label_column, split_column)
        class_names = sort_labels(row.label for row in table) if classes is None else tuple(map(str, classes))
        _check_labels(table, class_names, file)
        super().__init__(class_names=class_names, **reading)
        self.path, self.table, self.lowercase = file, table, lowercase
        self.shares, self.split_seed = {"val": val_fraction, "test": test_fraction}, split_seed

    def read_parts(self) -> dict[str, Part]:
        labels = number_labels((row.label for row in self.table), self.spec.class_names)
        whole = Part([split_words(row.text, self.lowercase) for row in self.table], labels)
        part_of = [_part_of(row) for row in self.table]
        given = {name: whole.rows(n for n, part in enumerate(part_of) if part == name) for name in set(part_of)}
        if "train" not in given:
            raise UserError("no row is of the training part", self.path, "Name train in the split column.")
        shares = {name: share for name, share in self.shares.items() if name not in given}
        drawn = draw_parts(given["train"], {"train": 1 - sum(shares.values()), **shares}, self.split_seed)
        parts = given | drawn
        untrained = set(labels) - set(parts["train"].labels)
        if untrained:
            names = ", ".join(self.spec.class_names[number] for number in sorted(untrained))
            raise UserError(f"no training sentences of class {names}", self.path, "Add some, or leave the class out.")
        return parts


def _check_labels(rows: list[Row], class_names: tuple[str, ...], path: Path) -> None:
    if len(set(class_names)) < max(2, len(class_names)):
        names = ", ".join(class_names)
        raise UserError(f"a choice between classes needs different ones, got {names}", path, "Give at least two.")
    for row in rows:
        if row.label not in class_names:
            known = ", ".join(class_names)
            raise UserError(f"label {row.label!r} is not one of {known}", row.where, "Correct it, or data.classes.")


def _part_of(row: Row) -> str:
    """Part that a row names; without a split column all are of the training part."""
    if row.part and row.part.lower() not in PART_OF:
        raise UserError(f"unknown part {row.part!r}", row.where, "Use train, val or test.")
    return PART_OF[row.part.lower()] if row.part else "train"
