"""Which clips a folder of audio holds: from class subfolders, or from an index table."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from cvkan.domains.audio.files import SUFFIXES
from cvkan.domains.datamodule import SPLITS, refuse_split_names
from cvkan.errors import UserError


@dataclass(frozen=True)
class Clip:
    """One sample of a data set, or where to find it.

    Attributes:
        path: audio file.
        label: class name.
        split: ``train``, ``val``, ``test``, or empty where none is given.
        start: first sample of the clip in the file, at the file's rate.
        length: samples of the clip; None = to the end of the file.
        number: the clip is the number-th of equally long ones in the file (then start and length are unused).
        columns: all columns of its row in the index.
        line: line of the index, for messages.
    """

    path: Path
    label: str
    split: str = ""
    start: int = 0
    length: int | None = None
    number: int | None = None
    columns: dict[str, str] = field(default_factory=dict)
    line: int = 0


def scan_folder(root: Path) -> list[Clip]:
    """One class a subfolder of ``root`` (not hidden ones), its name the label; files at any depth in it.

    Raises:
        UserError: no subfolder, one without audio, or subfolders named like splits.
    """
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        found = "audio files but no class subfolders" if audio_files(root) else "no audio in the folder"
        raise UserError(found, root, "Put wav or flac files in one subfolder a class, or set data.index=FILE.csv.")
    refuse_split_names(root, folders, "List the files in an index CSV with a split column.")
    clips = []
    for folder in folders:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise UserError(
                f"class {folder.name!r} has no wav or flac files", folder, "Add files or remove the folder."
            )
        clips += [Clip(path, folder.name) for path in files]
    return clips


def read_index(root: Path, name: str) -> list[Clip]:
    """The clips that a CSV table lists.

    Columns: the audio file, relative to ``root``, in ``flac`` or, without such a column, in ``file``;
    ``label``; optional ``split`` (train, val, test); optional ``start`` and ``length`` in samples of the
    file, or ``clip``, the number of the clip in a file of equally long ones; others serve ``holdout``.
    Where ``start`` is given, the named file is not there and ``root`` holds exactly one audio file, that one
    holds all clips and the name is only the clip's own. Words are taken as they stand ("NA" is a label).

    Raises:
        UserError: the table is missing, has no rows, lacks a column, or a row of it is wrong.
    """
    path = root / name
    if not path.is_file():
        tables = ", ".join(sorted(p.name for p in root.glob("*.csv"))) or "none"
        raise UserError(
            f"index file not found; CSV files there: {tables}",
            path,
            "Set data.index to a CSV file in data.root.",
        )
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the index is not a CSV text: {error}", path, "Save it as CSV in UTF-8.") from error
    columns = list(reader.fieldnames or ())
    audio_column = "flac" if "flac" in columns else "file"
    missing = [c for c in (audio_column, "label") if c not in columns]
    if missing:
        raise UserError(
            f"the index has no column {' or '.join(missing)}; it has {', '.join(columns) or 'none'}",
            path,
            "Name the columns file,label[,split,start,length].",
        )
    if not rows:
        raise UserError("the index has no rows", path, "Add one row a clip.")
    container = _container(root) if "start" in columns else None
    return [_clip(root, path, line, row, audio_column, container) for line, row in rows]


def audio_files(folder: Path) -> list[Path]:
    """The audio files directly in a folder."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def hold_out(clips: list[Clip], rule: str) -> list[Clip]:
    """Make the clips whose index column has a value the test part; other test clips join the training part.

    Args:
        clips: clips with their index columns.
        rule: ``COLUMN:VALUE`` or ``COLUMN=VALUE``, such as ``speaker:theo``.

    Raises:
        UserError: the rule cannot be read, or no or every clip has that value.
    """
    separator = min((s for s in ":=" if s in rule), key=rule.index, default=None)
    if separator is None:
        raise UserError(f"cannot read holdout {rule!r}", "data.holdout", "Write COLUMN:VALUE, such as speaker:theo.")
    column, value = (part.strip() for part in rule.split(separator, 1))
    if column not in clips[0].columns:
        names = ", ".join(clips[0].columns) or "none (data.index is not set)"
        raise UserError(f"the index has no column {column!r}", "data.holdout", f"Columns: {names}.")
    values = {clip.columns[column] for clip in clips}
    if value not in values or len(values) == 1:
        shown = ", ".join(sorted(values)[:12])
        raise UserError(
            f"{'no' if value not in values else 'every'} clip has {column} = {value!r}",
            "data.holdout",
            f"Values: {shown}.",
        )
    moved = {"test": "train"}
    return [
        replace(clip, split="test" if clip.columns[column] == value else moved.get(clip.split, clip.split))
        for clip in clips
    ]


def draw_splits(clips: list[Clip], fractions: dict[str, float], seed: int) -> list[Clip]:
    """Draw the parts that no clip is in yet, at random and in equal shares of each class.

    Args:
        clips: all clips; ``val`` and ``test`` stay as they are given. A part that is not given is drawn from the
            others: from clips without a split or of ``train``.
        fractions: share of ``val`` and ``test``; the rest is ``train``.
        seed: of the drawing.
    """
    given = {clip.split for clip in clips}
    fractions = {name: 0.0 if name in given else share for name, share in fractions.items()}
    generator = torch.Generator().manual_seed(seed)
    by_class = defaultdict(list)
    for position, clip in enumerate(clips):
        if clip.split in ("", "train"):
            by_class[clip.label].append(position)
    result = list(clips)
    for label in sorted(by_class):
        order = [by_class[label][k] for k in torch.randperm(len(by_class[label]), generator=generator).tolist()]
        n_val, n_test = (round(fractions[name] * len(order)) for name in ("val", "test"))
        for place, position in enumerate(order):
            split = "val" if place < n_val else "test" if place < n_val + n_test else "train"
            result[position] = replace(clips[position], split=split)
    return result


def _container(root: Path) -> Path | None:
    files = audio_files(root)
    return files[0] if len(files) == 1 else None


def _clip(root: Path, index: Path, line: int, row: dict[str, str], audio_column: str, container: Path | None) -> Clip:
    where = f"{index}, line {line}"
    if None in row or None in row.values():
        raise UserError("the row has not as many fields as the header", where, "Quote fields that hold a comma.")
    if not row["label"]:
        raise UserError("the label is empty", where, "Name the class of each clip.")
    split = row.get("split", "")
    if "split" in row and split not in SPLITS:
        raise UserError(f"unknown split {split!r}", where, f"Use {', '.join(SPLITS)}.")
    path = root / row[audio_column]
    if not path.is_file() and container is not None:
        path = container
    start, length, number = (_whole_number(row.get(name, ""), name, where) for name in ("start", "length", "clip"))
    if "start" in row:
        number = None
    return Clip(path, row["label"], split, start or 0, length, number, row, line)


def _whole_number(text: str, name: str, where: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or (name == "length" and int(text) == 0):
        raise UserError(
            f"{name} {text!r} is not a number of samples or clips", where, "Write a whole number, 0 or more."
        )
    return int(text)
