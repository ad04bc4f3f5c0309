"""From short sequences under guidance to whole ones without: what the epochs of a run train on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Phase(NamedTuple):
    """A part of the run.

    Attributes:
        teacher_forcing: probability that a step of the decoder receives the true token before it, not its own.
        max_tokens: tokens of a sequence that are trained on, from its start; None = all.
    """

    teacher_forcing: float
    max_tokens: int | None


class Curriculum:
    """Phases of a run, laid down for one number of epochs and stretched to any other.

    An epoch belongs to the phase that its middle falls into: of E epochs, epoch e (from 0) lies at
    ``(e + 1/2) / E`` of the run, phase k ends at ``until[k] / until[-1]``. Without a state: a resumed run finds its
    phase by the epoch.

    Args:
        until: last epoch of every phase, counted from 1, rising; the last is the number of epochs they are meant for.
        teacher_forcing: of every phase, see :class:`Phase`; from 0 to 1.
        max_tokens: of every phase, see :class:`Phase`; 1 or more, or None.

    Raises:
        ValueError: the lists differ in length, or a value is out of range.
    """

    def __init__(
        self, until: Sequence[int], teacher_forcing: Sequence[float], max_tokens: Sequence[int | None]
    ) -> None:
        sizes = [len(until), len(teacher_forcing), len(max_tokens)]
        if len(set(sizes)) > 1 or not sizes[0]:
            raise ValueError(
                f"until, teacher_forcing and max_tokens must have one entry a phase, got {sizes}; give them equal "
                "lengths"
            )
        if any(later <= earlier for earlier, later in pairwise([0, *until])):
            raise ValueError(f"until must rise from at least 1, got {list(until)}; set until=[7,15,23,30], for example")
        if not all(0 <= ratio <= 1 for ratio in teacher_forcing):
            raise ValueError(f"teacher_forcing must lie between 0 and 1, got {list(teacher_forcing)}; set 0.5 or alike")
        if not all(limit is None or limit >= 1 for limit in max_tokens):
            raise ValueError(f"max_tokens must be at least 1, got {list(max_tokens)}; set null for whole sequences")
        self.until = list(until)
        self.phases = [Phase(*values) for values in zip(teacher_forcing, max_tokens, strict=True)]

    def phase(self, epoch: int, max_epochs: int) -> Phase:
        """The phase of an epoch, counted from 0, in a run of ``max_epochs``."""
        middle = (2 * epoch + 1) * self.until[-1]  # in units of 1 / (2 max_epochs) planned epochs: exact integers
        borders = [2 * max_epochs * end for end in self.until]
        return self.phases[sum(middle >= border for border in borders[:-1])]
