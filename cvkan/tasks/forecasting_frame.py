"""How a network sees a window of a series, and how its answer is led back to the scale of the data.

A network is given one channel at a time, ``(B C, L)``, normalised by what the window alone tells. Its answer stands on
that scale and is led back by the same numbers.

Legend: B batch, C channels, L steps of a window, H steps ahead, T either.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """Place and scale of each window and channel: what the network sees is ``(x - location) / scale``.

    Attributes:
        location: (B, 1, C).
        scale: (B, 1, C), positive.
    """

    location: Tensor
    scale: Tensor

    def fold(self, series: Tensor) -> Tensor:
        """Series (B, T, C), normalised, channels into the batch: (B C, T). Channels of one window stand together."""
        return ((series - self.location) / self.scale).transpose(1, 2).flatten(0, 1)  # (B C, T)

    def unfold(self, output: Tensor, kept: Tensor | None = None) -> Tensor:
        """Answers of a network, led back to the scale of the data.

        Args:
            output: (B C, T) or, with quantiles, (B C, T, Q).
            kept: (T,) share of the location that each step keeps, None = all of it.

        Returns:
            (B, T, C) or (B, T, C, Q).
        """
        n_channels = self.location.shape[-1]
        series = output.unflatten(0, (-1, n_channels)).transpose(1, 2)  # (B, T, C) or (B, T, C, Q)
        location = self.location if kept is None else self.location * kept[:, None]  # (B, 1 or T, C)
        several = (..., *[None] * (series.dim() - location.dim()))  # quantiles share place and scale
        return series * self.scale[several] + location[several]


class Normalization:
    """Base of all normalisations."""

    def __call__(self, x: Tensor) -> Frame:
        """The frame of windows (B, L, C), made of nothing but the windows."""
        raise NotImplementedError


class WindowNormalization(Normalization):
    """Mean and standard deviation of the window, ``scale = sqrt(var + eps)``.

    Args:
        eps: added to the variance, above 0.

    Raises:
        ValueError: ``eps`` is not positive.

    Source: Kim et al., "Reversible Instance Normalization", 2022, without its learned scale and shift.
    """

    def __init__(self, eps: float) -> None:
        if not eps > 0:
            raise ValueError(f"eps must be above 0, got {eps}; set normalization.eps=1e-5")
        self.eps = eps

    def __call__(self, x: Tensor) -> Frame:
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)  # (B, 1, C)
        return Frame(mean, torch.sqrt(variance + self.eps))


class LastNormalization(Normalization):
    """Relative to the last value of the window; the scale stays.

    Source: NLinear of Zeng et al., "Are Transformers Effective for Time Series Forecasting?", 2023.
    """

    def __call__(self, x: Tensor) -> Frame:
        last = x[:, -1:]  # (B, 1, C)
        return Frame(last, torch.ones_like(last))


class NoNormalization(Normalization):
    """Place 0, scale 1."""

    def __call__(self, x: Tensor) -> Frame:
        last = x[:, -1:]  # (B, 1, C)
        return Frame(torch.zeros_like(last), torch.ones_like(last))
