"""A bag of words beside the network: it starts as the naive Bayes classifier of the training sentences.

Legend: B batch, N words of a sample, V words of the vocabulary, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.models.skip import Skip
from cvkan.models.words import PADDING, check_words
from cvkan.spec import Batch, Spec


class BagOfWordsSkip(Skip):
    """logits + scale (b + sum over the different words w of the sample of (W_0 + rate W)_w), W_0 and W (V, K).

    How often a word stands in a sample and where plays no part. W_0 and b are a fixed start and W, from 0 on, what
    training changes about it. Adam moves every weight by about its learning rate, so that ``rate`` is that of the words
    in units of the network's. With ``start="naive_bayes"``

    ::

        W_0,wk = log p(w | k) - mean_j log p(w | j),   p(w | k) = (alpha + n_wk) / sum_v (alpha + n_vk)

    n_wk being how many training samples of class k have the word, and b is the logarithm of the share of class k. A
    word that none has gives 0.

    Args:
        spec: samples of ids (N,) with a vocabulary, one class each.
        start: ``naive_bayes``, which the task lets it take from the training samples; or ``zero``.
        smoothing: alpha; 1 is Laplace's.
        scale: factor on all of it. The sum is too sure of itself, as it counts every word as if it knew nothing of the
            others, and on the training samples more so, as their own words are in the counts.
        rate: at least 0; 0 keeps the words at their start.

    Raises:
        ValueError: the samples are no words or have no class, or an argument is out of range.

    Source: Wang and Manning, "Baselines and bigrams: simple, good sentiment and topic classification", 2012, the
        binarised multinomial naive Bayes; that it learns on, beside a network, is our own choice.
    """

    start_weight: Tensor
    start_bias: Tensor

    def __init__(self, spec: Spec, start: str, smoothing: float, scale: float, rate: float) -> None:
        super().__init__()
        check_words(spec, "skip=bag_of_words")
        if spec.target != "classes":
            raise ValueError(f"skip=bag_of_words tells classes, the data has {spec.target!r}; set skip=none")
        if start not in ("naive_bayes", "zero"):
            raise ValueError(f"start must be naive_bayes or zero, got {start!r}; set skip.start=naive_bayes")
        if not smoothing > 0 or not scale > 0:
            raise ValueError(f"smoothing and scale must be positive, got {smoothing} and {scale}; set skip.smoothing=1")
        if rate < 0:
            raise ValueError(f"rate must not be negative, got {rate}; set skip.rate=0 to keep the words at their start")
        self.from_counts, self.smoothing, self.scale, self.rate = start == "naive_bayes", smoothing, scale, rate
        size = len(spec.vocabulary), spec.n_outputs
        self.register_buffer("start_weight", torch.zeros(size))
        self.register_buffer("start_bias", torch.zeros(spec.n_outputs))
        self.weight = nn.Parameter(torch.zeros(size)) if rate else None

    def forward(self, logits: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K), with those of the bag of the ids x (B, N) added; mask (B, N), 1 = valid."""
        words, once = different_words(x, mask)
        weight = self.start_weight if self.weight is None else self.start_weight + self.rate * self.weight
        votes = F.embedding_bag(words, weight, mode="sum", per_sample_weights=once.to(weight))  # (B, K)
        return logits + self.scale * (self.start_bias + votes)

    def start_from(self, train: Batch) -> None:
        """Start as the naive Bayes classifier of all training samples, if that is the start."""
        if not self.from_counts:
            return
        words, once = different_words(train["x"], train.get("mask"))
        n_words, n_classes = self.start_weight.shape
        cell = words * n_classes + train["y"][:, None]  # (B, N), place in the table of counts
        counts = torch.bincount(cell[once], minlength=n_words * n_classes).view(n_words, n_classes).float()
        smoothed = counts + self.smoothing
        log_p = (smoothed / (smoothed.sum(dim=0) - smoothed[PADDING])).log()
        weights = log_p - log_p.mean(dim=1, keepdim=True)
        self.start_weight.copy_(weights.masked_fill(counts.sum(dim=1, keepdim=True) == 0, 0.0))
        share = torch.bincount(train["y"], minlength=n_classes) + self.smoothing
        self.start_bias.copy_((share / share.sum()).log())


def different_words(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Ids (B, N), those of each sample sorted, and which of them (B, N) are valid and no repetition.

    Args:
        x: (B, N) ids.
        mask: (B, N), 1 = valid; None where all are.
    """
    words = x if mask is None else x.masked_fill(mask == 0, PADDING)
    words = words.sort(dim=1).values
    repeated = F.pad(words[:, 1:] == words[:, :-1], (1, 0))  # (B, N)
    return words, (words != PADDING) & ~repeated
