"""Parts of a network that start from the training data, or from a file, in the place of random numbers.

A task lets them start before the first step of a fresh run. A checkpoint holds what became of it, so a trained network
needs neither the data nor the file.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn

from cvkan.spec import Batch


@runtime_checkable
class StartsFromTraining(Protocol):
    """A module with a start of its own."""

    def start_from(self, train: Batch) -> None:
        """Set the parameters; ``train`` is the whole training part as one batch, as the network sees it."""
        ...


def start(model: nn.Module, train: Batch) -> None:
    """Let every part of a network that can start from the training part do so."""
    for module in model.modules():
        if isinstance(module, StartsFromTraining):
            module.start_from(train)
