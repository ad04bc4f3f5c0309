"""Word vectors out of a file: text as GloVe has it, or npz; of a large file only the words that are needed.

Legend: n words of the file, D numbers a vector.
"""

from __future__ import annotations

import logging
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Set
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from cvkan.errors import DataUnavailableError, UserError
from cvkan.poetry.vectors import WordVectors

log = logging.getLogger(__name__)

N_INSPECTED = 100  # lines of a text that say how many numbers a vector has
N_SAMPLED = 4000  # lines of a text that its median norm and mean vector are taken from
BOM = b"\xef\xbb\xbf"
ZIP = b"PK\x03\x04"
TEXT_LAYOUT = "Give lines WORD NUMBER ... NUMBER with spaces between, as GloVe has them."
NPZ_LAYOUT = "Save words, text of shape (n,), and vectors, floats of shape (n, D)."
UNREADABLE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


def read_vectors(path: Path, dimension: int, needed: Set[str]) -> WordVectors:
    """The vectors of some words.

    Args:
        path: an npz file with ``words`` and ``vectors``, or text with a word and its numbers a line; which of them,
            its content says.
        dimension: numbers D a vector.
        needed: words to look for.

    Returns:
        The words that the file has, in its order; of a word that comes twice the first.

    Raises:
        DataUnavailableError: there is no such file.
        UserError: it is neither, has another dimension, or a vector is not finite.
    """
    vectors = _read_npz(path, dimension, needed) if _is_npz(path) else _read_text(path, dimension, needed)
    if not vectors.median_norm > 0:
        raise UserError("every vector is zero", path, "Replace the file.")
    if vectors.n_malformed:
        log.warning("%s: %d lines are malformed and left out", path.name, vectors.n_malformed)
    return vectors


def read_dimension(path: Path) -> int:
    """How many numbers a vector of a file has; ``path`` and what is raised as for :func:`read_vectors`."""
    if _is_npz(path):
        return math.prod(_read_arrays(path)[1].shape[1:])
    with path.open("rb") as file:
        return _n_usual_numbers(list(islice(file, N_INSPECTED)), path)


def read_first(path: Path, dimension: int, n: int) -> Tensor:
    """The vectors (n or fewer, D) that a file begins with: of frequent words, as such files are sorted by frequency.

    Args:
        path: see :func:`read_vectors`, as for what is raised.
        dimension: see there.
        n: how many.
    """
    if _is_npz(path):
        return _read_table(path, dimension)[1][:n]
    with path.open("rb") as file:
        lines = [line.rstrip() for line in islice(file, n)]
    words = {line.rsplit(b" ", dimension)[0] for line in lines}
    return _scan(iter(lines), dimension, {word: repr(word) for word in words}, 1, path).matrix


def _is_npz(path: Path) -> bool:
    check_exists(path)
    with path.open("rb") as file:
        return file.read(len(ZIP)) == ZIP


def check_exists(path: Path) -> None:
    """Raise DataUnavailableError if there is no such file."""
    if not path.is_file():
        raise DataUnavailableError(
            "there is no such file of word vectors",
            path,
            "Set data.vectors=FILE, or data.embeddings=embedded for vectors made from the poems.",
        )


def _read_npz(path: Path, dimension: int, needed: Set[str]) -> WordVectors:
    words, matrix = _read_table(path, dimension)
    rows: dict[str, int] = {}
    for row, word in enumerate(words):
        if word in needed:
            rows.setdefault(word, row)
    return WordVectors(tuple(rows), matrix[list(rows.values())], _median_norm(matrix), matrix.mean(dim=0))


def _read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All words (n,) of an npz file and their vectors (n, D), as they stand there."""
    try:
        with np.load(path, allow_pickle=False) as file:
            words, vectors = file["words"], file["vectors"]
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"not a readable npz file of word vectors: {reason}", path, NPZ_LAYOUT) from error
    if words.dtype.kind != "U" or words.ndim != 1 or vectors.dtype.kind != "f" or vectors.shape[:1] != words.shape:
        found = f"words {words.dtype} {words.shape}, vectors {vectors.dtype} {vectors.shape}"
        raise UserError(f"not a table of word vectors: {found}", path, NPZ_LAYOUT)
    if not len(words):
        raise UserError("the file holds no vectors", path, NPZ_LAYOUT)
    return words, vectors


def _read_table(path: Path, dimension: int) -> tuple[list[str], Tensor]:
    """All words of an npz file and their vectors (n, D), D being what was asked for."""
    words, vectors = _read_arrays(path)
    if vectors.shape[1:] != (dimension,):
        raise _other_dimension(str(vectors.shape[1:]).strip("(),"), dimension, path)
    with np.errstate(over="ignore"):  # a float64 out of range becomes infinite
        vectors = vectors.astype(np.float32, copy=False)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        row = int(finite.argmin())
        raise UserError(f"the vector of {str(words[row])!r} is not finite", f"{path}, row {row}", "Replace the file.")
    return words.tolist(), torch.from_numpy(vectors)


def _read_text(path: Path, dimension: int, needed: Set[str]) -> WordVectors:
    size = path.stat().st_size
    with path.open("rb") as file:
        n_lines = _inspect(list(islice(file, N_INSPECTED)), size, dimension, path)
        file.seek(0)
        lines = _with_progress(file, size, path.name)
        return _scan(lines, dimension, {word.encode(): word for word in needed}, max(1, n_lines // N_SAMPLED), path)


def _inspect(lines: list[bytes], size: int, dimension: int, path: Path) -> int:
    """About how many lines a text of ``size`` bytes has, if most of its first ``lines`` have D numbers."""
    found = _n_usual_numbers(lines, path)
    if found != dimension:
        raise _other_dimension(str(found), dimension, path)
    return size * len(lines) // max(1, sum(map(len, lines)))


def _n_usual_numbers(lines: list[bytes], path: Path) -> int:
    """How many numbers most lines of a text have."""
    counts = Counter(_n_numbers(line) for line in lines)
    counts.pop(0, None)  # no word, or no number behind it
    if not counts:
        raise UserError("the file holds no word vectors", path, TEXT_LAYOUT)
    return max(counts, key=lambda n: (counts[n], n))  # a cut off line and a header have fewer


def _n_numbers(line: bytes) -> int:
    """How many numbers stand at the end of a line, behind at least one word."""
    fields = line.split()[1:]
    return next((n for n, field in enumerate(reversed(fields)) if not _is_number(field)), len(fields))


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _scan(lines: Iterator[bytes], dimension: int, needed: dict[bytes, str], stride: int, path: Path) -> WordVectors:
    """One pass over a text; numbers are read of needed words and of every ``stride``-th line alone."""
    found: dict[str, list[float]] = {}
    sample: list[list[float]] = []
    n_malformed = 0
    for number, line in enumerate(lines):
        line = line.removeprefix(BOM).rstrip() if number == 0 else line.rstrip()
        n_spaces = line.count(b" ")
        if n_spaces < dimension:
            # The first line of word2vec's text format has the two sizes; the last one of any text may be empty.
            n_malformed += bool(line) and not (number == 0 and n_spaces == 1)
            continue
        # A word may hold spaces itself: the last D fields are the numbers.
        word = needed.get(line[: line.index(b" ")] if n_spaces == dimension else line.rsplit(b" ", dimension)[0])
        wanted = word is not None and word not in found
        if not wanted and number % stride:
            continue
        try:
            vector = [float(field) for field in line.rsplit(b" ", dimension)[1:]]
        except ValueError:
            n_malformed += 1
            continue
        if not (np.abs(vector) <= np.finfo(np.float32).max).all():
            raise UserError("a vector is not finite", f"{path}, line {number + 1}", "Replace the file.")
        if wanted:
            assert word is not None
            found[word] = vector
        if number % stride == 0:
            sample.append(vector)
    matrix = torch.tensor(list(found.values()), dtype=torch.float32).view(len(found), dimension)
    sampled = torch.tensor(sample, dtype=torch.float32).view(len(sample), dimension)
    if not len(sampled):
        raise UserError("no line of the file can be read", path, TEXT_LAYOUT)
    return WordVectors(tuple(found), matrix, _median_norm(sampled), sampled.mean(dim=0), n_malformed)


def _with_progress(file: BinaryIO, size: int, name: str) -> Iterator[bytes]:
    """The lines of a file, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(f"reading {name}", total=size)
        for number, line in enumerate(file):
            if number % 4096 == 0:
                progress.update(task, completed=file.tell())
            yield line


def _median_norm(matrix: Tensor) -> float:
    """Median length of the vectors (n, D) that are not zero; 0 where all are."""
    norms = matrix.norm(dim=1)
    return float(norms[norms > 0].median()) if norms.any() else 0.0


def _other_dimension(found: str, dimension: int, path: Path) -> UserError:
    return UserError(
        f"the vectors have {found} numbers, data.dimension is {dimension}",
        path,
        "Choose a file of that dimension, or set data.dimension.",
    )
