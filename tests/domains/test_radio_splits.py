"""Splits by sample ids: shares of every cell, independence of the listing, realisations and stretches kept together."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvkan.domains.radio.splits import split_fractions, stored_split, stratified_split, time_split
from cvkan.errors import UserError

SHARES = split_fractions(0.1, 0.1)


def sizes_by_cell(parts: dict[str, Tensor], cell: Tensor) -> Tensor:
    """(K, 3)"""
    n_cells = int(cell.max()) + 1
    return torch.stack([cell[rows].bincount(minlength=n_cells) for rows in parts.values()], dim=1)


def assert_partition(parts: dict[str, Tensor], n: int) -> None:
    assert torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(n))
    for rows in parts.values():
        assert torch.equal(rows, rows.sort().values)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_every_cell_is_cut_to_the_nearest_whole_numbers(counts: list[int], seed: int, random: Random) -> None:
    cell = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    order = torch.tensor(random.sample(range(len(cell)), len(cell)), dtype=torch.long)
    cell, ids = cell[order], order * 7 - 3
    parts = stratified_split(cell, ids, SHARES, seed)
    assert_partition(parts, len(cell))
    for name, rows in parts.items():
        for k, count in enumerate(counts):
            size = int((cell[rows] == k).sum())
            assert abs(size - SHARES[name] * count) < (1 if count >= 10 else 1.6)  # below ten, val or test borrow one
            assert size >= 1 or count < 3


def test_a_cell_of_ten_is_cut_eight_one_one_and_4096_by_largest_remainder() -> None:
    cell = torch.arange(2).repeat_interleave(torch.tensor([10, 4096]))
    parts = stratified_split(cell, torch.arange(len(cell)), SHARES, 42)
    assert sizes_by_cell(parts, cell).tolist() == [[8, 1, 1], [3277, 410, 409]]


def test_the_order_of_the_listing_does_not_matter() -> None:
    cell, ids = torch.arange(600) // 100, torch.arange(600) * 3
    shuffled = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    one, other = (stratified_split(cell[rows], ids[rows], SHARES, 42) for rows in (torch.arange(600), shuffled))
    for name in SHARES:
        assert torch.equal(ids[one[name]], ids[shuffled][other[name]].sort().values)


def test_leaving_cells_out_moves_no_sample_of_the_others() -> None:
    cell, ids = torch.arange(600) // 100, torch.arange(600)
    kept = (cell >= 2).nonzero().flatten()
    whole, subset = stratified_split(cell, ids, SHARES, 42), stratified_split(cell[kept] - 2, ids[kept], SHARES, 42)
    for name in SHARES:
        assert torch.equal(whole[name][whole[name] >= 200], kept[subset[name]])


def test_the_seed_draws_other_samples_and_no_pattern_of_ids() -> None:
    cell, ids = torch.zeros(4000, dtype=torch.long), torch.arange(4000)
    one, other = (stratified_split(cell, ids, SHARES, seed)["test"] for seed in (42, 43))
    shared = len(set(one.tolist()) & set(other.tolist()))
    assert 20 < shared < 60  # 40 expected of 400
    # Evenly spread over the ids: a Kolmogorov-Smirnov distance above 1.63 / sqrt(n) has a probability of 1 %.
    distance = (one / 4000 - (torch.arange(400) + 0.5) / 400).abs().max()
    assert distance < 1.63 / 20


def test_frames_of_one_realisation_stay_together() -> None:
    ids = torch.arange(90).repeat_interleave(5)
    cell = (torch.arange(450) % 5 == 4).long() + 2 * (ids // 45)  # a realisation spans two cells
    parts = stratified_split(cell, ids, SHARES, 0)
    assert_partition(parts, 450)
    owners = [set(ids[rows].tolist()) for rows in parts.values()]
    assert [len(owner) for owner in owners] == [72, 10, 8]  # 36, 5, 4 of each pair of cells
    assert not owners[0] & owners[1] | owners[0] & owners[2] | owners[1] & owners[2]


def frames_at(starts: Tensor, n_samples: int) -> Tensor:
    """(n, 2)"""
    return torch.stack([starts, starts + n_samples], dim=1)


def test_time_split_takes_beginning_middle_and_end_of_each_recording() -> None:
    recording = torch.tensor([5] * 10 + [2] * 20)
    spans = frames_at(torch.cat([torch.arange(10), torch.arange(20)]) * 4, 4)
    parts = time_split(recording, spans, SHARES)
    assert parts["train"].tolist() == [*range(8), *range(10, 26)]
    assert parts["val"].tolist() == [8, 26, 27]
    assert parts["test"].tolist() == [9, 28, 29]
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    for name, rows in time_split(recording[order], spans[order], SHARES).items():
        assert order[rows].sort().values.tolist() == parts[name].tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 200), st.integers(1, 64), st.integers(1, 64))
def test_time_split_shares_no_sample_between_parts(n: int, n_samples: int, hop: int) -> None:
    parts = time_split(torch.zeros(n, dtype=torch.long), frames_at(torch.arange(n) * hop, n_samples), SHARES)
    used = [{k for row in rows.tolist() for k in range(row * hop, row * hop + n_samples)} for rows in parts.values()]
    assert not used[0] & used[1] | used[0] & used[2] | used[1] & used[2]
    assert len(parts["train"]) == pytest.approx(0.8 * n, abs=2)


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.1, -0.1), (0.5, 0.5)])
def test_shares_that_leave_no_three_parts_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"do not leave three parts \(data\.val_fraction"):
        split_fractions(*shares)


def test_stored_split_is_taken_whatever_the_order(tmp_path: Path) -> None:
    cell, ids = torch.arange(60) // 20, torch.arange(60) + 100
    path = tmp_path / "sub" / "split.npz"
    made = stored_split(path, cell, ids, ids, SHARES, 42)
    with np.load(path) as file:
        assert sorted(file["test"].tolist()) == sorted(ids[made["test"]].tolist())
    shuffled = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    read = stored_split(path, cell[shuffled], ids[shuffled], ids[shuffled], SHARES, 42)
    for name in SHARES:
        assert torch.equal(ids[made[name]], ids[shuffled][read[name]].sort().values)


@pytest.mark.parametrize(
    ("shares", "seed", "said"),
    [
        ((0.1, 0.1), 7, "was made with split_seed=42, not split_seed=7"),
        ((0.2, 0.1), 42, "was made with val_fraction=0.1, not val_fraction=0.2"),
        ((0.1, 0.3), 7, "with test_fraction=0.1, split_seed=42, not test_fraction=0.3, split_seed=7"),
    ],
)
def test_stored_split_made_otherwise_is_refused(
    tmp_path: Path, shares: tuple[float, float], seed: int, said: str
) -> None:
    path, ids = tmp_path / "split.npz", torch.arange(60)
    stored_split(path, ids // 20, ids, ids, SHARES, 42)
    with pytest.raises(UserError, match=rf"{said} .*split\.npz.*Set what it was made with, or data\.split_file"):
        stored_split(path, ids // 20, ids, ids, split_fractions(*shares), seed)


def test_stored_split_of_others_is_taken_as_it_is(tmp_path: Path) -> None:
    path, ids = tmp_path / "split.npz", torch.arange(10)
    np.savez(path, train=np.arange(2, 10), val=np.array([1]), test=np.array([0]))
    parts = stored_split(path, ids * 0, ids, ids, SHARES, 5)
    assert [rows.tolist() for rows in parts.values()] == [[*range(2, 10)], [1], [0]]


def test_stored_split_of_other_samples_is_refused(tmp_path: Path) -> None:
    path, ids = tmp_path / "split.npz", torch.arange(30)
    stored_split(path, ids * 0, ids, ids, SHARES, 42)
    with pytest.raises(UserError, match=r"lists 30 samples, the data holds 31, of which it lists 30 .*split\.npz"):
        stored_split(path, torch.zeros(31, dtype=torch.long), torch.arange(31), torch.arange(31), SHARES, 42)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04"])
def test_damaged_split_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "split.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not a stored split: .*split\.npz") as caught:
        stored_split(path, torch.zeros(3), torch.arange(3), torch.arange(3), SHARES, 42)
    assert "\n" not in str(caught.value)
