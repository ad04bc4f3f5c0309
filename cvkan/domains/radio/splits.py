"""Cutting frames into parts: by the ids of samples, in equal shares of every cell, whatever order they are listed in.

A cell is one pair of modulation and SNR. Frames that share an id belong to one realisation and stay together.

Legend: n samples, g realisations, K cells, P parts.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cvkan.atomic import atomic_file
from cvkan.errors import UserError
from cvkan.radio.random import FrameRandom

UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def split_fractions(val_fraction: float, test_fraction: float) -> dict[str, float]:
    """The shares of ``train``, ``val`` and ``test``.

    Raises:
        UserError: a share is not above 0, or nothing is left for training.
    """
    if min(val_fraction, test_fraction) <= 0 or val_fraction + test_fraction >= 1:
        raise UserError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction} do not leave three parts",
            "data.val_fraction, data.test_fraction",
            "Use shares above 0 with a sum below 1.",
        )
    return {"train": 1 - val_fraction - test_fraction, "val": val_fraction, "test": test_fraction}


def stratified_split(cell: Tensor, ids: Tensor, fractions: Mapping[str, float], seed: int) -> dict[str, Tensor]:
    """Cut samples into parts that each hold every cell in proportion.

    The realisations of a cell are ordered by a hash of (seed, id) and dealt out in that order, the numbers rounded by
    largest remainder. So the part of a sample depends on the seed and on the ids in its cell alone: neither the order
    of the listing nor the choice of the other cells moves it, and a network trained on some classes can be tested on
    more.

    Args:
        cell: (n,) int64, modulation * S + SNR. A realisation in several cells counts in the lowest.
        ids: (n,) int64, the realisation of each sample: its own id where samples are independent.
        fractions: share of each part; they add up to 1.
        seed: of the data, not of a run.

    Returns:
        Ascending positions (int64) of each part. A cell of at least P realisations has one in each.
    """
    realisation, of_sample = torch.unique(ids, return_inverse=True)  # (g,), (n,)
    home = cell.new_full(realisation.shape, int(cell.max()) if len(cell) else 0)
    home.scatter_reduce_(0, of_sample, cell, "amin")  # (g,)
    # Two stable sorts: by the hash, then by the cell. Equal hashes are left in the order of the ids.
    order = FrameRandom(seed, realisation).words("split").argsort(stable=True)
    order = order[home[order].argsort(stable=True)]
    counts = home.bincount()
    parts = _deal(counts, fractions)  # (g,), the part of each realisation in that order
    part = torch.empty_like(parts)
    part[order] = parts
    return _positions(part[of_sample], fractions)


def time_split(recording: Tensor, spans: Tensor, fractions: Mapping[str, float]) -> dict[str, Tensor]:
    """Cut every recording into one stretch a part: the first frames train, the last ones test.

    Frames of a later stretch that begin before the one in front of it ends are left out: no sample is in two parts.

    Args:
        recording: (n,) int64, the recording of each frame.
        spans: (n, 2) int64, the samples [begin, end) of its recording that each frame is; all of one length.
        fractions: share of each part, in order of time.

    Returns:
        Ascending positions (int64) of each part.
    """
    # Two stable sorts: by time, then by recording.
    order = spans[:, 0].argsort(stable=True)
    order = order[recording[order].argsort(stable=True)]
    begin, end = spans[order].unbind(1)  # (n,)
    counts = recording[order].unique_consecutive(return_counts=True)[1]
    dealt = _deal(counts, fractions)
    sizes = _part_sizes(counts, fractions)
    ahead = (sizes.cumsum(1) - sizes).repeat_interleave(counts, dim=0).gather(1, dealt[:, None])[:, 0]  # (n,)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)  # (n,)
    last_ahead = (first + ahead - 1).clamp_min(0)  # (n,) the last frame of the stretches in front
    dealt[(ahead > 0) & (begin < end[last_ahead])] = len(fractions)  # in no part
    part = torch.empty_like(dealt)
    part[order] = dealt
    return _positions(part, fractions)


def stored_split(
    path: Path, cell: Tensor, ids: Tensor, groups: Tensor, fractions: Mapping[str, float], seed: int
) -> dict[str, Tensor]:
    """:func:`stratified_split` by ``groups``, kept in a file: the sample ids of each part, and what it was made with.

    Args:
        path: npz file; written where it is not there, else the split that it holds is taken.
        cell: (n,) int64, modulation * S + SNR.
        ids: (n,) int64, unique ids of the samples.
        groups: (n,) int64, the realisation of each sample.
        fractions: share of each part.
        seed: of the data.

    Raises:
        UserError: the file cannot be read or written, was made with other fractions or another seed, or does not put
            every sample into one part.
    """
    asked = {"val_fraction": fractions["val"], "test_fraction": fractions["test"], "split_seed": seed}
    if not path.exists():
        parts = stratified_split(cell, groups, fractions, seed)
        arrays = {name: ids[rows].numpy() for name, rows in parts.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                np.savez(file, allow_pickle=False, **arrays, **{name: np.array(value) for name, value in asked.items()})
        except OSError as error:
            raise UserError(f"the split cannot be written: {error.strerror}", path, "Set data.split_file.") from error
        return parts
    try:
        with np.load(path, allow_pickle=False) as archive:
            # A file that somebody else made may say nothing of it.
            made = {name: archive[name].item() for name in asked if name in archive}
            held = torch.cat([torch.from_numpy(archive[name]) for name in fractions])
            part = torch.cat([torch.full((len(archive[name]),), k) for k, name in enumerate(fractions)])
    except UNREADABLE as error:
        raise UserError(
            f"not a stored split: {' '.join(str(error).split())}", path, "Delete the file, or set data.split_file."
        ) from error
    if changed := [name for name in made if made[name] != asked[name]]:
        found, wanted = (", ".join(f"{name}={values[name]}" for name in changed) for values in (made, asked))
        raise UserError(
            f"the split was made with {found}, not {wanted}",
            path,
            "Set what it was made with, or data.split_file to another file.",
        )
    order, of_sample = held.argsort(), ids.argsort()
    if not torch.equal(held[order], ids[of_sample]):
        known = int(torch.isin(ids, held).sum())
        raise UserError(
            f"the split lists {len(held)} samples, the data holds {len(ids)}, of which it lists {known}",
            path,
            "Delete the file, or set data.split_file to another one.",
        )
    part_of = torch.empty_like(part)
    part_of[of_sample] = part[order]
    return _positions(part_of, fractions)


def _part_sizes(counts: Tensor, fractions: Mapping[str, float]) -> Tensor:
    """Whole numbers (K, P) of each part in each cell of ``counts`` (K,): largest remainder, none empty if it can be."""
    shares = torch.tensor(list(fractions.values()), dtype=torch.float64)
    # 0.1 * 30 is a hair above 3: what a float adds to a whole number must not count as a remainder.
    exact = (counts[:, None] * shares / shares.sum()).round(decimals=9)  # (K, P)
    sizes = exact.floor().long()
    missing = counts - sizes.sum(1)  # (K,), below P
    rank = (sizes - exact).argsort(dim=1, stable=True).argsort(dim=1)  # 0 = the largest remainder
    sizes += rank < missing[:, None]
    for part in range(len(shares)):
        needy = (sizes[:, part] == 0) & (counts >= len(shares))
        sizes[needy, sizes[needy].argmax(1)] -= 1
        sizes[needy, part] += 1
    return sizes


def _deal(counts: Tensor, fractions: Mapping[str, float]) -> Tensor:
    """Part (n,) of each sample where the samples of a cell stand one after another."""
    sizes = _part_sizes(counts, fractions)
    return torch.arange(len(fractions)).repeat(len(counts)).repeat_interleave(sizes.flatten())


def _positions(part: Tensor, fractions: Mapping[str, float]) -> dict[str, Tensor]:
    return {name: (part == k).nonzero().flatten() for k, name in enumerate(fractions)}
