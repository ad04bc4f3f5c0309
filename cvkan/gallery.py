"""What a run shows beside its curves, and the names under which every dashboard finds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOUNDS = "tables/sounds"  # test samples to listen to
Rows = list[dict[str, Any]]  # one dict a row, all with the same keys


def figure_name(name: str) -> str:
    """Where a picture of ``task.figures()`` is shown: ``plots/confusion_matrix``."""
    return f"plots/{name}"


def table_name(name: str) -> str:
    """Where a table of ``metrics.json`` is shown: ``tables/per_snr``."""
    return f"tables/{name}"


def best_name(monitor: str) -> str:
    """Under which name the best value of the monitored metric is logged, as in ``metrics.json``."""
    return f"best/{monitor}"


@dataclass(frozen=True)
class Clip:
    """A sound, as a cell of a table.

    Attributes:
        samples: (T,) float32 between -1 and 1.
        rate_hz: samples a second.
    """

    samples: np.ndarray
    rate_hz: int


@runtime_checkable
class Gallery(Protocol):
    """A logger that shows more than curves."""

    def show_config(self, config: Mapping[str, Any]) -> None:
        """Keep the config of the run; plain containers."""
        ...

    def show_figures(self, figures: Mapping[str, Figure], step: int) -> None:
        """Show pictures by their full names."""
        ...

    def show_table(self, name: str, rows: Rows, step: int) -> None:
        """Show a table; cells are text, numbers and :class:`Clip`."""
        ...

    def keep_checkpoint(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Keep the best checkpoint, where the logger keeps files."""
        ...

    def close(self, failed: bool) -> None:
        """Nothing more is logged in this process."""
        ...
