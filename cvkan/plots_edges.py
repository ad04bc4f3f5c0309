"""Picture of the functions that a ``PolarKANLinear`` has learned: layer in, matplotlib ``Figure`` out, no file touched.

Legend: E shown edges; d_in and d_out complex channels, indices i and j.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from torch import Tensor

from cvkan.core.polar import Planes, at_least_float32, log_magnitude, squared_magnitude

if TYPE_CHECKING:
    from cvkan.core.edge import PolarKANLinear

MAGNITUDE, TURN, DATA = "C0", "C1", "0.92"
N_POINTS = 481
# A zero has no place on a logarithmic axis, and no phase: below this share of the largest value nothing is drawn.
FLOOR = 3e-3


@torch.no_grad()
def edge_functions(layer: PolarKANLinear, edges: Sequence[tuple[int, int]], z: Planes | None = None) -> Figure:
    """One row an edge: |phi_ij| and turn over log|z|, the same over the phase at |z| = 1, and the coefficients.

    The turn is arg(phi(z) / z), what the edge adds to the phase; +-180 degrees are the same. The first panel is a
    Bode plot: a complex linear function is a straight line of slope 1 with a constant turn. Above the rows stand the
    scores of all edges.

    Args:
        layer: the layer.
        edges: pairs (i, j).
        z: planes (..., d_in) of the samples that decide the scores; their 5 % to 95 % range of log|z| is shaded.
    """
    scores = layer.edge_scores(z).float().cpu()
    power = scores.double().square()
    shares = power / power.sum(dim=1, keepdim=True).clamp(min=torch.finfo(power.dtype).tiny)
    engine = ConstrainedLayoutEngine(wspace=0.06, hspace=0.04)  # room between the right and left labels of two panels
    figure = Figure(figsize=(11.5, 2.9 + 2.5 * len(edges)), layout=engine)
    top, *rows = figure.subfigures(1 + len(edges), 1, squeeze=False, height_ratios=[2.7, *[2.5] * len(edges)])[:, 0]
    pruned = ~layer.edge_mask.cpu()
    draw_scores(top, scores, pruned, edges, "the given samples" if z is not None else "uniform log|z| and phase")
    for number, (row, (i, j)) in enumerate(zip(rows, edges, strict=True), start=1):
        kept = "" if layer.edge_mask[j, i] else "   (pruned)"
        row.suptitle(
            f"{number}.  $z_{{{i}}} \\to y_{{{j}}}$   score {scores[j, i]:.3g},  "
            f"{100 * shares[j, i]:.0f} % of the power into $y_{{{j}}}${kept}",
            fontsize=10,
            fontweight="bold",
            ha="left",
            x=0.01,
        )
        left, middle, right = row.subplots(1, 3, width_ratios=[1.25, 1.25, 0.6])
        draw_over_magnitude(left, layer, i, j, None if z is None else magnitude_range(z, i))
        draw_over_phase(middle, layer, i, j)
        draw_coefficients(right, layer, i, j)
        if number < len(edges):
            left.set_xlabel("")
            middle.set_xlabel("")
    return figure


def draw_scores(
    area: SubFigure, scores: Tensor, pruned: Tensor, edges: Sequence[tuple[int, int]], samples: str
) -> None:
    """Heat map of the scores (d_out, d_in) with the numbers of the shown edges, and the scores in order."""
    left, right = area.subplots(1, 2, width_ratios=[1.25, 1.85])
    colours = colormaps["Blues"].with_extremes(bad="0.8")
    image = left.imshow(np.ma.masked_array(scores.numpy(), pruned.numpy()), cmap=colours, aspect="auto", vmin=0.0)
    left.set(xlabel="input i", ylabel="output j")
    left.set_title("edge scores" + (" (grey: pruned)" if pruned.any() else ""), fontsize=10)
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    for number, (i, j) in enumerate(edges, start=1):
        dark = float(scores[j, i]) > 0.5 * float(scores.max())
        left.text(i, j, str(number), ha="center", va="center", fontsize=9, color="white" if dark else "black")
    area.colorbar(image, ax=left, label="RMS of $\\phi_{ij}$")

    ranked = scores[~pruned].sort(descending=True).values
    right.plot(range(1, len(ranked) + 1), ranked.numpy(), color="0.5", marker="." if len(ranked) < 60 else "")
    for number, (i, j) in enumerate(edges, start=1):
        place = int((ranked > scores[j, i]).sum()) + 1
        if not pruned[j, i]:
            right.annotate(str(number), (place, float(scores[j, i])), (4, 2), textcoords="offset points", fontsize=9)
    right.set(xlabel="rank of the edge", ylim=(0.0, 1.12 * float(scores.max()) or 1.0))
    right.set_title(f"scores in order: {len(ranked)} of {scores.numel()} edges, over {samples}", fontsize=10)
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.grid(alpha=0.3)


def draw_over_magnitude(
    axis: Axes, layer: PolarKANLinear, i: int, j: int, data: tuple[float, float] | None = None
) -> None:
    """|phi| and turn of a positive number exp(s), with knots, the linear part alone and the range of the data."""
    s = torch.linspace(layer.low - 0.5, layer.high + 0.5, N_POINTS)
    values = layer.edge_function(i, j, s, torch.zeros(())).cpu()
    linear = abs(layer.edge_coefficients(i, j)["W"]) * s.exp()
    if data is not None:
        axis.axvspan(*data, color=DATA, zorder=0)
    for knot in np.linspace(layer.low, layer.high, layer.n_knots):
        axis.axvline(knot, color="0.6", linewidth=0.7, linestyle=":")
    axis.plot(s, linear, color=MAGNITUDE, linewidth=0.9, linestyle="--")
    draw_response(axis, s.numpy(), values, torch.zeros(()))
    peak = float(values.abs().max())
    if peak > 0:
        axis.set_yscale("log")
        lowest = max(FLOOR * peak, float(values.abs().min()))
        # Two decades at least, so that there are labels and a flat response looks flat.
        stretch = max(1.4, 10.0 / math.sqrt(peak / lowest))
        axis.set_ylim(lowest / stretch, peak * stretch)
        axis.yaxis.set_major_locator(LogLocator(numticks=5))
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set(xlabel="log|z|, at phase 0", xlim=(float(s[0]), float(s[-1])))
    grey = "" if data is None else ", grey: data"
    axis.set_title(f"$\\psi(\\log|z|)$   dashed: W z alone, dotted: knots{grey}", fontsize=8, loc="left")


def draw_over_phase(axis: Axes, layer: PolarKANLinear, i: int, j: int) -> None:
    """|phi| and turn over the unit circle."""
    theta = torch.linspace(-math.pi, math.pi, N_POINTS)
    values = layer.edge_function(i, j, torch.zeros(()), theta).cpu()
    draw_response(axis, np.degrees(theta.numpy()), values, theta)
    axis.set_ylim(0.0, 1.15 * float(values.abs().max()) or 1.0)
    axis.set(xlabel="phase of z (degrees), at |z| = 1", xlim=(-180, 180), xticks=range(-180, 181, 90))
    axis.set_title("$\\phi$(phase)", fontsize=8, loc="left")


def draw_response(axis: Axes, x: np.ndarray, values: Tensor, theta: Tensor) -> None:
    """|values| on the left axis and the turn from ``theta``, in degrees, on the right one."""
    axis.plot(x, values.abs(), color=MAGNITUDE, linewidth=2.5)
    axis.set_ylabel("|$\\phi$|", color=MAGNITUDE)
    axis.tick_params(axis="both", labelsize=8)
    twin = axis.twinx()
    size = values.abs()
    turn = torch.rad2deg((values * torch.polar(torch.ones_like(theta), -theta)).angle())
    turn = turn.masked_fill(size <= FLOOR * size.max(), torch.nan)
    # Points, not a line: where the turn passes 180 degrees a line would cross the whole panel.
    twin.plot(x, turn.numpy(), color=TURN, linestyle="", marker=".", markersize=1.2)
    twin.set(ylim=(-200, 200), yticks=range(-180, 181, 90))
    twin.set_ylabel("turn (degrees)", color=TURN)
    twin.tick_params(axis="y", labelsize=8)


def draw_coefficients(axis: Axes, layer: PolarKANLinear, i: int, j: int) -> None:
    """Magnitude and angle of W, of C with its knots and of E with its powers, as a table."""
    knots = np.linspace(layer.low, layer.high, layer.n_knots)
    notes = ["z", *(f"log|z| ~ {knot:.1f}" for knot in knots), *(f"u^{m}" for m in layer.orders)]
    rows = layer.edge_coefficients(i, j).items()
    lines = [
        f"{name:<5}{abs(value):7.3f} {round(math.degrees(cmath.phase(value))):5d}°  {note}"
        for (name, value), note in zip(rows, notes, strict=True)
    ]
    axis.axis("off")
    text = "\n".join([f"{'':<5}{'size':>7} {'angle':>6}", *lines])
    size = min(8.0, 90.0 / (len(lines) + 1))
    axis.text(0.0, 1.0, text, family="monospace", fontsize=size, va="top", transform=axis.transAxes)


def magnitude_range(z: Planes, channel: int) -> tuple[float, float]:
    """5 % and 95 % quantile of log|z| of one channel."""
    re, im = at_least_float32((z[0][..., channel].flatten(), z[1][..., channel].flatten()))
    s = log_magnitude(squared_magnitude((re, im))).sort().values  # torch.quantile refuses large tensors
    last = len(s) - 1
    return float(s[round(0.05 * last)]), float(s[round(0.95 * last)])
