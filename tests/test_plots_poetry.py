"""Pictures of autoencoders of poems: what is drawn is what was measured."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from cvkan import plots_poetry

AUTHORS = ["Ann", "Bo", None, "Ann", "Cy", "Bo", "Ann", "Bo"]


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


def codes(n: int, d: int = 5) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, d + 1)


def test_latent_space_has_main_components_and_neighbours_by_length_and_author() -> None:
    z, lengths = codes(8), [3, 5, 7, 9, 11, 13, 15, 17]
    figure = drawn(plots_poetry.latent_space(z, lengths, AUTHORS))
    by_length, neighbours, by_author, _ = figure.axes[:4]
    pca = PCA(2).fit(z.numpy())
    points = by_length.collections[0].get_offsets()
    np.testing.assert_allclose(np.abs(points), np.abs(pca.transform(z.numpy())), rtol=1e-4, atol=1e-5)
    assert (
        by_length.get_title()
        == f"two main components, {100 * pca.explained_variance_ratio_.sum():.0f} % of the variance"
    )
    assert neighbours.get_title() == "t-SNE"
    np.testing.assert_array_equal(by_length.collections[0].get_array(), lengths)
    labels = {dots.get_label(): dots for dots in by_author.collections}
    assert list(labels) == ["others and unknown", "Ann", "Bo", "Cy"]
    np.testing.assert_allclose(labels["Ann"].get_offsets(), points[[0, 3, 6]])
    np.testing.assert_allclose(labels["others and unknown"].get_offsets(), points[[2]])
    assert len({tuple(dots.get_facecolor()[0]) for dots in labels.values()}) == 4


def test_rare_authors_share_one_colour() -> None:
    authors = [f"poet {k}" for k in range(12) for _ in range(12 - k)]
    figure = drawn(plots_poetry.latent_space(codes(len(authors)), range(len(authors)), authors))
    rest, *frequent = figure.axes[2].collections
    assert [dots.get_label() for dots in frequent] == [f"poet {k}" for k in range(8)]
    assert len(rest.get_offsets()) == 4 + 3 + 2 + 1
    assert tuple(rest.get_facecolor()[0]) == to_rgba("0.75")


def test_without_authors_only_the_length_is_drawn() -> None:
    figure = drawn(plots_poetry.latent_space(codes(8), range(8), [None] * 8))
    assert len(figure.axes) == 3  # two panels and the colour scale


@pytest.mark.parametrize(("n", "d", "n_panels"), [(1, 3, 1), (4, 3, 1), (5, 3, 2), (9, 1, 2), (40, 16, 2)])
def test_few_chunks_and_small_codes_are_drawn(n: int, d: int, n_panels: int) -> None:
    figure = drawn(plots_poetry.latent_space(codes(n, d), range(n), [None] * n))
    assert len(figure.axes) == n_panels + 1
    assert all(np.isfinite(axis.collections[0].get_offsets()).all() for axis in figure.axes[:n_panels])


def test_codes_that_are_all_equal_are_drawn() -> None:
    drawn(plots_poetry.latent_space(torch.ones(6, 3), range(6), [None] * 6))


def test_neighbours_are_the_same_every_time_and_keep_clusters_apart() -> None:
    z = codes(30) + 40 * (torch.arange(30) % 2)[:, None]
    start, _ = plots_poetry.principal_plane(z)
    first, second = (plots_poetry.neighbour_map(z, start) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    even, odd = first[::2], first[1::2]
    spread = max(np.linalg.norm(group - group.mean(axis=0), axis=1).max() for group in (even, odd))
    assert np.linalg.norm(even.mean(axis=0) - odd.mean(axis=0)) > spread


def test_cosine_by_position_draws_the_constant_beside_and_leaves_gaps() -> None:
    cosine, constant = torch.tensor([0.9, 0.5, torch.nan]), torch.tensor([0.3, 0.2, torch.nan])
    (axis,) = drawn(plots_poetry.cosine_by_position(cosine, constant)).axes
    for line, values in zip(axis.lines, (cosine, constant), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        np.testing.assert_allclose(line.get_ydata(), values)


def test_code_use_draws_one_bar_a_condition_from_the_top_and_the_constant() -> None:
    cosine = {"free-running": 0.7, "code set to zero": 0.25, "code of another poem": -0.1}
    (axis,) = drawn(plots_poetry.code_use(cosine, 0.3)).axes
    bars = {label.get_text(): bar for label, bar in zip(axis.get_yticklabels(), axis.patches, strict=True)}
    assert {name: bar.get_width() for name, bar in bars.items()} == pytest.approx(cosine)
    heights = [bars[name].get_y() for name in cosine]
    assert heights == sorted(heights, reverse=True)
    assert [text.get_text() for text in axis.texts] == ["-0.100", "0.250", "0.700"]
    np.testing.assert_allclose(axis.lines[0].get_xdata(), 0.3)
    assert axis.get_xlim()[0] < -0.1
