from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from cvkan.domains.loader import EpochSampler, ResumableLoader, occurrence


def loader(**options) -> ResumableLoader:
    return ResumableLoader(TensorDataset(torch.arange(23)), batch_size=4, sampler=EpochSampler(23, seed=1), **options)


def test_order_is_a_permutation_fixed_by_seed_and_epoch() -> None:
    sampler = EpochSampler(23, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(23))
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(EpochSampler(23, seed=2)) != first


def test_loaded_state_skips_what_was_seen_in_one_pass_only() -> None:
    for workers in (0, 2):
        whole = [batch[0].tolist() for batch in loader()]
        resumed = loader(num_workers=workers)
        resumed.load_state_dict({"batches_seen": 2})
        assert [batch[0].tolist() for batch in resumed] == whole[2:]
        assert resumed.state_dict() == {"batches_seen": 6}
        assert [batch[0].tolist() for batch in resumed] == whole


def test_epoch_set_after_the_iterator_was_made_still_counts() -> None:
    for workers in (0, 2):
        early, late = loader(num_workers=workers), loader(num_workers=workers)
        early.sampler.set_epoch(5)
        batches = iter(late)
        late.sampler.set_epoch(5)
        assert [b[0].tolist() for b in batches] == [b[0].tolist() for b in early]


def test_state_counts_batches_handed_out_not_those_read_ahead() -> None:
    reading = loader(num_workers=2)
    batches = iter(reading)
    next(batches)
    next(batches)
    assert reading.state_dict() == {"batches_seen": 2}


def test_iterating_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    list(loader(generator=torch.Generator()))
    assert torch.equal(torch.rand(1), expected)


@given(st.lists(st.integers(0, 5), max_size=30))
def test_occurrence_counts_what_came_before(values: list[int]) -> None:
    expected = [values[:k].count(value) for k, value in enumerate(values)]
    assert occurrence(torch.tensor(values, dtype=torch.int64)).tolist() == expected


def test_stream_drawn_by_weights_has_no_sample_twice() -> None:
    n = 100
    weights = torch.cat([torch.ones(10), torch.full((n - 10,), 1e-3)])
    sampler = EpochSampler(n, seed=1, weights=lambda epoch: weights if epoch < 2 else None, endless=True)
    drawn = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        drawn.append(torch.tensor(list(sampler)))
    assert len(torch.cat(drawn).unique()) == 3 * n
    assert (drawn[0] % n < 10).float().mean() > 0.8  # the kinds are those that the weights favour
    assert drawn[2].sort().values.tolist() == list(range(2 * n, 3 * n))
