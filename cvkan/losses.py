"""Losses of several tasks at once, and the loss of a signal-to-noise ratio whose levels are ordered.

Legend: B batch, n tasks, S levels of the SNR.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MultiTaskLoss(nn.Module):
    """Weighted sum of the losses of named tasks, ``sum_i w_i L_i`` and what keeps the weights in place.

    A subclass implements :meth:`weigh`.

    Args:
        losses: by the name of its task, a module ``(logits, targets) -> scalar``.

    Raises:
        ValueError: there is none.
    """

    def __init__(self, losses: Mapping[str, nn.Module]) -> None:
        super().__init__()
        if not losses:
            raise ValueError("a multi-task loss needs losses by name, got none; set losses={NAME: LOSS}")
        self.losses = nn.ModuleDict(losses)

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks, in the order of :meth:`parts`."""
        return tuple(self.losses)

    def parts(self, logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Loss of every task, (n,) float32; logits and targets by name."""
        return torch.stack([loss(logits[name], targets[name]).float() for name, loss in self.losses.items()])

    def weigh(self, parts: Tensor) -> tuple[Tensor, Tensor | float]:
        """Weights (n,) of tasks of these losses (n,), and the scalar that keeps learned weights from running away."""
        raise NotImplementedError

    def combine(self, parts: Tensor) -> Tensor:
        """The scalar to be minimized, from the losses (n,) of the tasks."""
        weights, penalty = self.weigh(parts)
        return (weights * parts).sum() + penalty

    def shares(self, parts: Tensor) -> Tensor:
        """Weights over their sum, (n,) without gradient: what a run reports."""
        weights = self.weigh(parts)[0].detach()
        return weights / weights.sum()

    def forward(self, logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        return self.combine(self.parts(logits, targets))


class Kendall(MultiTaskLoss):
    """Learned log-variances s_i in [-limit, limit]: ``L = sum_i [exp(-s_i) / 2 * L_i + s_i / 2]``.

    At a limit of 2 a weight exp(-s) / 2 lies between 0.068 and 3.69, so a floor under the weights would never act: the
    floor is under their shares, and the sum of the weights stays what it is.

    Args:
        losses: see :class:`MultiTaskLoss`.
        min_weight: least share of a task, from 0 to below 1 / n.
        limit: largest absolute log-variance. One that lies at the limit still follows a gradient that leads back.

    Raises:
        ValueError: an argument is out of range.

    Source: Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", 2018, equation 10; limit
    and floor are own choices.
    """

    def __init__(self, losses: Mapping[str, nn.Module], min_weight: float, limit: float) -> None:
        super().__init__(losses)
        check_floor(min_weight, len(losses))
        if not limit > 0:
            raise ValueError(f"limit must be positive, got {limit}; set limit=2.0, for example")
        self.min_weight, self.limit = min_weight, limit
        self.log_variance = nn.Parameter(torch.zeros(len(losses)))

    def weigh(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        s = _ClampedWithWayBack.apply(self.log_variance, self.limit)  # once: it judges the whole gradient
        weights = 0.5 * torch.exp(-s)
        total = weights.sum()
        return total * floored(weights / total, self.min_weight), 0.5 * s.sum()


class SoftmaxWeighted(MultiTaskLoss):
    """Learned weights that sum to 1: ``w = softmax(-s / temperature)``, ``L = sum_i w_i L_i + R(s)``.

    ``R(s) = 0.5 sum_i exp(s_i) + 0.1 sum_i s_i^2`` keeps s from growing on a hard task without end.

    Args:
        losses: see :class:`MultiTaskLoss`.
        min_weight: least weight of a task, from 0 to below 1 / n.
        temperature: of the softmax, positive; the higher, the more equal the weights.

    Raises:
        ValueError: an argument is out of range.

    Source: own choice, after :class:`Kendall`.
    """

    def __init__(self, losses: Mapping[str, nn.Module], min_weight: float, temperature: float) -> None:
        super().__init__(losses)
        check_floor(min_weight, len(losses))
        check_temperature(temperature)
        self.min_weight, self.temperature = min_weight, temperature
        self.log_variance = nn.Parameter(torch.zeros(len(losses)))

    def weigh(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        s = self.log_variance
        weights = floored(torch.softmax(-s / self.temperature, dim=0), self.min_weight)
        return weights, 0.5 * s.exp().sum() + 0.1 * s.square().sum()


class UWSO(MultiTaskLoss):
    """Weights from the losses of the batch itself: ``w = softmax(1 / (temperature L_i))``, without gradient.

    Args:
        losses: see :class:`MultiTaskLoss`.
        temperature: of the softmax, positive; the higher, the more equal the weights.

    Raises:
        ValueError: an argument is out of range.

    Source: Kirchdorfer et al., "Analytical Uncertainty-Based Loss Weighting in Multi-Task Learning", 2024 (UW-SO).
    """

    def __init__(self, losses: Mapping[str, nn.Module], temperature: float) -> None:
        super().__init__(losses)
        check_temperature(temperature)
        self.temperature = temperature

    def weigh(self, parts: Tensor) -> tuple[Tensor, float]:
        smallest = 1e-6  # two losses of exactly 0 would be two infinities
        return torch.softmax(1 / (self.temperature * parts.detach().clamp(min=smallest)), dim=0), 0.0


class Fixed(MultiTaskLoss):
    """Constant weights.

    Args:
        losses: see :class:`MultiTaskLoss`.
        weights: by name, not negative and not all 0.

    Raises:
        ValueError: other names than those of the losses, or a wrong weight.
    """

    constants: Tensor

    def __init__(self, losses: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__(losses)
        if weights.keys() != losses.keys():
            raise ValueError(f"weights are of {sorted(weights)}, losses of {sorted(losses)}; name the same tasks")
        if min(weights.values()) < 0 or sum(weights.values()) == 0:
            raise ValueError(f"weights must be 0 or more and not all 0, got {dict(weights)}; set 1.0, for example")
        constants = torch.tensor([float(weights[name]) for name in losses])
        self.register_buffer("constants", constants, persistent=False)

    def weigh(self, parts: Tensor) -> tuple[Tensor, float]:
        return self.constants, 0.0


class SnrDistance(nn.Module):
    """Cross-entropy and the expected distance to the true level: ``mean[alpha CE + beta sum_j p_j |j - y|]``.

    The distance is counted in levels; where these are evenly spaced it is |snr_j - snr_y| / step. It is taken under the
    probabilities p = softmax(logits): the distance of the most probable level would have no gradient.

    Args:
        alpha: weight of the cross-entropy, not negative.
        beta: weight of the distance, not negative.

    Raises:
        ValueError: a weight is negative, or both are 0.

    Source: own choice.
    """

    def __init__(self, alpha: float, beta: float) -> None:
        super().__init__()
        if min(alpha, beta) < 0 or alpha == beta == 0:
            raise ValueError(f"alpha and beta must be 0 or more, not both 0, got {alpha} and {beta}; set alpha=1.0")
        self.alpha, self.beta = alpha, beta

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        """Scalar loss of logits (B, S) and level indices y (B,) int64."""
        levels = torch.arange(logits.shape[1], device=logits.device)
        n_off = (levels - y[:, None]).abs()  # (B, S)
        expected = (torch.softmax(logits.float(), dim=1) * n_off).sum(dim=1)  # (B,)
        return self.alpha * F.cross_entropy(logits, y) + self.beta * expected.mean()


def floored(shares: Tensor, least: float) -> Tensor:
    """Shares (n,) raised to ``least`` at the expense of those above it; unchanged where all are above, sum 1."""
    above = (shares - least).clamp(min=0)
    return least + (1 - least * len(shares)) * above / above.sum()


def check_floor(min_weight: float, n_tasks: int) -> None:
    """Refuse a least share that not all tasks can have."""
    if not 0 <= min_weight < 1 / n_tasks:
        raise ValueError(
            f"min_weight must lie between 0 and 1 / {n_tasks} tasks, got {min_weight}; set min_weight=0.05, for example"
        )


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that a softmax cannot have."""
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}; set temperature=1.0, for example")


class _ClampedWithWayBack(torch.autograd.Function):
    """``clamp(x, -limit, limit)``; beyond the limits only gradients that lead back in pass.

    The gradient of a plain clamp is 0 there: an optimizer's momentum would carry a parameter across once and for all.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limit = limit
        return x.clamp(-limit, limit)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        outward = ((x >= ctx.limit) & (gradient < 0)) | ((x <= -ctx.limit) & (gradient > 0))
        return gradient.masked_fill(outward, 0.0), None
