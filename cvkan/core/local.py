"""Aggregations that hear a neighbourhood, a past or a group: every token has its own context.

All are :class:`cvkan.core.aggregation.Aggregation`, cost a number of passes over the values that does not depend on
N, and run for another number of tokens than the layout they were built for (another number of rows on a grid).

Legend: B batch, N tokens, D complex channels, H heads; R rows, C columns of the grid of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.core.aggregation import Aggregation, Grid, MagnitudeScore, softmax_over_tokens
from cvkan.core.linear import masked
from cvkan.core.norm import mean_over_tokens
from cvkan.core.polar import Planes, at_least_float32, no_autocast


class LocalAggregation(Aggregation):
    """A_t = sum over the neighbours s of f_{t-s} V_s with a learned complex filter a channel, (B, N, D).

    One-dimensional on a grid (N,), two-dimensional on (rows, columns); zeros beyond the border and in the
    place of padded tokens. The filter starts as a real Gaussian low-pass. Cost: k or k^2 complex products a token
    and channel. Source: own choice, a depthwise convolution with complex weights.

    Args:
        kernel_size: odd width k of the filter, in tokens.

    Raises:
        ValueError: an even kernel size, or a grid of more than two dimensions.
    """

    def __init__(self, d_complex: int, n_heads: int, grid: Grid, kernel_size: int = 7) -> None:
        super().__init__(d_complex, n_heads, grid)
        self.kernel_size, self.columns = odd(kernel_size), columns_of(grid)
        offsets = torch.arange(kernel_size) - kernel_size // 2
        line = torch.exp(-0.5 * (offsets / max(kernel_size / 4, 0.5)) ** 2)
        window = torch.outer(line, line) if len(grid) == 2 else line[None, :]  # (rows, columns)
        self.weight_re, self.weight_im = filter_parameters(window, d_complex)

    def forward(self, v: Planes, mask: Tensor | None = None) -> Planes:
        padding = (self.weight_re.shape[-2] // 2, self.weight_re.shape[-1] // 2)
        return depthwise_filter(masked(v, mask), self.weight_re, self.weight_im, self.columns, padding)


class LocalBoxAggregation(Aggregation):
    """A_t = mean of V over the valid tokens at most k // 2 from t, per axis, itself among them; (B, N, D).

    No parameters. What lies beyond the border and padded tokens are left out of sum and count; 0 where no neighbour
    is valid. Sums run in float32 at least, one axis after the other: 2 k additions a token and channel on a grid.
    Source: own choice, the control of :class:`LocalAggregation` without anything to learn.

    Args:
        kernel_size: odd width k of the window, in tokens.

    Raises:
        ValueError: an even kernel size, or a grid of more than two dimensions.
    """

    def __init__(self, d_complex: int, n_heads: int, grid: Grid, kernel_size: int = 7) -> None:
        super().__init__(d_complex, n_heads, grid)
        self.kernel_size, self.columns = odd(kernel_size), columns_of(grid)

    def forward(self, v: Planes, mask: Tensor | None = None) -> Planes:
        columns = self.columns or v[0].shape[1]
        z = torch.cat(at_least_float32(masked(v, mask)), dim=-1)  # (B, N, 2D)
        valid = torch.ones_like(z[:1, :, :1]) if mask is None else mask.unsqueeze(-1).to(z.dtype)  # (1 or B, N, 1)
        count = self.box_sum(valid, columns).clamp(min=1)
        re, im = (self.box_sum(z, columns) / count).chunk(2, dim=-1)  # (B, N, D) each
        return re, im

    def box_sum(self, x: Tensor, columns: int) -> Tensor:
        """Sum over the window around each token, x (B, N, F) to (B, N, F)."""
        k = self.kernel_size
        image = x.unflatten(1, (-1, columns)).permute(0, 3, 1, 2)  # (B, F, R, C), channels last in memory
        image = F.avg_pool2d(image, (1, k), stride=1, padding=(0, k // 2), divisor_override=1)
        if self.columns is not None:
            image = F.avg_pool2d(image, (k, 1), stride=1, padding=(k // 2, 0), divisor_override=1)
        return image.permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, F)


class CausalMeanAggregation(Aggregation):
    """A_t = mean of V over the valid tokens up to t, itself included, (B, N, D); 0 before the first valid one.

    No parameters; one cumulative sum, in float32 at least. On a grid the order is that of reading: row by row.
    Source: own choice, what a causal model may know of :class:`cvkan.core.aggregation.MeanAggregation`.
    """

    causal = True

    def forward(self, v: Planes, mask: Tensor | None = None) -> Planes:
        re, im = at_least_float32(masked(v, mask))
        return mean_over_tokens(re, mask, causal=True), mean_over_tokens(im, mask, causal=True)


class CausalFilterAggregation(Aggregation):
    """A_t = sum_{a=0..k-1} f_a V_{t-a} with a learned complex filter a channel, (B, N, D).

    The filter reaches the k last tokens, t itself the last of them; zeros before the first token and in the place
    of padded ones. It starts as the past half of the Gaussian low-pass of :class:`LocalAggregation`. Cost: k complex
    products a token and channel. Source: own choice, a causal depthwise convolution with complex weights.

    Args:
        kernel_size: number k of taps, at least 1.

    Raises:
        ValueError: a kernel size below 1, or a grid of more than one dimension.
    """

    causal = True

    def __init__(self, d_complex: int, n_heads: int, grid: Grid, kernel_size: int = 7) -> None:
        super().__init__(d_complex, n_heads, grid)
        if kernel_size < 1:
            raise ValueError(f"kernel_size must be at least 1, got {kernel_size}; 7 is the usual one")
        if len(grid) != 1:
            raise ValueError(
                f"a causal filter needs tokens on a line, got the layout {tuple(grid)}; "
                "choose aggregation=causal, or an embedding that gives a sequence"
            )
        self.kernel_size = kernel_size
        ages = torch.arange(kernel_size - 1, -1, -1)  # a convolution of torch reads its window from the left
        window = torch.exp(-0.5 * (ages / max(kernel_size / 2, 0.5)) ** 2)[None, :]  # (1, k)
        self.weight_re, self.weight_im = filter_parameters(window, d_complex)

    def forward(self, v: Planes, mask: Tensor | None = None) -> Planes:
        padding = (0, self.kernel_size - 1)  # on both sides: the outputs beyond the last token are cut off
        re, im = depthwise_filter(masked(v, mask), self.weight_re, self.weight_im, None, padding)
        n_tokens = v[0].shape[1]
        return re[:, :n_tokens], im[:, :n_tokens]


class HierarchicalAggregation(Aggregation):
    """A_t = sum_l w_l C_l(t), C_l(t) the context of the group of level l that t is in, (B, N, D).

    Level 1 joins groups of g_1 neighbouring tokens, level 2 groups of g_2 neighbouring groups of level 1, and so on;
    on a grid groups are square tiles of edge g_l. A group's context is the mean of its valid members weighted by the
    softmax of their :class:`cvkan.core.aggregation.MagnitudeScore`, one score a level; a group counts as one member
    however many of its tokens are valid. The weights w_l are complex, one a level and channel, and start at 1/levels.

    Groups are truly local: nothing outside the block of prod(g) tokens (edge prod(g) on a grid) that t is in reaches
    it, through any number of layers (norms and centrings over tokens aside), so that on longer inputs another
    aggregation has to join the blocks. Blocks are counted from the first token; the last may be cut short.

    Cost: one psi and one phi a token, less at each level above. Softmax and sums run in float32 at least. Source: own
    choice; groups are joined here, inside the aggregation, for a block that averages over all tokens it is given would
    make every group hear all others.

    Args:
        group_sizes: members g_1, g_2, ... of a group at each level (its edge on a grid), each at least 2.
        sharpness: slope of psi of every score at the start: louder members weigh more.

    Raises:
        ValueError: no level, a group of fewer than two members, or a grid of more than two dimensions.
    """

    def __init__(
        self, d_complex: int, n_heads: int, grid: Grid, group_sizes: Iterable[int] = (4, 4), sharpness: float = 2.0
    ) -> None:
        super().__init__(d_complex, n_heads, grid)
        sizes = tuple(int(size) for size in group_sizes)
        if not sizes or min(sizes) < 2:
            raise ValueError(
                f"group_sizes must name at least one level of groups of 2 or more, got {list(sizes)}; "
                "use [4, 4] for groups of 4 and of 16"
            )
        self.columns = columns_of(grid)
        # Rows and columns of a group at each level, the highest first: the order of the axes of a block.
        self.row_sizes = sizes[::-1] if len(grid) == 2 else (1,) * len(sizes)
        self.column_sizes = sizes[::-1]
        self.scores = nn.ModuleList(MagnitudeScore(d_complex, n_heads, sharpness) for _ in sizes)
        self.level_re = nn.Parameter(torch.full((len(sizes), d_complex), 1 / len(sizes)))
        self.level_im = nn.Parameter(torch.zeros(len(sizes), d_complex))

    def forward(self, v: Planes, mask: Tensor | None = None) -> Planes:
        columns = self.columns or v[0].shape[1]
        z = at_least_float32(masked(v, mask))
        valid = torch.ones_like(z[0][..., :1], dtype=torch.bool) if mask is None else mask.bool().unsqueeze(-1)
        re, im, valid = (self.to_blocks(x.unflatten(1, (-1, columns))) for x in (*z, valid))
        contexts = []
        for score in self.scores:
            (re, im), valid = join((re, im), valid, score((re, im)))
            contexts.append((re, im))
        # From the top down: what a group hears is added to its own context, then told to all its members.
        re, im = torch.zeros_like(re), torch.zeros_like(im)
        for (own_re, own_im), w_re, w_im, n_members in zip(
            contexts[::-1], self.level_re.flip(0), self.level_im.flip(0), self.n_members, strict=True
        ):
            re, im = re + w_re * own_re - w_im * own_im, im + w_re * own_im + w_im * own_re
            re, im = (x.unsqueeze(-2).expand(*x.shape[:-1], n_members, -1) for x in (re, im))
        n_rows = v[0].shape[1] // columns
        re, im = (self.from_blocks(x, n_rows, columns).flatten(1, 2) for x in (re, im))  # (B, N, D) each
        return re, im

    @property
    def n_members(self) -> list[int]:
        """Members of a group at each level, the highest first."""
        return [rows * columns for rows, columns in zip(self.row_sizes, self.column_sizes, strict=True)]

    def to_blocks(self, x: Tensor) -> Tensor:
        """Cut a grid into blocks of groups of groups, the last blocks filled up with zeros.

        Args:
            x: (B, R, C, F).

        Returns:
            Tensor (B, block rows, block columns, G_L, ..., G_1, F) with G_l members of a group of level l.
        """
        n_rows, n_columns = x.shape[1:3]
        edges = math.prod(self.row_sizes), math.prod(self.column_sizes)
        blocks = (n_rows + edges[0] - 1) // edges[0], (n_columns + edges[1] - 1) // edges[1]
        x = F.pad(x, (0, 0, 0, blocks[1] * edges[1] - n_columns, 0, blocks[0] * edges[0] - n_rows))
        x = x.unflatten(2, (blocks[1], *self.column_sizes)).unflatten(1, (blocks[0], *self.row_sizes))
        x = x.permute(*self.axes, -1)  # (B, block rows, block columns, r_L, c_L, ..., r_1, c_1, F)
        for level in range(len(self.scores)):
            x = x.flatten(3 + level, 4 + level)
        return x

    def from_blocks(self, x: Tensor, n_rows: int, n_columns: int) -> Tensor:
        """The inverse of :meth:`to_blocks`: (B, n_rows, n_columns, F), without the filling."""
        for level, sizes in enumerate(zip(self.row_sizes, self.column_sizes, strict=True)):
            x = x.unflatten(3 + 2 * level, sizes)
        inverse = [self.axes.index(axis) for axis in range(len(self.axes))]
        half = 2 + len(self.scores)
        x = x.permute(*inverse, -1).flatten(half, -2).flatten(1, half - 1)  # (B, R, C, F) and the filling
        # Picked, not sliced: a slice has other strides where there is nothing to cut, which a compiler must ask about.
        for dim, size in ((1, n_rows), (2, n_columns)):
            x = x.index_select(dim, torch.arange(size, device=x.device))
        return x

    @property
    def axes(self) -> list[int]:
        """The permutation from (B, R', r_L, ..., C', c_L, ...) to (B, R', C', r_L, c_L, ..., r_1, c_1)."""
        n_levels = len(self.scores)
        return [0] + [axis + shift for axis in range(1, n_levels + 2) for shift in (0, n_levels + 1)]


def odd(kernel_size: int) -> int:
    """The kernel size, if it has a middle.

    Raises:
        ValueError: an even number, or one below 1.
    """
    if kernel_size % 2 == 0 or kernel_size < 1:
        raise ValueError(f"kernel_size must be odd and positive, got {kernel_size}; 7 is the usual one")
    return kernel_size


def columns_of(grid: Grid) -> int | None:
    """Columns of a grid (rows, columns); None for a line (N,), which is a grid of one row however long it is.

    Raises:
        ValueError: a layout of another number of dimensions.
    """
    if len(grid) not in (1, 2):
        raise ValueError(
            f"neighbours need tokens on a line or a grid, got the layout {tuple(grid)}; choose another aggregation"
        )
    return grid[1] if len(grid) == 2 else None


def filter_parameters(window: Tensor, d_complex: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Planes (D, 1, rows, columns) of a complex filter: the window (rows, columns) of sum 1, and a little noise."""
    window = window / window.sum()
    re = nn.Parameter(window.repeat(d_complex, 1, 1, 1))
    return re, nn.Parameter(torch.randn_like(re) * 0.1 * window.max())


def depthwise_filter(
    v: Planes, weight_re: Tensor, weight_im: Tensor, columns: int | None, padding: tuple[int, int]
) -> Planes:
    """One complex filter a channel over the grid of tokens.

    Args:
        v: planes (B, N, D), finite.
        weight_re: real plane (D, 1, rows, columns) of the filters.
        weight_im: imaginary plane of the filters.
        columns: columns C of the grid; None for a line.
        padding: zeros beyond the border, (rows, columns) on each side.

    Returns:
        Planes, each (B, N', D), N' = N for a padding of half the filter.
    """
    n_tokens, d_complex = v[0].shape[1:]
    # Each channel is a group of two real planes, and its complex filter a real one from two planes to two. A line of
    # tokens is a grid of one row: one code path, and depthwise conv2d is the fast one.
    pairs = torch.stack(at_least_float32(v), dim=-1).flatten(2)  # (B, N, 2D): re and im alternate
    pairs = pairs.transpose(1, 2).unflatten(2, (-1, columns or n_tokens))  # (B, 2D, R, C)
    to_re = torch.cat([weight_re, -weight_im], dim=1)
    to_im = torch.cat([weight_im, weight_re], dim=1)
    weight = torch.stack([to_re, to_im], dim=1).flatten(0, 1)  # (2D, 2, rows, columns)
    # Two products a tap and plane are bound by memory, not by arithmetic: half precision gains little on a GPU and
    # loses on a CPU, where it takes twice the time.
    with no_autocast(pairs):
        out = F.conv2d(pairs, weight.to(pairs.dtype), padding=padding, groups=d_complex)  # (B, 2D, R', C')
    re, im = out.flatten(2).transpose(1, 2).unflatten(-1, (d_complex, 2)).unbind(-1)  # (B, N', D) each
    return re, im


def join(z: Planes, valid: Tensor, score: Tensor) -> tuple[Planes, Tensor]:
    """The contexts of groups: the mean of their members, weighted by the softmax of their scores.

    Args:
        z: planes (..., G, D) of the G members of each group, 0 where not valid.
        valid: (..., G, 1) bool.
        score: (..., G, H).

    Returns:
        Planes (..., D), 0 where no member is valid, and where one is, (..., 1).
    """
    weights = softmax_over_tokens(score, valid.squeeze(-1)).unsqueeze(-1)  # (..., G, H, 1)
    n_heads = score.shape[-1]
    re, im = ((weights * x.unflatten(-1, (n_heads, -1))).sum(dim=-3).flatten(-2) for x in z)  # (..., D) each
    return (re, im), valid.any(dim=-2)
