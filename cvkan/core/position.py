"""Where a token stands, told to its complex channels.

Every position is built as ``Position(d_complex, grid)`` and maps planes (B, N, D) to planes (B, N, D). A turn by the
position followed by a mean over tokens leaves one bin of a Fourier transform a channel: with global pooling an
added position is the better choice, turns suit ``pooling=none`` and aggregations that compare phases of neighbours.

Legend: B batch, N tokens, D complex channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cvkan.core.aggregation import Grid
from cvkan.core.polar import Planes, complex_in_complex_out


class Position(nn.Module):
    """Base of all positions.

    Args:
        d_complex: complex channels D.
        grid: layout of the tokens, (N,) or (rows, columns).
    """

    def __init__(self, d_complex: int, grid: Grid) -> None:
        super().__init__()

    def forward(self, z: Planes) -> Planes:
        """Planes (B, N, D) to planes (B, N, D). Complex in, complex out."""
        raise NotImplementedError


class NoPosition(Position):
    """Tokens are a set: nothing is added."""

    @complex_in_complex_out
    def forward(self, z: Planes) -> Planes:
        return z


class LearnedPosition(Position):
    """z + p with a learned complex number a token and channel.

    Args:
        std: standard deviation of each plane of p at the start, against tokens of magnitude 1.

    Raises:
        ValueError: on more tokens than the layout has.
    """

    def __init__(self, d_complex: int, grid: Grid, std: float = 0.1) -> None:
        super().__init__(d_complex, grid)
        self.position = nn.Parameter(torch.randn(2, math.prod(grid), d_complex) * std)

    @complex_in_complex_out
    def forward(self, z: Planes) -> Planes:
        re, im = first_rows(self.position, z[0].shape[1])  # (N, D) each
        return z[0] + re, z[1] + im


class LearnedPolarPosition(Position):
    """z e^{a + i b} with a learned log-gain a and angle b a token and channel.

    Position as a factor: it can make places louder and turn them, which addition can do to loud tokens only a
    little. At the start a = 0 and b is small and random. Source: own choice, the polar form of a learned position.

    Args:
        std: standard deviation of b at the start, in radians.

    Raises:
        ValueError: on more tokens than the layout has.
    """

    def __init__(self, d_complex: int, grid: Grid, std: float = 0.1) -> None:
        super().__init__(d_complex, grid)
        n_tokens = math.prod(grid)
        self.log_gain = nn.Parameter(torch.zeros(n_tokens, d_complex))
        self.angle = nn.Parameter(torch.randn(n_tokens, d_complex) * std)

    @complex_in_complex_out
    def forward(self, z: Planes) -> Planes:
        n_tokens = z[0].shape[1]
        gain, angle = torch.exp(first_rows(self.log_gain, n_tokens)), first_rows(self.angle, n_tokens)
        return turned(z, gain * torch.cos(angle), gain * torch.sin(angle))


class RotaryPosition(Position):
    """z_n e^{i w_d n} with w_d = base^(-d/D): the phase between two tokens gains a part that is their distance.

    On a grid n counts row by row. Source: Su et al., "RoFormer", 2021, eq. 34, where D pairs of real channels are
    the D complex ones; here the stream is turned, not query and key, as all that follows compares phases.

    Args:
        base: ratio of the fastest turn, 1 radian a token, to what the slowest tends to as D grows.

    Raises:
        ValueError: ``base`` is not positive.
    """

    def __init__(self, d_complex: int, grid: Grid, base: float = 10000.0) -> None:
        super().__init__(d_complex, grid)
        if base <= 0:
            raise ValueError(f"base must be positive, got {base}; set position.base=10000")
        self.base = base

    @complex_in_complex_out
    def forward(self, z: Planes) -> Planes:
        n_tokens, d_complex = z[0].shape[1:]
        dtype = torch.promote_types(z[0].dtype, torch.float32)
        # The table is small beside a batch; made anew it fits every length, device and precision.
        angle = self.angles(torch.arange(n_tokens, dtype=dtype, device=z[0].device), d_complex)  # (N, D)
        return turned(z, torch.cos(angle), torch.sin(angle))

    def angles(self, n: Tensor, d_complex: int) -> Tensor:
        """Angles (N, D) in radians of the tokens n = 0, 1, ... (N,)."""
        return turns(n, d_complex, self.base)


class Rotary2DPosition(RotaryPosition):
    """z e^{i w_d row} in the first half of the channels, z e^{i w_d column} in the second, w_d = base^(-2d/D).

    Source: :class:`RotaryPosition` once an axis, as in Heo et al., "Rotary position embedding for vision
    transformer", 2024, section 3 (axial frequencies).

    Args:
        base: as in :class:`RotaryPosition`.

    Raises:
        ValueError: the tokens do not lie on a grid of rows and columns, or ``d_complex`` is odd.
    """

    def __init__(self, d_complex: int, grid: Grid, base: float = 10000.0) -> None:
        super().__init__(d_complex, grid, base)
        if len(grid) != 2:
            raise ValueError(
                f"position=rotary2d needs tokens on a grid (rows, columns), got the layout {tuple(grid)}; "
                "choose position=rotary"
            )
        if d_complex % 2:
            raise ValueError(
                f"position=rotary2d needs an even number of channels, half for rows and half for columns, got "
                f"d_complex={d_complex}; set model.d_complex to an even number"
            )
        self.n_columns = grid[1]

    def angles(self, n: Tensor, d_complex: int) -> Tensor:
        row = torch.floor(n / self.n_columns)
        column = n - row * self.n_columns
        return torch.cat([turns(index, d_complex // 2, self.base) for index in (row, column)], dim=1)  # (N, D)


def turns(n: Tensor, n_channels: int, base: float) -> Tensor:
    """Angles n base^(-d/D) for indices n (N,) and D channels: (N, D)."""
    channel = torch.arange(n_channels, dtype=n.dtype, device=n.device)
    return n[:, None] * torch.exp(channel * (-math.log(base) / n_channels))


def turned(z: Planes, cos: Tensor, sin: Tensor) -> Planes:
    """z (cos + i sin): planes (B, N, D), factors (N, D)."""
    return z[0] * cos - z[1] * sin, z[0] * sin + z[1] * cos


def first_rows(table: Tensor, n_tokens: int) -> Tensor:
    """The first ``n_tokens`` of the learned positions (..., N, D).

    Raises:
        ValueError: there are not as many.
    """
    n_known = table.shape[-2]
    if n_tokens > n_known:
        raise ValueError(
            f"the model has learned positions for {n_known} tokens, got {n_tokens}; shorten the samples or choose "
            "position=rotary"
        )
    return table[..., :n_tokens, :]
