"""Chance in writing: which word a vector becomes, and which code a text begins with.

Legend: C words to choose from, T tokens, D numbers of a vector, d numbers of a code, n codes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SHARPNESS = 30.0  # own choice: of 1500 words at 0.3 below the nearest, all together get a sixth of its probability
LEAST_TEMPERATURE = 1e-9  # below, the nearest word is certain anyway
JITTER = 1e-4  # of the mean variance: keeps the covariance of few codes positive


def seeded(seed: int | None) -> torch.Generator:
    """A generator of the CPU; without a seed it begins anywhere."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
        return generator
    return generator.manual_seed(seed)


class WordSampler:
    """Words near decoded vectors, drawn by ::

        p(w | y) = exp(30 cos(y, w) / temperature) / sum over the words to choose from

    A temperature towards 0 leaves the nearest word alone.

    Args:
        vectors: (C, D) of the words.
        temperature: 0 or more.
        top_k: choose among so many nearest words; None for all.
        generator: of the CPU, draws.
    """

    def __init__(self, vectors: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> None:
        self.directions = F.normalize(vectors.float(), dim=-1)
        self.n_nearest = len(vectors) if top_k is None else min(top_k, len(vectors))
        self.sharpness = SHARPNESS / max(temperature, LEAST_TEMPERATURE)
        self.generator = generator

    def __call__(self, vectors: Tensor) -> Tensor:
        """A place (T,) among the words for each of some vectors (T, D); on the CPU."""
        cosine = F.normalize(vectors.float(), dim=-1) @ self.directions.T  # (T, C)
        near = cosine.cpu().topk(self.n_nearest, dim=-1)  # descending
        # Measured from the nearest, so that no exponent overflows.
        chances = ((near.values - near.values[:, :1]) * self.sharpness).softmax(dim=-1)
        drawn = torch.multinomial(chances, 1, generator=self.generator)  # (T, 1)
        return near.indices.gather(1, drawn).squeeze(1)


class CodeGaussian:
    """Where codes lie: a normal distribution of their mean and covariance.

    Args:
        mean: (d,).
        covariance: (d, d).
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean, self.covariance = mean, covariance
        variance = covariance.trace().clamp(min=JITTER) / len(mean)
        # float64 for this once: the smallest of many eigenvalues drown in the rounding of the largest.
        raised = covariance.double() + JITTER * variance * torch.eye(len(mean), dtype=torch.float64)
        self.factor = torch.linalg.cholesky(raised).float()  # (d, d)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Codes (n, d); ``generator`` is of the CPU."""
        return self.mean + torch.randn(n, len(self.mean), generator=generator) @ self.factor.T
