"""Pictures of autoencoders of poems: data in, matplotlib ``Figure`` out, no file touched.

Legend: n chunks, N places in a chunk, d numbers of a code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

MAX_AUTHORS = 8  # with a colour of their own, those with the most chunks
LEAST_FOR_TSNE = 5  # chunks; fewer have no neighbourhoods
PERPLEXITY = 30.0  # of t-SNE, at most a third of the chunks


def latent_space(codes: Tensor, lengths: Sequence[int], authors: Sequence[str | None]) -> Figure:
    """Where the codes lie: their two main components and t-SNE, coloured by length and, where known, by author.

    Args:
        codes: (n, d), one a chunk.
        lengths: tokens of each chunk.
        authors: of each chunk, None = unknown.
    """
    points, share = principal_plane(codes)
    maps = {f"two main components, {100 * share:.0f} % of the variance": points}
    if len(codes) >= LEAST_FOR_TSNE:
        maps["t-SNE"] = neighbour_map(codes, points)
    n_rows = 1 + any(author is not None for author in authors)
    figure = Figure(figsize=(4.4 * len(maps) + 2.4, 3.8 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, len(maps), squeeze=False)
    for column, (title, place) in enumerate(maps.items()):
        image = axes[0, column].scatter(place[:, 0], place[:, 1], c=list(lengths), cmap="viridis", s=14)
        axes[0, column].set_title(title, fontsize=11)
        if n_rows == 2:
            draw_authors(axes[1, column], place, authors)
    figure.colorbar(image, ax=axes[0, -1], label="tokens of the chunk")
    if n_rows == 2:
        axes[1, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def draw_authors(axis: Axes, points: np.ndarray, authors: Sequence[str | None]) -> None:
    """Points (n, 2), those of one author in one colour; of many authors the rarer ones are grey."""
    frequent = [name for name, _ in Counter(name for name in authors if name is not None).most_common(MAX_AUTHORS)]
    rest = np.array([name not in frequent for name in authors])
    if rest.any():
        axis.scatter(points[rest, 0], points[rest, 1], color="0.75", s=14, label="others and unknown")
    for name, colour in zip(frequent, colormaps["Dark2"](range(len(frequent))), strict=True):
        own = np.array([author == name for author in authors])
        axis.scatter(points[own, 0], points[own, 1], color=colour, s=14, label=name)


def principal_plane(codes: Tensor) -> tuple[np.ndarray, float]:
    """Codes (n, d) along their two main components, (n, 2), and the share of the variance that these hold."""
    centered = (codes - codes.mean(dim=0)).double()
    left, spread, _ = torch.linalg.svd(centered, full_matrices=False)
    plane = (left * spread)[:, :2]
    kept, total = spread[:2].square().sum(), spread.square().sum()
    missing = 2 - plane.shape[1]  # a code of one number, or a single chunk
    return torch.nn.functional.pad(plane, (0, missing)).numpy(), float(kept / total) if total > 0 else 1.0


def neighbour_map(codes: Tensor, start: np.ndarray) -> np.ndarray:
    """t-SNE of codes (n, d) to (n, 2), from the points (n, 2) of their main components: the same map every time.

    Source: van der Maaten and Hinton, "Visualizing data using t-SNE", 2008; start as in Kobak and Berens, "The art of
    using t-SNE for single-cell transcriptomics", 2019.
    """
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(codes) - 1) / 3)
    spread = float(start[:, 0].std()) or 1.0
    small = 1e-4 / spread * start
    return TSNE(perplexity=perplexity, init=small.astype(np.float32), random_state=0).fit_transform(codes.numpy())


def cosine_by_position(cosine: Tensor, constant: Tensor) -> Figure:
    """Mean cosine of the tokens at each place in a chunk, and what one constant vector reaches there.

    Args:
        cosine: (N,) of the decoded vectors, NaN = no token was there.
        constant: (N,) of the mean training vector.
    """
    place = np.arange(1, len(cosine) + 1)
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.plot(place, cosine.numpy(), marker="o", markersize=3.5, label="decoded from the code")
    axis.plot(place, constant.numpy(), "--", color="0.4", linewidth=1.2, label="mean training vector")
    axis.set(xlabel="place in the chunk", ylabel="token cosine", ylim=(min(0.0, axis.get_ylim()[0]), 1.02))
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def code_use(cosine: Mapping[str, float], constant: float) -> Figure:
    """Token cosine under several conditions as bars, the first on top; dashed what one constant vector reaches.

    Args:
        cosine: by the name of the condition, such as ``code set to zero``.
        constant: of the mean training vector.
    """
    figure = Figure(figsize=(6.4, 1.3 + 0.42 * len(cosine)), layout="constrained")
    axis = figure.subplots()
    names = list(cosine)[::-1]
    bars = axis.barh(names, [cosine[name] for name in names], height=0.6)
    axis.bar_label(bars, fmt="%.3f", padding=3, fontsize=9, bbox={"color": "white", "pad": 0.5})
    axis.axvline(constant, color="0.4", linestyle="--", linewidth=1.2)
    axis.set_title(f"token cosine; mean training vector {constant:.3f} (dashed)", fontsize=11)
    axis.set_xlim(min(0.0, axis.get_xlim()[0]), 1.12)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    return figure
