"""How well sequences of vectors are given back, and how much of its room a code uses: sums over batches.

Legend: B batch, N tokens, T real tokens of a batch, V ids, D numbers of a vector, d numbers of a code, G groups.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from cvkan.poetry.nearest import NearestWord
from cvkan.poetry.vectors import Table

TENS = 10  # places that one row of a table tells of
COLUMNS = ("count", "token_cosine", "constant_cosine", "right")  # sums of a group of tokens
KINDS = ("other", "seen", "unseen")  # marks and unknown words; words that training had; words that it had not
KEPT_VARIANCE = 0.99


class ReconstructionScores(Metric):
    """Sums that all figures of given-back sequences follow from; padding has no part in any.

    Every mean over tokens is one sum over one count for all batches. A word is right if the nearest candidate
    (:class:`~cvkan.poetry.vectors.Table`) is its own; marks and unknown words are no candidates, and only their cosine
    counts, apart from that of the words. Words that no training sequence has are counted among the words, and apart.

    Args:
        table: words and vectors; gives the candidates.
        constant: (D,), the mean training vector, as one constant answer to everything.
        center: (D,), the same among the vectors that are given back; differs where these have unit length.
        trained: bool (V,), the ids that some training sequence has. Words whose vector none of these has are unseen.
        max_length: N.
        has_lengths: the vectors' lengths are given back too, so that the squared error means something.
    """

    constant: Tensor
    center: Tensor
    candidate: Tensor
    kind: Tensor
    by_kind: Tensor
    by_place: Tensor
    by_length: Tensor
    squared: Tensor
    sequences: Tensor

    def __init__(
        self, table: Table, constant: Tensor, center: Tensor, trained: Tensor, max_length: int, has_lengths: bool
    ) -> None:
        super().__init__()
        self.has_lengths, self.dimension = has_lengths, len(constant)
        self.nearest = NearestWord(table.matrix[table.candidates])
        known = {"constant": constant, "center": center, "candidate": table.candidate}
        for name, tensor in {**known, "kind": kinds(table.candidate, trained)}.items():
            self.register_buffer(name, tensor, persistent=False)
        # Kinds as below; places 0 to N - 1; lengths 0 to N.
        for name, n_groups in {"by_kind": len(KINDS), "by_place": max_length, "by_length": max_length + 1}.items():
            self.add_state(name, torch.zeros(n_groups, len(COLUMNS)), dist_reduce_fx="sum")
        self.add_state("squared", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("sequences", torch.zeros(3), dist_reduce_fx="sum")  # count, cosine, centred cosine

    def update(self, output: Tensor, target: Tensor, ids: Tensor, mask: Tensor) -> None:
        """Count a batch: vectors (B, N, D) beside the true ones, ids (B, N) of these, and a mask (B, N)."""
        valid, output = mask.bool(), output.float()
        x, y, wanted = output[valid], target[valid], self.candidate[ids[valid]]  # (T, D), (T,)
        is_word = wanted >= 0
        right = is_word & (self.nearest(x) == wanted)
        cosine, constant = F.cosine_similarity(x, y, dim=-1), F.cosine_similarity(self.constant, y, dim=-1)
        sums = torch.stack([torch.ones_like(cosine), cosine, constant, right.float()], dim=-1)  # (T, 4)
        length = valid.sum(dim=1, keepdim=True).expand_as(ids)[valid]  # (T,)
        place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)[valid]  # (T,)
        self.by_kind = self.by_kind.index_add(0, self.kind[ids[valid]], sums)
        self.by_place = self.by_place.index_add(0, place, sums)
        self.by_length = self.by_length.index_add(0, length, sums)
        self.squared = self.squared + (x - y).square().sum()
        pooled, true = (self._pooled(vectors, valid) for vectors in (output, target))  # (B, D)
        plain = F.cosine_similarity(pooled, true, dim=-1)
        centered = F.cosine_similarity(pooled - self.center, true - self.center, dim=-1)
        self.sequences = self.sequences + torch.stack([torch.ones_like(plain), plain, centered]).sum(dim=1)

    @staticmethod
    def _pooled(vectors: Tensor, valid: Tensor) -> Tensor:
        """Mean (B, D) over the real tokens of each sequence (B, N, D)."""
        total = vectors.masked_fill(~valid[..., None], 0.0).sum(dim=1)
        return total / valid.sum(dim=1, keepdim=True).clamp(min=1)

    def compute(self) -> dict[str, Tensor]:
        """Scalars by name; NaN where nothing was counted. Those of unseen words are absent where there are none."""
        n, cosine, constant, right = self.by_kind.sum(dim=0)
        others, seen, unseen = self.by_kind
        words = seen + unseen
        figures = {
            "token_cosine": cosine / n,
            "skill": (cosine - constant) / (n - constant),
            "word_accuracy": right / words[0],
            "words_token_cosine": words[1] / words[0],
            "others_token_cosine": others[1] / others[0],
            "sequence_cosine": self.sequences[1] / self.sequences[0],
            "sequence_cosine_centered": self.sequences[2] / self.sequences[0],
        }
        if unseen[0]:
            figures |= {
                "unseen_words": unseen[0],
                "unseen_words_share": unseen[0] / words[0],
                "unseen_words_token_cosine": unseen[1] / unseen[0],
            }
        if self.has_lengths:
            of_token = self.squared / n  # sum over the D numbers
            mse = of_token / self.dimension
            figures |= {"mse": mse, "rmse": mse.sqrt(), "vector_error": of_token.sqrt()}
        return figures

    def places(self) -> list[dict[str, Any]]:
        """One row for every ten places in a chunk, from the first: mean cosines and the number of tokens."""
        return by_tens(self.by_place, "tokens")

    def lengths(self) -> list[dict[str, Any]]:
        """One row for every ten lengths of a chunk, from 1."""
        return by_tens(self.by_length[1:], "chunk_length")


def kinds(candidate: Tensor, trained: Tensor) -> Tensor:
    """The kind of each id, its place in ``KINDS``: (V,) int64.

    ``The`` is seen if training had ``the`` and both have one vector.

    Args:
        candidate: (V,), see :class:`~cvkan.poetry.vectors.Table`.
        trained: bool (V,), the ids that training had.
    """
    is_word = candidate >= 0
    is_seen = torch.isin(candidate, candidate[trained & is_word])
    return is_word.long() + (is_word & ~is_seen).long()


class CodeStatistics(Metric):
    """Covariance of codes, and how many dimensions they fill.

    ``effective_dimensions`` is ``(sum l)^2 / sum l^2`` over the eigenvalues l of the covariance, the participation
    ratio: d for a round cloud, 1 for a line. ``dimensions_99`` counts the principal components that hold 99 % of the
    variance. Codes are counted as they were before a batch norm, which makes all variances equal.

    Args:
        d_latent: d.
    """

    count: Tensor
    origin: Tensor
    mean: Tensor
    scatter: Tensor

    def __init__(self, d_latent: int) -> None:
        super().__init__()
        # Stacked over processes, not summed, and relative to the first code that a process meets: deviations lose no
        # digits where the mean is large.
        self.add_state("count", torch.zeros(()), dist_reduce_fx=None)
        self.add_state("origin", torch.zeros(d_latent), dist_reduce_fx=None)
        self.add_state("mean", torch.zeros(d_latent), dist_reduce_fx=None)
        self.add_state("scatter", torch.zeros(d_latent, d_latent), dist_reduce_fx=None)

    def update(self, codes: Tensor) -> None:
        """Count codes (n, d), at least one."""
        codes = codes.float()
        self.origin = torch.where(self.count > 0, self.origin, codes[0])
        codes = codes - self.origin
        mean = codes.mean(dim=0)
        new = (codes.new_tensor(len(codes)), mean, (codes - mean).mT @ (codes - mean))
        old = (self.count, self.mean, self.scatter)
        self.count, self.mean, self.scatter = merged(*(torch.stack(pair) for pair in zip(old, new, strict=True)))

    def compute(self) -> dict[str, Tensor]:
        """Both figures; NaN for fewer than two codes or codes that are all equal."""
        count, origin = self.count.view(-1), self.origin.view(-1, self.origin.shape[-1])
        mean = self.mean.view_as(origin) + (origin - origin[:1])
        _, _, scatter = merged(count, mean, self.scatter.view(-1, *self.scatter.shape[-2:]))
        variance = torch.linalg.eigvalsh(scatter.cpu().double()).flip(0).clamp(min=0)  # (d,) descending
        share = (variance / variance.sum()).cumsum(dim=0)
        n_99 = (share < KEPT_VARIANCE).sum() + 1
        effective = variance.sum() ** 2 / variance.square().sum()
        n_99 = torch.where(share.isnan().any(), torch.nan, n_99)
        figures = {"effective_dimensions": effective, "dimensions_99": n_99}
        return {name: value.float().to(scatter.device) for name, value in figures.items()}


def merged(count: Tensor, mean: Tensor, scatter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and scatter of the union of G groups: (G,), (G, d), (G, d, d) to (), (d,), (d, d).

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """
    total = count.sum()
    center = (count[:, None] * mean).sum(dim=0) / total.clamp(min=1)
    off = mean - center  # (G, d)
    return total, center, scatter.sum(dim=0) + off.mT @ (count[:, None] * off)


def by_tens(sums: Tensor, name: str) -> list[dict[str, Any]]:
    """Sums (G, 4) of groups 1, 2, ... as rows of ten groups each; rows that no token falls into are left out.

    Args:
        sums: columns as in ``COLUMNS``.
        name: of the column that says which groups a row is about.
    """
    rows = []
    for start, part in zip(range(1, len(sums) + 1, TENS), sums.split(TENS), strict=True):
        n, cosine, constant, _ = part.sum(dim=0).tolist()
        if n:
            groups = f"{start}-{start + len(part) - 1}"
            row = {name: groups, "token_cosine": cosine / n, "constant_cosine": constant / n, "count": int(n)}
            rows.append(row)
    return rows
