"""Pictures of how well modulation and SNR were told: data in, matplotlib ``Figure`` out, no file touched.

Legend: M modulations, S levels of the SNR, K classes of either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

COLOURS = {"modulation": "tab:blue", "snr": "tab:orange", "combined": "tab:green"}
NAMES = {"modulation": "modulation", "snr": "SNR", "combined": "both"}
ORDER_COLOURS = {"top": "tab:red", "bottom": "tab:purple", "random": "0.5"}  # which pixels were removed
RANGES = ("low", "mid", "high")  # of the SNR
NUMBERED = {"BPSK": "2PSK", "QPSK": "4PSK", "OQPSK": "4PSK"}  # classes whose names keep their number to themselves
MAX_LABELLED = 20  # classes whose cells are wide enough for a number


def accuracy_over_snr(
    snr_db: Sequence[float], accuracy: Mapping[str, Tensor], bound: Mapping[str, Tensor] | None
) -> Figure:
    """Share of right answers at each SNR, dashed what the best possible classifier reaches.

    Args:
        snr_db: S levels.
        accuracy: (S,) by name: ``modulation``, ``snr`` and ``combined``, both right; NaN = no sample.
        bound: the same of the best possible classifier, None = not known.
    """
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axis = figure.subplots()
    for name, values in accuracy.items():
        axis.plot(snr_db, values.numpy(), color=COLOURS[name], marker="o", markersize=4, label=NAMES[name], zorder=3)
    for name, values in (bound or {}).items():
        axis.plot(snr_db, values.numpy(), "--", color=COLOURS[name], linewidth=1.2, alpha=0.7)
    if bound is not None:
        axis.plot([], [], "--", color="0.4", linewidth=1.2, label="at best (Bayes)")
    axis.set(xlabel="SNR / dB", ylabel="accuracy", ylim=(-0.02, 1.02))
    axis.set_yticks(np.linspace(0, 1, 6), [f"{k} %" for k in range(0, 101, 20)])
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def modulation_confusion(counts: Tensor, names: Sequence[str], snr_db: Sequence[float]) -> Figure:
    """One confusion matrix of the modulation for the lowest, the middle and the highest third of the SNRs.

    Args:
        counts: (S, M, M) integers: true level, true class, predicted class.
        names: M class names.
        snr_db: S levels, ascending.
    """
    parts = np.array_split(np.arange(len(snr_db)), min(len(RANGES), len(snr_db)))
    labels = RANGES if len(parts) == len(RANGES) else ("",) * len(parts)
    order = by_family(names)
    size = max(2.0, 0.26 * len(names))
    figure = Figure(figsize=(size * len(parts) + 2.2, size + 1.6), layout="compressed")
    axes = figure.subplots(1, len(parts), squeeze=False, sharey=True)[0]
    for axis, label, rows in zip(axes, labels, parts, strict=True):
        of_range = counts[rows].sum(dim=0)[order][:, order]  # (M, M)
        image = draw_shares(axis, of_range, [names[k] for k in order])
        n_right, n = int(of_range.trace()), int(of_range.sum())
        levels = f"{snr_db[rows[0]]:g} to {snr_db[rows[-1]]:g} dB" if len(rows) > 1 else f"{snr_db[rows[0]]:g} dB"
        title = f"{label} SNR: {levels}".strip() + f"\n{100 * n_right / max(n, 1):.1f} % right of {n:,}"
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("predicted")
    axes[0].set_ylabel("true")
    share_bar(figure, image, axes)
    return figure


def snr_confusion(counts: Tensor, snr_db: Sequence[float]) -> Figure:
    """Confusion matrix of the SNR.

    Args:
        counts: (S, S) integers: true level, predicted level.
        snr_db: S levels, ascending.
    """
    size = max(2.0, 0.26 * len(snr_db))
    figure = Figure(figsize=(size + 1.8, size + 1.0), layout="compressed")
    axis = figure.subplots()
    image = draw_shares(axis, counts, [f"{level:g}" for level in snr_db])
    axis.set(xlabel="predicted SNR / dB", ylabel="true SNR / dB")
    share_bar(figure, image, np.array([axis]))
    return figure


def f1_per_class(f1: Tensor, names: Sequence[str]) -> Figure:
    """F1 of every class as bars, the best on top.

    Args:
        f1: (M,), NaN = the class neither was nor was named.
        names: M class names.
    """
    order = f1.nan_to_num(-1.0).argsort(stable=True)
    values = f1[order].nan_to_num(0.0).numpy()
    figure = Figure(figsize=(6.0, 1.0 + 0.25 * len(names)), layout="constrained")
    axis = figure.subplots()
    bars = axis.barh([names[k] for k in order], values, color=COLOURS["modulation"], height=0.7)
    written = ["none" if torch.isnan(value) else f"{value:.2f}" for value in f1[order]]
    axis.bar_label(bars, written, padding=3, fontsize=8, color="0.3", bbox={"color": "white", "pad": 0.5})
    axis.axvline(float(f1.nanmean()), color="0.4", linestyle="--", linewidth=1.2, zorder=0.8)
    axis.set_title(f"F1 of each modulation, mean {float(f1.nanmean()):.3f} (dashed)", fontsize=11)
    axis.set(xlim=(0, 1.08), ylim=(-0.6, len(names) - 0.4))
    axis.set_xticks(np.linspace(0, 1, 6))
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    return figure


def by_family(names: Sequence[str]) -> list[int]:
    """Order in which related classes stand together: by their letters, then by their number (16QAM, 64QAM, 128QAM)."""

    def key(k: int) -> tuple[str, int]:
        name = NUMBERED.get(names[k], names[k])
        letters = name.lstrip("0123456789")
        return letters, int(name.removesuffix(letters) or 0)

    return sorted(range(len(names)), key=key)


def draw_shares(axis: Axes, counts: Tensor, names: Sequence[str]) -> AxesImage:
    """Share of each true class (row) that was given each label (column), in percent where there is room.

    Args:
        axis: to draw on.
        counts: (K, K) integers, rows = truth.
        names: K class names.
    """
    share = (counts / counts.sum(dim=1, keepdim=True).clamp(min=1)).numpy()
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    if len(names) <= MAX_LABELLED:
        for row, column in np.argwhere(share >= 0.01):
            colour = "white" if share[row, column] > 0.5 else "0.25"
            text = f"{100 * share[row, column]:.0f}"
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=6)
    return image


def share_bar(figure: Figure, image: AxesImage, axes: np.ndarray) -> None:
    """The colour scale of confusion matrices."""
    bar = figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8, aspect=30)
    bar.set_ticks([0.0, 0.5, 1.0], labels=["0 %", "50 %", "100 %"])


def perturbation_impact(
    levels: Sequence[int],
    clean: Mapping[str, float],
    accuracy: Mapping[str, Sequence[Mapping[str, float]]],
    score: Mapping[str, Sequence[Mapping[str, float]]],
    unit: str,
) -> Figure:
    """Accuracy while more and more of the input is removed, and below it the impact score: what a share costs.

    Args:
        levels: L shares removed, in percent.
        clean: accuracy with nothing removed, by name: ``modulation``, ``snr`` and ``combined``.
        accuracy: the same at each level, by what was removed: ``top``, ``bottom`` and ``random``.
        score: perturbation impact scores, alike; NaN = nothing was removed.
        unit: what was removed, such as ``pixels``.
    """
    figure = Figure(figsize=(3.2 * len(clean), 5.4), layout="constrained")
    axes = figure.subplots(2, len(clean), sharex=True, sharey="row", squeeze=False)
    for column, name in zip(axes.T, clean, strict=True):
        for order, colour in ORDER_COLOURS.items():
            shares = [100 * row[name] for row in (clean, *accuracy[order])]
            column[0].plot([0, *levels], shares, color=colour, marker="o", markersize=4, label=f"{order} {unit}")
            column[1].plot(levels, [row[name] for row in score[order]], color=colour, marker="o", markersize=4)
        column[0].set_title(NAMES[name], fontsize=11)
        column[1].axhline(0, color="0.4", linewidth=0.8, zorder=0.8)
        column[1].set_xlabel(f"{unit} removed / %")
    axes[0, 0].set_ylabel("accuracy / %")
    axes[1, 0].set_ylabel("impact score")
    axes[0, 0].set_ylim(bottom=0)
    lowest, highest = axes[1, 0].get_ylim()
    axes[1, 0].set_ylim(min(lowest, -0.1), max(highest, 0.1))  # rounding errors about 0 are no picture
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure
