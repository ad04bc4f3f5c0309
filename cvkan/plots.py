"""Pictures: data in, matplotlib ``Figure`` out, no file touched.

Legend: L layers, N tokens, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

if TYPE_CHECKING:
    from cvkan.analysis.polarization import Polarization

# A gain that all tokens share changes no importance; 1, the mean of the layer, is the centre of the colour map.
GAIN_COLOURS = ScalarMappable(Normalize(0.0, 2.0), colormaps["RdBu_r"].with_extremes(bad="0.8"))
# Figures of a layer: title, and what to read from it.
LAYER_PANELS = {
    "gini": ("Gini of magnitudes", "0 = all tokens alike"),
    "entropy": ("entropy of magnitudes", "1 = all tokens alike"),
    "coherence": ("phase coherence", "1 = all tokens in phase"),
    "gain_spread": ("spread of token gains", "0 = all tokens treated alike"),
}


def axes_grid(
    n_rows: int,
    n_columns: int,
    size: tuple[float, float],
    margins: tuple[float, float, float, float],
    gaps: tuple[float, float],
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes, (n_rows, n_columns), with room for what stands beside them as it is said here.

    To find that room out, as ``layout="constrained"`` does, takes longer than to draw the figure.

    Args:
        n_rows: of axes.
        n_columns: of axes.
        size: width and height of an axis, in inches, as all that follows.
        margins: left, bottom, right and top of all axes.
        gaps: between columns and between rows.
    """
    (left, bottom, right, top), (width, height) = margins, size
    whole_width = left + n_columns * (width + gaps[0]) - gaps[0] + right
    whole_height = bottom + n_rows * (height + gaps[1]) - gaps[1] + top
    figure = Figure(figsize=(whole_width, whole_height))
    room = {"left": left / whole_width, "right": 1 - right / whole_width, "wspace": gaps[0] / width}
    room |= {"bottom": bottom / whole_height, "top": 1 - top / whole_height, "hspace": gaps[1] / height}
    return figure, figure.subplots(n_rows, n_columns, squeeze=False, gridspec_kw=room)


def curves(history: dict[str, list[tuple[float, float]]], title: str) -> Figure:
    """Training curves, one panel a figure of merit.

    Args:
        history: metric name (``train/loss``, ``val/loss``, ``val/accuracy``) to (epoch, value) pairs.
        title: drawn above.
    """
    panels: dict[str, list[str]] = {}
    for name in sorted(history):
        panels.setdefault(name.split("/", 1)[-1], []).append(name)
    n_columns = min(4, max(1, len(panels)))
    n_rows = max(1, math.ceil(len(panels) / n_columns))
    figure, grid = axes_grid(n_rows, n_columns, (3.4, 2.3), margins=(0.7, 0.5, 0.15, 0.65), gaps=(0.7, 0.85))
    axes = grid.flat
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
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


def polarization_layers(found: Polarization) -> Figure:
    """How polarized the tokens are after each layer: mean over samples, shaded to one standard deviation either way.

    Args:
        found: what :func:`cvkan.analysis.polarization.polarization` returned; its entering tokens, if known, are
            drawn as layer 0.
    """
    n_layers = found.gain.shape[1]
    figure, axes = axes_grid(1, len(LAYER_PANELS), (2.2, 1.95), margins=(0.65, 0.5, 0.15, 0.5), gaps=(0.7, 0.0))
    for axis, (name, (title, hint)) in zip(axes[0], LAYER_PANELS.items(), strict=True):
        values, first = getattr(found, name), 1  # (B, L)
        if found.entry is not None and hasattr(found.entry, name):
            values, first = torch.cat([getattr(found.entry, name)[:, None], values], dim=1), 0
        mean, spread = values.mean(dim=0).numpy(), values.std(dim=0, correction=0).numpy()
        layers = np.arange(first, n_layers + 1)
        axis.fill_between(layers, mean - spread, mean + spread, alpha=0.2, linewidth=0)
        axis.plot(layers, mean, marker="o", markersize=4)
        axis.set_title(title, fontsize=11, pad=16)
        axis.text(0.5, 1.03, hint, transform=axis.transAxes, ha="center", fontsize=8, color="0.4")
        axis.set(
            xlabel="layer" if first else "layer (0 = tokens as they enter)",
            xlim=(-0.3 if found.entry is not None else 0.7, n_layers + 0.3),
        )
        axis.set_ylim(**{"top": 1.0} if name == "entropy" else {"bottom": 0.0})  # where no token differs from another
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    return figure


def polarization(
    found: Polarization,
    n_samples: int = 4,
    titles: Sequence[str] = (),
    sample_rate_hz: int | None = None,
    wanted: Tensor | None = None,
) -> Figure:
    """Which tokens each layer amplified, a sample: maps with the outlines of an image, or strips below a sequence.

    Args:
        found: what :func:`cvkan.analysis.polarization.polarization` returned; gains are drawn relative to their
            mean over the valid tokens of the layer, padded tokens stay blank.
        n_samples: the first so many samples, at most.
        titles: one line above each sample; none for those beyond its end.
        sample_rate_hz: sampling rate of waveforms; with it time is in seconds.
        wanted: (B, N), 1 = the token is wanted, marked above a sequence.
    """
    n_samples = min(n_samples, len(found.x))
    gain = found.gain[:n_samples].masked_fill(~found.mask[:n_samples, None], torch.nan)  # (n, L, N)
    relative = gain / gain.nanmean(dim=-1, keepdim=True)
    titles = [*titles[:n_samples], *[""] * (n_samples - len(titles))]
    samples = list(found.x[:n_samples])
    if len(found.grid) == 2 and math.prod(found.grid) == gain.shape[-1]:
        return maps_over_images(samples, relative, found.grid, titles)
    marks = [None] * n_samples if wanted is None else list(wanted[:n_samples].cpu())
    return layers_over_sequences(samples, relative, titles, sample_rate_hz, marks)


def maps_over_images(
    samples: Sequence[Tensor], relative: Tensor, grid: tuple[int, ...], titles: Sequence[str]
) -> Figure:
    """One row a sample: the sample, then one map a layer, with the outlines of the sample where it is an image.

    Args:
        samples: n inputs, an image as (C, H, W).
        relative: (n, L, N) gains over their mean, NaN = padded.
        grid: (rows, columns) of the tokens.
        titles: one a sample.
    """
    n_layers = relative.shape[1]
    figure, axes = axes_grid(len(samples), n_layers + 1, (2.0, 2.0), margins=(0.1, 0.1, 0.9, 0.3), gaps=(0.1, 0.25))
    for row, (sample, title) in enumerate(zip(samples, titles, strict=True)):
        draw_sample(axes[row, 0], sample)
        axes[row, 0].set_title(title, fontsize=9)
        height, width = sample.shape[-2:] if sample.ndim == 3 else grid
        for layer in range(n_layers):
            axis, tokens = axes[row, layer + 1], relative[row, layer].reshape(grid).numpy()
            axis.imshow(GAIN_COLOURS.to_rgba(tokens), extent=(-0.5, width - 0.5, height - 0.5, -0.5))
            if sample.ndim == 3:
                outline(axis, as_picture(sample))
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(f"layer {layer + 1}", fontsize=9)
    inch = 1 / figure.get_figwidth()
    gain_bar(figure, axes, figure.add_axes((1 - 0.75 * inch, 0.1, 0.12 * inch, 0.8)))
    return figure


def outline(axis: Axes, picture: np.ndarray) -> None:
    """Where a picture is as bright as on average: its shapes, over a map whose colours must stay what they are.

    Args:
        axis: in coordinates of pixels.
        picture: (H, W) or (H, W, 3) in [0, 1].
    """
    light = picture if picture.ndim == 2 else picture.mean(axis=-1)
    if light.min() == light.max():
        return
    fine = max(1, 128 // max(light.shape))  # so that the line follows the edges of large pixels
    y, x = ((np.arange(size * fine) + 0.5) / fine - 0.5 for size in light.shape)
    axis.contour(x, y, np.kron(light, np.ones((fine, fine))), levels=[light.mean()], colors="black", linewidths=1.0)


def layers_over_sequences(
    samples: Sequence[Tensor],
    relative: Tensor,
    titles: Sequence[str],
    sample_rate_hz: int | None,
    wanted: Sequence[Tensor | None],
) -> Figure:
    """Two samples a row: each as a waveform or as phases, and below it one strip a layer on the same axis.

    Args:
        samples: n inputs, (T,) waveforms, (N, D) complex tokens or (N,) token ids.
        relative: (n, L, N) gains over their mean, NaN = padded.
        titles: one a sample.
        sample_rate_hz: sampling rate of waveforms, else None.
        wanted: (N,) marks of each sample, or None.
    """
    n_layers, n_tokens = relative.shape[1:]
    n_rows, n_columns, strips = math.ceil(len(samples) / 2), min(2, len(samples)), max(0.5, 0.25 * n_layers)
    above = 1.0 if samples[0].is_floating_point() or samples[0].is_complex() else 0.1  # token ids show nothing
    figure = Figure(figsize=(5.6 * n_columns + 0.8, (0.4 + above + strips) * n_rows + 0.5), layout="constrained")
    axes = figure.subplots(2 * n_rows, n_columns, squeeze=False, height_ratios=[above, strips] * n_rows)
    for i, (sample, title, marks) in enumerate(zip(samples, titles, wanted, strict=True)):
        row, column = divmod(i, n_columns)
        top, bottom = axes[2 * row, column], axes[2 * row + 1, column]
        left, right, unit = draw_sequence(top, sample, n_tokens, sample_rate_hz)
        top.set_title(title, fontsize=9, loc="left", pad=4 if marks is None else 10)
        colours = GAIN_COLOURS.to_rgba(relative[i].numpy())
        bottom.imshow(colours, extent=(left, right, n_layers + 0.5, 0.5), aspect="auto", interpolation="nearest")
        bottom.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, min_n_ticks=1))
        bottom.set(xlim=(left, right), xlabel=unit if row == n_rows - 1 else "")
        bottom.set_ylabel("layer", fontsize=8)
        if marks is not None:
            places = left + (marks.nonzero().squeeze(1) + 0.5) * (right - left) / n_tokens
            over = {"transform": top.get_xaxis_transform(), "clip_on": False}
            top.plot(places.numpy(), np.full(len(places), 1.08), "v", color="black", markersize=4, **over)
    for axis in axes[-2:, len(samples) % 2 :].flat if len(samples) % n_columns else ():
        axis.set_axis_off()  # an odd number leaves the last place empty
    gain_bar(figure, axes)
    return figure


def gain_bar(figure: Figure, axes: np.ndarray, cax: Axes | None = None) -> None:
    """The colour scale of all gain maps of a figure, in axes of its own or in room that is taken from the maps."""
    label = "token gain / mean gain of the layer"
    figure.colorbar(GAIN_COLOURS, cax=cax, ax=axes, label=label, extend="max", shrink=0.8, aspect=30)


def draw_sequence(axis: Axes, sample: Tensor, n_tokens: int, sample_rate_hz: int | None) -> tuple[float, float, str]:
    """A sequence above its tokens: a waveform, the phases of complex tokens, or nothing of token ids.

    Returns:
        Left and right end of the tokens on the axis, and its label.
    """
    if sample.ndim == 3:  # an image whose tokens are no grid
        draw_sample(axis, sample)
        return -0.5, n_tokens - 0.5, "token"
    if sample.is_complex() and sample.ndim == 1:  # I/Q samples: a waveform of two channels
        sample = torch.view_as_real(sample)  # (T, 2)
    if sample.is_complex():  # (N, D)
        draw_sample(axis, sample)
        axis.set_ylabel("phase by\nchannel", fontsize=8)
    elif sample.is_floating_point():
        # Of several channels the longer axis is time.
        wave = (sample.T if sample.ndim == 2 and sample.shape[0] < sample.shape[1] else sample).numpy()
        end, unit = (len(wave) / sample_rate_hz, "time / s") if sample_rate_hz else (float(len(wave)), "sample")
        time = np.linspace(0.0, end, len(wave), endpoint=False)
        axis.plot(time, wave, linewidth=0.4, color=None if wave.ndim == 2 else "black")
        axis.set(xlim=(0.0, end), xticks=[], yticks=[])
        return 0.0, end, unit
    else:
        axis.set_axis_off()
    axis.set_xlim(-0.5, n_tokens - 0.5)
    return -0.5, n_tokens - 0.5, "token"


def draw_sample(axis: Axes, sample: Tensor) -> None:
    """One input as a person would look at it: an image, a waveform, or the phases of complex tokens."""
    if sample.is_complex() and sample.ndim == 1:  # (T,) I/Q samples
        axis.plot(sample.real.numpy(), sample.imag.numpy(), ".", markersize=1, color="black")
        axis.set_aspect("equal")
    elif sample.is_complex():  # (N, D)
        axis.imshow(sample.angle().T.numpy(), cmap="twilight", aspect="auto", vmin=-np.pi, vmax=np.pi)
    elif sample.ndim == 3:
        axis.imshow(as_picture(sample), cmap="gray")
    else:  # (T,)
        axis.plot(sample.reshape(-1).numpy(), linewidth=0.4, color="black")
        axis.margins(x=0)
    axis.set(xticks=[], yticks=[])


def as_picture(image: Tensor) -> np.ndarray:
    """A standardised image (C, H, W) over the range it has, in [0, 1]: (H, W, 3), or (H, W) without colours."""
    low, high = image.min(), image.max()
    shown = ((image - low) / (high - low).clamp(min=1e-6)).permute(1, 2, 0).numpy()
    return shown if shown.shape[-1] == 3 else shown.mean(axis=-1)
