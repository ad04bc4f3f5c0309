"""How several processes share out the batches of one training."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from cvkan.domains.loader import EpochSampler, ResumableLoader, Share

processes = st.integers(1, 5)


def loaders(n_samples: int, n_processes: int, batch_size: int) -> list[ResumableLoader]:
    data = TensorDataset(torch.arange(n_samples))
    shares = [Share(rank, n_processes, batch_size) for rank in range(n_processes)]
    samplers = [EpochSampler(n_samples, seed=1, share=share) for share in shares]
    return [ResumableLoader(data, batch_size=batch_size // n_processes, sampler=sampler) for sampler in samplers]


@given(processes, st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))
def test_parts_of_a_batch_are_the_batch_of_one_process(n: int, each: int, n_batches: int, extra: int) -> None:
    batch_size = n * each
    n_samples = batch_size * n_batches + min(extra, batch_size - 1)
    order = list(EpochSampler(n_samples, seed=1))
    shared = [[batch[0].tolist() for batch in loader] for loader in loaders(n_samples, n, batch_size)]
    joint = [[sample for part in parts for sample in part] for parts in zip(*shared, strict=True)]
    assert joint == [order[i * batch_size : (i + 1) * batch_size] for i in range(n_batches)]
    assert all(len(loader) == n_batches for loader in loaders(n_samples, n, batch_size))


def test_resumed_parts_go_on_with_the_same_batch() -> None:
    for loader, resumed in zip(loaders(50, 2, 8), loaders(50, 2, 8), strict=True):
        whole = [batch[0].tolist() for batch in loader]
        resumed.load_state_dict({"batches_seen": 4})
        assert [batch[0].tolist() for batch in resumed] == whole[4:] != []


@given(processes, st.integers(1, 4), st.integers(0, 60))
def test_evaluation_takes_each_sample_once_in_equally_many_batches(n: int, each: int, extra: int) -> None:
    n_samples = n + extra
    parts = [Share(rank, n, n * each).of_split(n_samples) for rank in range(n)]
    assert len({len(part) for part in parts}) == 1
    batches = [batch for part in parts for batch in part]
    assert sorted(sample for batch in batches for sample in batch) == list(range(n_samples))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1
    assert max(sizes) <= max(each, 2)
