"""Pictures of forecasts: data in, matplotlib ``Figure`` out, no file touched.

Legend: n windows, C channels, L steps of a window, H steps ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

COLOURS = {"truth": "0.25", "forecast": "tab:blue"}


def forecasts(
    history: Tensor, truth: Tensor, forecast: Tensor, interval: Tensor | None, channels: Sequence[str]
) -> Figure:
    """One row a window, one column a channel: history and truth, the forecast, and its interval as a shade.

    Args:
        history: (n, L, C).
        truth: (n, H, C).
        forecast: (n, H, C).
        interval: (n, H, C, 2), its lower and its upper end; None = not known.
        channels: C names.
    """
    n_windows, n_past, n_channels = history.shape
    figure = Figure(figsize=(3.4 * n_channels + 0.6, 2.1 * n_windows + 0.9), layout="constrained")
    axes = figure.subplots(n_windows, n_channels, squeeze=False, sharex=True)
    past, ahead = np.arange(1 - n_past, 1), np.arange(1, truth.shape[1] + 1)
    known = torch.cat([history, truth], dim=1).transpose(1, 2).flatten(0, 1).numpy()  # (n C, L + H), row by row
    told = forecast.transpose(1, 2).flatten(0, 1).numpy()  # (n C, H)
    ends = None if interval is None else interval.transpose(1, 2).flatten(0, 1).numpy()  # (n C, H, 2)
    for panel, axis in enumerate(axes.flat):
        axis.plot(np.concatenate([past, ahead]), known[panel], color=COLOURS["truth"], linewidth=1.0, label="truth")
        axis.plot(ahead, told[panel], color=COLOURS["forecast"], linewidth=1.4, label="forecast")
        if ends is not None:
            low, high = ends[panel].T
            axis.fill_between(ahead, low, high, color=COLOURS["forecast"], alpha=0.25, linewidth=0, label="interval")
        axis.axvline(0.5, color="0.6", linestyle=":", linewidth=1.0)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    for axis, name in zip(axes[0], channels, strict=True):
        axis.set_title(name, fontsize=11)
    for axis in axes[-1]:
        axis.set_xlabel("steps ahead")
    figure.supylabel("standard deviations of the training part", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def error_by_horizon(mse: Mapping[str, Tensor]) -> Figure:
    """Mean squared error of each step ahead.

    Args:
        mse: (H,) by the name of the forecast; the last one is the one in question, the others its rivals, dashed on top
            of it, for they may agree with it.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.subplots()
    *rivals, _ = mse
    for name, values in mse.items():
        style = {"linestyle": "--", "zorder": 3} if name in rivals else {"linewidth": 2.4}
        label = f"{name}, mean {float(values.mean()):.3f}"
        axis.plot(np.arange(1, len(values) + 1), values.numpy(), label=label, **style)
    axis.set(xlabel="steps ahead", ylabel="mean squared error")
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(mse), frameon=False)
    return figure
