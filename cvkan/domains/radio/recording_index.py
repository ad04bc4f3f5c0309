"""Which labelled stretches of signal a folder of recordings holds: from SigMF, folder names or an index table."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cvkan.domains.radio.layout import class_name, parse_snr_folder
from cvkan.domains.radio.sigmf import Metadata, Stretch, read_metadata
from cvkan.domains.radio.signal_files import SUFFIXES, SignalFile, open_npy, open_raw
from cvkan.errors import UserError

META, DATA = ".sigmf-meta", ".sigmf-data"
LABEL_FIX = "Put it into MOD/SNR_s/, annotate it in SigMF, list it in data.index, or set data.assumed_snr_db."


@dataclass(frozen=True)
class Segment:
    """A stretch of a signal under one label.

    Attributes:
        signal: the file.
        name: of the file, relative to the root.
        modulation: name of the class.
        snr_db: level in dB.
        start: first sample.
        length: samples.
        sample_rate_hz: or None where nothing says it.
    """

    signal: SignalFile
    name: str
    modulation: str
    snr_db: float
    start: int
    length: int
    sample_rate_hz: float | None


def scan_recordings(root: Path, assumed_snr_db: float | None) -> list[Segment]:
    """All recordings below ``root`` (not hidden ones), sorted by name.

    Modulation and SNR are those of SigMF annotations, else of the folders ``MOD/SNR_s`` that a file is in.

    Args:
        root: the folder.
        assumed_snr_db: level of the recordings whose SNR nothing says; None refuses them.

    Raises:
        UserError: there is none, one has no label, or a file is not as described.
    """
    known = {".npy", DATA, *SUFFIXES}
    paths = sorted(p for p in root.rglob("*") if p.suffix in known and p.is_file() and not p.name.startswith("."))
    if not paths:
        raise UserError("no recordings in the folder", root, f"They are named {', '.join(sorted(known))}.")
    segments = []
    for path in paths:
        signal, metadata = _open(path)
        folders = path.relative_to(root).parts[:-1]
        modulation = folders[0] if folders else None
        levels = [level for folder in folders[1:] if (level := parse_snr_folder(folder)) is not None]
        snr_db = levels[0] if levels else assumed_snr_db
        for stretch in metadata.stretches:
            labelled = replace(
                stretch,
                modulation=modulation if stretch.modulation is None else stretch.modulation,
                snr_db=snr_db if stretch.snr_db is None else stretch.snr_db,
            )
            name = path.relative_to(root).as_posix()
            segments.append(_segment(name, signal, labelled, metadata.sample_rate_hz, path))
    return segments


def read_recordings(root: Path, table: str, assumed_snr_db: float | None) -> list[Segment]:
    """The recordings that a CSV table lists: columns ``file`` (relative to ``root``), ``modulation``, and optionally
    ``snr_db`` (any finite number), ``start`` and ``length`` in samples (whole numbers).

    Raises:
        UserError: the table cannot be read or lacks a column, or a row of it is wrong.
    """
    path = root / table
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the index cannot be read: {error}", path, "Set data.index to a CSV file in UTF-8.") from error
    missing = {"file", "modulation"} - set(reader.fieldnames or ())
    if missing or not rows:
        what = f"has no column {sorted(missing)[0]}" if missing else "has no rows"
        raise UserError(f"the index {what}", path, "Its columns are file,modulation[,snr_db,start,length].")
    segments = []
    opened: dict[Path, tuple[SignalFile, Metadata]] = {}
    for line, row in rows:
        where = f"{path}, line {line}"
        recording = root / row["file"]
        if not recording.is_file():
            raise UserError(f"there is no file {row['file']!r}", where, "Name it relative to data.root.")
        if recording not in opened:
            opened[recording] = _open(recording)
        signal, metadata = opened[recording]
        snr_db = _number(row, "snr_db", where)
        start, length = _whole(row, "start", where) or 0, _whole(row, "length", where)
        stretch = Stretch(start, length, row["modulation"], assumed_snr_db if snr_db is None else snr_db)
        segments.append(_segment(row["file"], signal, stretch, metadata.sample_rate_hz, where))
    return segments


def _open(path: Path) -> tuple[SignalFile, Metadata]:
    """A recording with its metadata, or those that its name implies."""
    whole = (Stretch(0, None, None, None),)
    if path.suffix == ".npy":
        return open_npy(path), Metadata("", None, whole)
    meta = path.with_suffix(META)
    if meta.is_file():
        metadata = read_metadata(meta)
    elif path.suffix in SUFFIXES:
        metadata = Metadata(SUFFIXES[path.suffix], None, whole)
    else:
        raise UserError(
            f"nothing says what the samples are; {meta.name} is missing", path, "Add it, or rename to .cf32."
        )
    return open_raw(path, metadata.datatype), metadata


def _segment(name: str, signal: SignalFile, stretch: Stretch, rate_hz: float | None, where: Path | str) -> Segment:
    if stretch.modulation and parse_snr_folder(stretch.modulation) is not None:
        raise UserError(
            f"{stretch.modulation!r} stands in the place of the modulation",
            where,
            "Order folders MOD/SNR_s, such as BPSK/SNR_0.",
        )
    if not stretch.modulation or stretch.snr_db is None or not math.isfinite(stretch.snr_db):
        unknown = "SNR" if stretch.modulation else "modulation"
        raise UserError(f"nothing says the {unknown} of the recording", where, LABEL_FIX)
    length = signal.n_samples - stretch.start if stretch.length is None else stretch.length
    if stretch.start < 0 or length < 1 or stretch.start + length > signal.n_samples:
        raise UserError(
            f"samples {stretch.start} to {stretch.start + length} are wanted, the recording has {signal.n_samples}",
            where,
            "Correct start and length.",
        )
    return Segment(signal, name, class_name(stretch.modulation), stretch.snr_db, stretch.start, length, rate_hz)


def _number(row: Mapping[str, str | None], name: str, where: str) -> float | None:
    text = row.get(name)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError as error:
        raise UserError(f"{name} {text!r} is no number", where, "Write a number.") from error
    if not math.isfinite(number):
        raise UserError(f"{name} {text!r} is no finite number", where, "Write a number.")
    return number


def _whole(row: Mapping[str, str | None], name: str, where: str) -> int | None:
    number = _number(row, name, where)
    if number is None:
        return None
    if not number.is_integer():
        raise UserError(f"{name} {row[name]!r} is no whole number", where, "Count it in samples.")
    return int(number)
