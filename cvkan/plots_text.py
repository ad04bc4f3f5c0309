"""Pictures of sentences: data in, matplotlib ``Figure`` out, no file touched.

Legend: L layers, N words of a sentence, W words compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from cvkan.plots import GAIN_COLOURS, gain_bar

if TYPE_CHECKING:
    from cvkan.analysis.word_gain import GainAfter

LINE = 96  # characters of a line of text
N_LINES = 3  # of a sentence, at most
N_WORDS = 14  # of those compared that are drawn
CHARACTER, LINE_HEIGHT = 0.083, 0.26  # inches, of a fixed-width font of the size below
FONT_SIZE = 9
MIN_HEIGHT = 2.8  # inches: room for the label of a colour scale


def shaded_sentences(sentences: Sequence[Sequence[str]], gains: Sequence[Tensor], titles: Sequence[str]) -> Figure:
    """Sentences as text, once a layer, every word on the colour of its gain.

    Args:
        sentences: words of each; what does not fit in three lines is cut off.
        gains: (L, N) of each, the gain of a word over the mean of its sentence and layer.
        titles: one line above each.
    """
    laid = [layout(words) for words in sentences]
    n_lines = [places[-1][0] + 1 if places else 1 for places in laid]
    heights = [LINE_HEIGHT * (1.6 + sum(n + 0.4 for _ in gain)) for n, gain in zip(n_lines, gains, strict=True)]
    size = (CHARACTER * (LINE + 10) + 1.0, max(MIN_HEIGHT, sum(heights) + 0.2))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(sentences), 1, squeeze=False, height_ratios=heights)
    for axis, words, places, n, gain, title in zip(axes[:, 0], sentences, laid, n_lines, gains, titles, strict=True):
        axis.set(xlim=(-9, LINE), ylim=((n + 0.4) * len(gain), -0.2))
        axis.set_title(title, fontsize=9, loc="left")
        axis.set_axis_off()
        for layer, row in enumerate(gain):
            draw_words(axis, words, places, row, top=layer * (n + 0.4))
            axis.text(-9, layer * (n + 0.4) + 0.5, f"layer {layer + 1}", va="center", color="0.4", fontsize=8)
    gain_bar(figure, axes)
    return figure


def layout(words: Sequence[str]) -> list[tuple[int, int]]:
    """Line and column of each word that fits, lines of ``LINE`` characters."""
    places: list[tuple[int, int]] = []
    line = column = 0
    for word in words:
        if column and column + len(word) > LINE:
            line, column = line + 1, 0
        if line == N_LINES:
            break
        places.append((line, column))
        column += len(word) + 1
    return places


def draw_words(axis: Axes, words: Sequence[str], places: Sequence[tuple[int, int]], gain: Tensor, top: float) -> None:
    """Words in their places, on the colours of their gains (N,)."""
    for word, (line, column), colour in zip(words, places, GAIN_COLOURS.to_rgba(gain.numpy()), strict=False):
        dark = np.dot(colour[:3], (0.3, 0.6, 0.1)) < 0.5
        axis.text(
            *(column, top + line + 0.5, word[:LINE]),
            family="monospace",
            fontsize=FONT_SIZE,
            va="center",
            parse_math=False,  # a dollar sign is one
            color="white" if dark else "black",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.2},
        )


def gain_after(found: GainAfter, words: Sequence[str], leading: Sequence[str]) -> Figure:
    """What some words do to the one after them: by layer, and for the most frequent ones in the layer that does most.

    Args:
        found: what :func:`cvkan.analysis.word_gain.gain_after` returned, of at least one word.
        words: W words, in its order.
        leading: the words that the places after were looked at.
    """
    ratio = found.ratio.numpy()
    layer = int(np.abs(np.log(ratio)).argmax())
    n_words = min(N_WORDS, len(words))
    figure = Figure(figsize=(9.5, max(3.2, 0.9 + 0.25 * n_words)), layout="constrained")
    by_layer, by_word = figure.subplots(1, 2, width_ratios=(1, 1.7))
    by_layer.axhline(1.0, color="0.6", linewidth=1)
    by_layer.plot(np.arange(1, len(ratio) + 1), ratio, marker="o")
    by_layer.set(xlabel="layer", ylabel="gain behind / gain elsewhere")
    by_layer.set_title(f"{int(found.n_after.sum())} places", fontsize=9)
    by_layer.xaxis.set_major_locator(MaxNLocator(integer=True))
    by_layer.grid(alpha=0.3)
    rows = np.arange(n_words)
    after, elsewhere = found.after[layer, :n_words].numpy(), found.elsewhere[layer, :n_words].numpy()
    by_word.hlines(rows, elsewhere, after, color="0.7")
    by_word.plot(elsewhere, rows, "o", color="0.5", label="elsewhere")
    by_word.plot(after, rows, "o", color="C3", label="behind")
    counts = found.n_after[:n_words].tolist()
    names = [f"{word} ({n})" for word, n in zip(words[:n_words], counts, strict=True)]
    by_word.set_yticks(rows, names, fontsize=8, parse_math=False)
    by_word.invert_yaxis()
    by_word.set_xlabel(f"gain in layer {layer + 1} / mean gain of the sentence")
    by_word.grid(alpha=0.3, axis="x")
    by_word.legend(fontsize=8)
    figure.suptitle("Words behind " + ", ".join(leading), fontsize=11, parse_math=False)
    return figure
