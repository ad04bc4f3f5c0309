"""Where a token stands, told to its complex channels.

Every position is built as ``Position(d_complex, grid)`` and maps planes (B, N, D) to planes (B, N, D). A turn by the
position followed by a mean over tokens leaves one bin of a Fourier transform a channel: with global pooling an
added position is the better choice, turns suit ``pooling=none`` and aggregations that compare phases of neighbours.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from cvkan.core.aggregation import Grid
from cvkan.core.polar import Planes


class Position(nn.Module):
    """Base of all positions.

    Args:
        d_complex: complex channels D.
        grid: layout of the tokens, (N,) or (rows, columns).
    """

    def __init__(self, d_complex: int, grid: Grid) -> None:
        super().__init__()

    def forward(self, z: Planes) -> Planes:
        """Planes (B, N, D) to planes (B, N, D)."""
        raise NotImplementedError


class NoPosition(Position):
    """Tokens are a set: nothing is added."""

    def forward(self, z: Planes) -> Planes:
        return z


class LearnedPosition(Position):
    """z + p with a learned complex number a token and channel.

    Args:
        std: standard deviation of each plane of p at the start, against tokens of magnitude 1.
    """

    def __init__(self, d_complex: int, grid: Grid, std: float = 0.1) -> None:
        super().__init__(d_complex, grid)
        self.position = nn.Parameter(torch.randn(2, math.prod(grid), d_complex) * std)

    def forward(self, z: Planes) -> Planes:
        re, im = self.position[:, : z[0].shape[1]]  # (N, D) each
        return z[0] + re, z[1] + im
