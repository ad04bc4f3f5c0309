"""A training loader whose batches depend on the seed and the epoch alone, and that can start half-way."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

EPOCHS = 2**20  # of a stream at most: what an epoch needs beyond its own samples is taken from behind them


class Share(NamedTuple):
    """What one of several processes that train together takes of every batch.

    Args:
        rank: number of the process.
        processes: how many they are.
        batch_size: samples that they take together; a multiple of ``processes``.
    """

    rank: int
    processes: int
    batch_size: int

    def of_epoch(self, order: Tensor) -> Tensor:
        """The part of an epoch's samples (n,): of each whole batch a piece, so that the batches stay what they are."""
        n_batches = len(order) // self.batch_size
        batches = order[: n_batches * self.batch_size].view(n_batches, self.processes, -1)
        return batches[:, self.rank].flatten()

    def of_split(self, n_samples: int) -> list[list[int]]:
        """Batches of a split that is evaluated: each sample once, as many batches for every process.

        Networks such as a wrapped one wait for each other at every batch, so none may have one more; and a sample
        that was counted twice to even them out would spoil a metric.
        """
        n_batches = max(1, min(-(-n_samples // self.batch_size), n_samples // self.processes))
        pieces = torch.arange(n_samples).tensor_split(n_batches * self.processes)
        return [piece.tolist() for piece in pieces[self.rank :: self.processes]]


def occurrence(values: Tensor) -> Tensor:
    """How often each of the numbers (n,) has come before: 0 the first time."""
    by_size, place = values.sort(stable=True)
    earlier = torch.empty_like(place)
    earlier[place] = torch.arange(len(values)) - torch.searchsorted(by_size, by_size)
    return earlier


class EpochSampler(Sampler[int]):
    """Sample order as a pure function of (seed, epoch), so that a resumed run sees the very same batches.

    Args:
        n_samples: samples of an epoch.
        seed: the run's seed.
        weights: from the epoch to the weights (n_samples,) that samples are drawn by, with replacement; where they are
            None, and by default, each comes once.
        endless: the split is a stream that goes on for ever, in which the samples k, k + n, k + 2n, ... are alike:
            epoch e has the samples e n to (e + 1) n - 1. One that is drawn again by its weight is replaced by one like
            it that no other epoch has.
        share: the part of each batch that this process takes; None takes all.
    """

    def __init__(
        self,
        n_samples: int,
        seed: int,
        weights: Callable[[int], Tensor | None] = lambda _: None,
        endless: bool = False,
        share: Share | None = None,
    ) -> None:
        self.n_samples, self.seed, self.weights, self.endless = n_samples, seed, weights, endless
        self.share = share
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.share is None:
            return self.n_samples
        return self.n_samples // self.share.batch_size * self.share.batch_size // self.share.processes

    def __iter__(self) -> Iterator[int]:
        digest = hashlib.sha256(f"{self.seed}/{self.epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
        weights = self.weights(self.epoch)
        if weights is None:
            order = torch.randperm(self.n_samples, generator=generator)
        else:
            order = torch.multinomial(weights, self.n_samples, replacement=True, generator=generator)
        if self.endless:
            order += (self.epoch + EPOCHS * occurrence(order)) * self.n_samples
        if self.share is not None:
            order = self.share.of_epoch(order)
        yield from order.tolist()[self.start :]


class ResumableLoader(DataLoader[Any]):
    """A :class:`DataLoader` over an :class:`EpochSampler` that can continue a half-trained epoch.

    Its state is the number of batches handed out. Samples must not draw random numbers of their own: loader
    processes read ahead, so nobody could say how much they had drawn when a checkpoint was written.
    """

    sampler: EpochSampler
    batch_size: int
    _seen = 0
    _resume_at = 0

    def state_dict(self) -> dict[str, int]:
        """Called by Lightning for each checkpoint."""
        return {"batches_seen": self._seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass leave out the batches that the checkpoint's epoch has seen."""
        self._resume_at = state["batches_seen"]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator does nothing before its first batch is asked for. That matters: Lightning makes the
        # iterator of a run's first epoch before it sets the epoch, and loader processes fetch at once.
        self._seen, self._resume_at = self._resume_at, 0
        self.sampler.start = self._seen * self.batch_size
        for batch in super().__iter__():
            self._seen += 1
            yield batch


def leave_interrupts_to_parent(worker_id: int) -> None:
    """``worker_init_fn``: a Ctrl-C reaches loader processes too, which must live until the step is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
