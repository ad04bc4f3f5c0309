"""``data=text_csv``: the user's own sentences, a table with a column of texts and one of classes."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
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
FEW, FEW_SHARE = 5, 0.01  # rows of a class, and their share of all, below which it may be a misspelt label
NAMED = 20  # classes and rows of a message, at most

log = logging.getLogger(__name__)


class TextCSV(TextData):
    """Texts and classes of a CSV or tab-separated file, see :func:`~cvkan.domains.text.tables.read_table`.

    A part that the split column does not name is drawn from the rows of ``train``, all rows without such a column, at
    random and in equal shares of each class; texts of the same words are not divided among parts. A column that nobody
    asked to follow is not followed; if cells of it name the training part and another, a warning says so.
    Warnings also name labels that are equal but for spaces and capitals, and, unless ``classes`` is given, those of
    hardly any sentence.

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
        class_names = sort_labels(row.label for row in table.rows) if classes is None else tuple(map(str, classes))
        _check_labels(table.rows, class_names, file)
        super().__init__(class_names=class_names, **reading)
        self.path, self.table, self.lowercase = file, table.rows, lowercase
        self.split_column, self.classes_given = split_column, classes is not None
        self.part_columns = _part_columns(table.others) if split_column is None else {}
        self.shares, self.split_seed = {"val": val_fraction, "test": test_fraction}, split_seed

    def read_parts(self) -> dict[str, Part]:
        self._tell_classes()
        self._tell_columns()
        labels = number_labels((row.label for row in self.table), self.spec.class_names)
        whole = Part([split_words(row.text, self.lowercase) for row in self.table], labels)
        part_of = [_part_of(row) for row in self.table]
        given = {name: whole.rows(n for n, part in enumerate(part_of) if part == name) for name in set(part_of)}
        if "train" not in given:
            raise UserError("no row is of the training part", self.path, "Name train in the split column.")
        shares = {name: share for name, share in self.shares.items() if name not in given}
        drawn = draw_parts(given["train"], {"train": 1 - sum(shares.values()), **shares}, self.split_seed)
        for name, share in shares.items():
            if not drawn[name].labels:
                what = f"the {name} part is empty: a share of {share:g} of {len(given['train'].labels)} sentences"
                fix = f"Add some, {math.ceil(1 / share)} different ones of a class are enough, or set a larger share."
                raise UserError(what, f"data.{name}_fraction", fix)
        parts = given | drawn
        trained = {self.spec.class_names[number] for number in parts["train"].labels}
        for row in self.table:
            if row.label not in trained:
                fix = "Correct it, add training sentences of this class, or leave it out."
                raise UserError(f"no training sentence has the label {row.label!r}", row.where, fix)
        return parts

    def _tell_classes(self) -> None:
        """Say how many sentences each class has, and where labels stand that may be misspelt."""
        sizes = Counter(row.label for row in self.table)
        counts = [f"{name} {sizes[name]}" for name in self.spec.class_names]
        log.info("%d sentences of %d classes: %s", len(self.table), len(counts), _listed(counts))
        if self.classes_given:
            return
        first = {row.label: row for row in reversed(self.table)}
        spellings = Counter(map(_plain, first))
        alike = sorted((row for row in first.values() if spellings[_plain(row.label)] > 1), key=lambda row: row.line)
        if alike:
            log.warning(
                "%s: labels that differ in spaces or capitals only: %s; write them alike, or set data.classes=[...]",
                *(self.path, _lines(alike)),
            )
        few = [row for row in self.table if sizes[row.label] < min(FEW, FEW_SHARE * len(self.table))]
        if few:
            log.warning(
                "%s: classes of hardly any sentence: %s; correct misspelt labels, or set data.classes=[...]",
                *(self.path, _lines(few)),
            )

    def _tell_columns(self) -> None:
        """Say which columns name parts and are not followed."""
        for name, sizes in self.part_columns.items():
            known = {part: size for part, size in sizes.items() if part in PART_OF}
            others = {"other cells": sizes.total() - sum(known.values())}
            shown = ", ".join(f"{part} {size}" for part, size in {**known, **others}.items() if size)
            log.warning(
                "%s: column %r names parts (%s), but parts are drawn; set data.split_column=%s to follow it",
                *(self.path, name, shown, name),
            )


def _part_columns(columns: dict[str, list[str]]) -> dict[str, Counter[str]]:
    """Columns with cells that name the training part and another, whatever else they hold, and their cells' counts."""
    counts = {name: Counter(map(str.lower, cells)) for name, cells in columns.items()}
    named = {name: {PART_OF[cell] for cell in PART_OF.keys() & cells.keys()} for name, cells in counts.items()}
    return {name: counts[name] for name, parts in named.items() if "train" in parts and len(parts) > 1}


def _plain(label: str) -> str:
    """The label without what is easily misspelt: capitals and runs of spaces."""
    return " ".join(label.split()).casefold()


def _lines(rows: Sequence[Row]) -> str:
    return _listed(f"{row.label!r} in line {row.line}" for row in rows)


def _listed(items: Iterable[str]) -> str:
    """Items of a message, the first few."""
    rest = iter(items)
    return ", ".join([*islice(rest, NAMED), *["…" for _ in islice(rest, 1)]])


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
