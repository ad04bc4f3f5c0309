"""Timing that means something on a shared machine: one thread, process CPU time, repetitions in turns.

Wall clock on a machine with other work is noise, and two blocks of repetitions one after the other see two
different machines. So the candidates take turns, and only ratios of neighbours are compared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interleaved(
    candidates: Mapping[str, Callable[[], object]], repetitions: int, min_seconds: float
) -> dict[str, list[float]]:
    """Measure candidates in turns.

    Args:
        candidates: functions by name; each is called twice beforehand, to warm up and to learn how long it takes.
        repetitions: rounds; each candidate is measured once a round.
        min_seconds: a measurement repeats a short candidate until it should last about this long.

    Returns:
        For each candidate, process CPU seconds of one call in each round.
    """
    calls = {}
    for name, candidate in candidates.items():
        candidate()
        calls[name] = max(1, math.ceil(min_seconds / max(cpu_seconds(candidate, 1), 1e-9)))
    order = list(candidates)
    seconds: dict[str, list[float]] = {name: [] for name in order}
    for _ in range(repetitions):
        for name in order:
            seconds[name].append(cpu_seconds(candidates[name], calls[name]))
        order.reverse()  # no candidate always runs in the warm caches of the same other
    return seconds


def cpu_seconds(function: Callable[[], object], calls: int) -> float:
    """Process CPU seconds of one call, as the mean of several."""
    start = time.process_time()
    for _ in range(calls):
        function()
    return (time.process_time() - start) / calls
