"""The loss of vectors that are to be given back: their direction, their length, or both.

Legend: B batch, N tokens, D numbers of a vector.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SPACES = ("raw", "unit")


class HybridCosine(nn.Module):
    """``mean over real tokens of [a (1 - cos(x, y)) / temperature + b mean_d (x_d - y_d)^2]``.

    The mean is one sum over one count for the whole batch: every real token weighs the same, whatever the length of its
    sequence, and what stands at padded places changes nothing. The temperature scales the gradient of the cosine and
    leaves the minimum of the loss at 0.

    Args:
        cosine_weight: a, not negative.
        mse_weight: b, not negative. The squared error is a mean over the D numbers of a vector.
        temperature: positive; below 1 the cosine weighs more.
        target_space: ``raw``: the vectors as they are. ``unit``: all vectors are given unit length first, so that
            their length is not trained; see :meth:`in_space`.
        eps: lengths below count as this one, so that a vector of zeros has a finite gradient.

    Raises:
        ValueError: an argument is out of range.

    Source: own choice of the weights; the cosine alone leaves the length open, the squared error alone drowns rare
    words.
    """

    def __init__(
        self,
        cosine_weight: float,
        mse_weight: float,
        temperature: float,
        target_space: Literal["raw", "unit"],
        eps: float,
    ) -> None:
        super().__init__()
        if min(cosine_weight, mse_weight) < 0 or cosine_weight == mse_weight == 0:
            raise ValueError(
                f"cosine_weight and mse_weight must be 0 or more, not both 0, got {cosine_weight} and {mse_weight}; "
                "set cosine_weight=0.9 and mse_weight=0.1, for example"
            )
        for name, value in {"temperature": temperature, "eps": eps}.items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}; set a number above 0")
        if target_space not in SPACES:
            raise ValueError(f"target_space must be raw or unit, got {target_space!r}; set target_space=raw")
        self.cosine_weight, self.mse_weight, self.temperature = cosine_weight, mse_weight, temperature
        self.target_space, self.eps = target_space, eps

    def in_space(self, x: Tensor) -> Tensor:
        """Vectors (..., D) as the network is to see them and to give them back; vectors of zeros stay such."""
        return F.normalize(x, dim=-1, eps=self.eps) if self.target_space == "unit" else x

    def forward(self, output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Scalar loss of vectors (B, N, D), their targets alike and a mask (B, N), 1 = real token."""
        padded = ~mask.bool()
        # Filled before anything is computed: the gradient of what is masked later would be 0 * inf.
        x = output.float().masked_fill(padded[..., None], 0.0)
        y = self.in_space(target.float()).masked_fill(padded[..., None], 0.0)
        off = 1 - F.cosine_similarity(x, y, dim=-1, eps=self.eps)  # (B, N)
        squared = (x - y).square().mean(dim=-1)  # (B, N)
        of_token = self.cosine_weight / self.temperature * off + self.mse_weight * squared  # (B, N)
        n_real = (~padded).sum().clamp(min=1)
        return torch.where(padded, 0.0, of_token).sum() / n_real
