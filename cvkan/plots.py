"""Pictures: data in, matplotlib ``Figure`` out, no file touched.

Legend: L layers, N tokens, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

# A gain that all tokens share changes no importance; 1, the mean of the layer, is the centre of the colour map.
GAIN_COLOURS = {"cmap": "RdBu_r", "vmin": 0.0, "vmax": 2.0}


def curves(history: dict[str, list[tuple[float, float]]], title: str) -> Figure:
    """Training curves, one panel a figure of merit.

    Args:
        history: metric name (``train/loss``, ``val/loss``, ``val/accuracy``) to (epoch, value) pairs.
        title: drawn above.
    """
    panels: dict[str, list[str]] = {}
    for name in sorted(history):
        panels.setdefault(name.split("/", 1)[-1], []).append(name)
    figure = Figure(figsize=(4.2 * max(1, len(panels)), 3.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, max(1, len(panels))))
    for axis, (panel, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            epochs, values = zip(*history[name], strict=True)
            axis.plot(epochs, values, label=name.split("/", 1)[0], marker="." if len(epochs) < 20 else None)
        axis.set(title=panel, xlabel="epoch")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.suptitle(title)
    return figure


def confusion_matrix(counts: Tensor, names: Sequence[str]) -> Figure:
    """Share of each true class (row) that was given each label (column), with the counts written in.

    Args:
        counts: (K, K) integers, rows = truth.
        names: K class names.
    """
    counts_array = counts.numpy()
    share = counts_array / np.maximum(counts_array.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.42 * len(names)
    figure = Figure(figsize=(size, size), layout="constrained")
    axis = figure.subplots()
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=90)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="true")
    if len(names) <= 20:
        for (row, column), count in np.ndenumerate(counts_array):
            if count:
                colour = "white" if share[row, column] > 0.5 else "black"
                axis.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    return figure


def per_layer(recovery: Sequence[float]) -> Figure:
    """Top-k recovery by token magnitude after each layer."""
    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axis = figure.subplots()
    axis.plot(range(1, len(recovery) + 1), recovery, marker="o")
    axis.set(xlabel="layer", ylabel="top-k recovery by magnitude", ylim=(0, 1.02))
    axis.set_xticks(range(1, len(recovery) + 1))
    axis.grid(alpha=0.3)
    return figure


def polarization(samples: Sequence[Tensor], gains: Tensor, grid: tuple[int, ...], titles: Sequence[str]) -> Figure:
    """Which tokens each layer amplified: one row a sample, the input first, then one map a layer.

    Args:
        samples: inputs, each (C, H, W), (T,) or complex (N, D).
        gains: token gains (samples, L, N), mean over channels; drawn relative to their mean over tokens.
        grid: layout of the tokens, (N,) or (rows, columns).
        titles: one a sample.
    """
    n_samples, n_layers, _ = gains.shape
    relative = gains / gains.mean(dim=-1, keepdim=True)
    figure = Figure(figsize=(2.1 * (n_layers + 1) + 0.8, 1.9 * n_samples + 0.5), layout="constrained")
    axes = figure.subplots(n_samples, n_layers + 1, squeeze=False)
    image = None
    for row, (sample, title) in enumerate(zip(samples, titles, strict=True)):
        draw_sample(axes[row, 0], sample)
        axes[row, 0].set_title(title, fontsize=9)
        for layer in range(n_layers):
            axis = axes[row, layer + 1]
            tokens = relative[row, layer].reshape(grid if len(grid) == 2 else (1, -1)).numpy()
            image = axis.imshow(tokens, aspect="equal" if len(grid) == 2 else "auto", **GAIN_COLOURS)
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(f"layer {layer + 1}", fontsize=9)
    if image is not None:
        figure.colorbar(image, ax=axes, label="token gain / mean gain of the layer", extend="max", shrink=0.8)
    return figure


def draw_sample(axis: Axes, sample: Tensor) -> None:
    """One input as a person would look at it: an image, a waveform, or the phases of complex tokens."""
    if sample.is_complex():  # (N, D)
        axis.imshow(sample.angle().T.numpy(), cmap="twilight", aspect="auto", vmin=-np.pi, vmax=np.pi)
    elif sample.ndim == 3:  # (C, H, W), standardised: show the range it has
        low, high = sample.min(), sample.max()
        shown = ((sample - low) / (high - low).clamp(min=1e-6)).permute(1, 2, 0).numpy()
        axis.imshow(shown if shown.shape[-1] == 3 else shown.mean(axis=-1), cmap="gray")
    else:  # (T,)
        axis.plot(sample.reshape(-1).numpy(), linewidth=0.4, color="black")
        axis.margins(x=0)
    axis.set(xticks=[], yticks=[])
