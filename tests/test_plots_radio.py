"""Pictures of radio results: what is drawn is what was measured."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from cvkan import plots_radio

NAMES = ["128QAM", "16QAM", "64QAM", "BPSK"]


def drawn(figure: Figure) -> Figure:
    """The figure after it was rendered; nothing of it may be cut off at its edges."""
    figure.savefig(io.BytesIO(), format="png")
    inside = figure.bbox
    found = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert found.x0 >= inside.x0 - 1
    assert found.y0 >= inside.y0 - 1
    assert found.x1 <= inside.x1 + 1
    assert found.y1 <= inside.y1 + 1
    return figure


def test_accuracy_over_snr_draws_measured_and_best_possible() -> None:
    snr_db = [-10.0, 0.0, 10.0]
    accuracy = {"modulation": torch.tensor([0.1, 0.5, 0.9]), "combined": torch.tensor([0.0, torch.nan, 0.8])}
    bound = {"modulation": torch.tensor([0.2, 0.6, 1.0])}
    (axis,) = drawn(plots_radio.accuracy_over_snr(snr_db, accuracy, bound)).axes
    measured, both, best = (line.get_xydata() for line in axis.lines[:3])
    np.testing.assert_allclose(measured, np.column_stack([snr_db, [0.1, 0.5, 0.9]]), rtol=1e-6)
    assert np.isnan(both[1, 1])
    np.testing.assert_allclose(best[:, 1], [0.2, 0.6, 1.0], rtol=1e-6)
    assert axis.lines[0].get_color() == axis.lines[2].get_color() != axis.lines[1].get_color()
    assert len(plots_radio.accuracy_over_snr(snr_db, accuracy, None).axes[0].lines) == 2


def test_modulation_confusion_splits_the_snrs_in_three_and_says_where() -> None:
    counts = torch.zeros(7, 4, 4, dtype=torch.long)
    counts[:3, 1, 1], counts[:3, 1, 2] = 3, 1  # 16QAM is taken for 64QAM
    counts[3:5, 3, 3] = 2
    snr_db = [float(level) for level in range(-6, 8, 2)]
    axes = drawn(plots_radio.modulation_confusion(counts, NAMES, snr_db)).axes[:3]
    assert [axis.get_title() for axis in axes] == [
        "low SNR: -6 to -2 dB\n75.0 % right of 12",
        "mid SNR: 0 to 2 dB\n100.0 % right of 4",
        "high SNR: 4 to 6 dB\n0.0 % right of 0",
    ]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["BPSK", "16QAM", "64QAM", "128QAM"]
    expected = np.zeros((4, 4))
    expected[1, 1], expected[1, 2] = 0.75, 0.25
    np.testing.assert_allclose(axes[0].images[0].get_array(), expected)
    assert {text.get_text() for text in axes[0].texts} == {"75", "25"}


@pytest.mark.parametrize("n_levels", [1, 2])
def test_fewer_than_three_snrs_have_a_matrix_each(n_levels: int) -> None:
    counts = torch.ones(n_levels, 4, 4, dtype=torch.long)
    figure = drawn(plots_radio.modulation_confusion(counts, NAMES, [0.0, 10.0][:n_levels]))
    titles = [axis.get_title().partition("\n")[0] for axis in figure.axes[:-1]]
    assert titles == ["SNR: 0 dB", "SNR: 10 dB"][:n_levels]


@pytest.mark.parametrize("n_levels", [1, 3, 26])
def test_snr_confusion_has_the_true_level_in_rows(n_levels: int) -> None:
    counts = torch.arange(n_levels**2).reshape(n_levels, n_levels)
    snr_db = [2.0 * k - 20 for k in range(n_levels)]
    axis = drawn(plots_radio.snr_confusion(counts, snr_db)).axes[0]
    share = counts.numpy() / np.maximum(counts.numpy().sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(axis.images[0].get_array(), share, rtol=1e-6)
    assert axis.get_ylabel() == "true SNR / dB"
    assert [label.get_text() for label in axis.get_yticklabels()] == [f"{level:g}" for level in snr_db]


def test_f1_bars_are_sorted_and_a_class_without_one_is_marked() -> None:
    f1 = torch.tensor([0.5, torch.nan, 0.9, 0.0])
    (axis,) = drawn(plots_radio.f1_per_class(f1, NAMES)).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["16QAM", "BPSK", "128QAM", "64QAM"]
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([0, 0, 0.5, 0.9])
    assert [text.get_text() for text in axis.texts] == ["none", "0.00", "0.50", "0.90"]
    assert "mean 0.467" in axis.get_title()


def test_related_classes_stand_together() -> None:
    names = ["128QAM", "16APSK", "16QAM", "256QAM", "32APSK", "8PSK", "BPSK", "FM", "OQPSK", "QPSK", "64"]
    ordered = [names[k] for k in plots_radio.by_family(names)]
    assert ordered == ["64", "16APSK", "32APSK", "FM", "BPSK", "OQPSK", "QPSK", "8PSK", "16QAM", "128QAM", "256QAM"]
