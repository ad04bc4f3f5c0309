"""Pictures of sentences: what is drawn is what was measured."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from cvkan import plots_text
from cvkan.analysis.word_gain import GainAfter
from cvkan.plots import GAIN_COLOURS


def drawn(figure: Figure) -> Figure:
    """The figure after it was rendered; no text of it may be cut off at its edges."""
    figure.savefig(io.BytesIO(), format="png")
    inside, found = figure.bbox, figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert found.x0 >= inside.x0 - 1
    assert found.x1 <= inside.x1 + 1
    assert found.y1 <= inside.y1 + 1
    return figure


def test_each_word_stands_on_the_colour_of_its_gain_once_a_layer() -> None:
    words = ["not", "a", "good", "plot", "$_{"]
    gain = torch.tensor([[0.5, 1.0, 1.5, 1.0, 1.0], [2.0, 0.1, 1.0, 1.0, 0.9]])
    figure = drawn(plots_text.shaded_sentences([words, words[:2]], [gain, gain[:, :2]], ["first", "second"]))
    for axis, shown in zip(figure.axes[:2], (words, words[:2]), strict=True):
        texts = [text for text in axis.texts if not text.get_text().startswith("layer")]
        assert [text.get_text() for text in texts] == 2 * shown
        for text, value in zip(texts, gain[:, : len(shown)].flatten().tolist(), strict=True):
            assert to_rgba(text.get_bbox_patch().get_facecolor()) == pytest.approx(GAIN_COLOURS.to_rgba(value))
    assert figure.axes[1].get_title(loc="left") == "second"


def test_words_of_a_sentence_do_not_overlap() -> None:
    words = ["extraordinarily", "i", "mm", "uncompromising"] * 8
    figure = plots_text.shaded_sentences([words], [torch.ones(1, len(words))], [""])
    drawn(figure)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text() in words]
    for one, other in pairwise(boxes):
        assert one.x1 <= other.x0 or one.y0 >= other.y1


def test_a_sentence_of_ten_thousand_words_takes_three_lines() -> None:
    places = plots_text.layout(["word"] * 10_000)
    assert {line for line, _ in places} == {0, 1, 2}
    assert all(column + 4 <= plots_text.LINE for _, column in places)
    assert plots_text.layout(["x" * 500, "y"]) == [(0, 0), (1, 0)]


def test_words_behind_are_drawn_in_the_layer_that_does_most() -> None:
    after = torch.tensor([[1.0, 1.1], [1.8, 1.4]])
    found = GainAfter(torch.tensor([5, 6]), torch.tensor([3, 1]), after, torch.ones(2, 2))
    figure = drawn(plots_text.gain_after(found, ["good", "plot"], ["not", "never"]))
    by_layer, by_word = figure.axes
    np.testing.assert_allclose(by_layer.lines[1].get_ydata(), [4.1 / 4, 6.8 / 4], rtol=1e-6)
    elsewhere, behind = by_word.lines
    np.testing.assert_allclose(elsewhere.get_xdata(), [1.0, 1.0])
    np.testing.assert_allclose(behind.get_xdata(), [1.8, 1.4], rtol=1e-6)
    assert [label.get_text() for label in by_word.get_yticklabels()] == ["good (3)", "plot (1)"]
    assert "layer 2" in by_word.get_xlabel()
