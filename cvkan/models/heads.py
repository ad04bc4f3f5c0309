"""From the features of a sample to its logits: the last part of every network.

A head is built as ``head(n_features=F, spec=spec)`` and maps features (B, F) to logits (B, K), K =
``spec.n_outputs``. For ``target="modulation_snr"`` the first M logits are those of the modulations, the last S those of
the SNR levels.

Legend: B batch, N tokens, F features, T features of one of two tasks, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from cvkan.core.linear import RealLinear
from cvkan.spec import Spec

SHARE_OF_BRANCH = 0.7  # of a task's features; the rest is a linear map of all features


class LinearHead(RealLinear):
    """One linear map to all logits, (..., F) to (..., K).

    Args:
        n_features: features F.
        spec: gives the number of outputs K.
    """

    def __init__(self, n_features: int, spec: Spec) -> None:
        super().__init__(n_features, spec.n_outputs)

    def rank_by_magnitude(self, n_magnitudes: int) -> None:
        """Start as a threshold on the mean of the first features, the magnitudes |z| of a token.

        The logit starts as 4 (mean |z| - 1.35): at the end of an untrained stack wanted tokens stand near 1.8 and
        the others near 0.9, so the untrained network already is the polarizer.

        Args:
            n_magnitudes: how many of the features are magnitudes.
        """
        with torch.no_grad():
            self.weight.zero_()
            self.weight[:, :n_magnitudes] = 4 / n_magnitudes
            self.bias.fill_(-4 * 1.35)


class JointHead(nn.Module):
    """Two tasks from one feature vector: a gated branch for each, then a head for each.

    ::

        a_m = sigmoid(W2 relu(W1 h)),  f_m = 0.7 drop(BN(gelu(A (h * a_m)))) + 0.3 R_m h,  modulation = linear(f_m)
        a_s = sigmoid(V2 tanh(V1 h)),  f_s = 0.7 drop(BN(relu(B (h * a_s)))) + 0.3 R_s h,  SNR = head(f_s)

    h has F features, the gates F/8 hidden units, f_m and f_s T = F/4 features each; R is the identity where F = T.
    Without heads that is 395,392 parameters for F = 512 and 888,000 for F = 768.

    Args:
        n_features: features F, at least 8.
        spec: M modulations and S SNR levels.
        n_task_features: features T of each task; None for F/4, at least 128, since a quarter of a few is too few.
        snr_hidden: widths of the hidden layers of the SNR head, each followed by ReLU and dropout: ``[]`` for one
            linear map, ``[64]`` or ``[128]`` for a bottleneck, ``[256, 64]`` for two layers.
        dropout: probability of dropping a feature.

    Raises:
        ValueError: the data asks for something else than modulation and SNR, or a size is out of range.
    """

    def __init__(
        self, n_features: int, spec: Spec, n_task_features: int | None, snr_hidden: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        if spec.target != "modulation_snr":
            raise ValueError(
                f"task_head=joint has one head for the modulation and one for the SNR, the data has targets of kind "
                f"{spec.target!r}; set task_head=linear"
            )
        if n_features < 8:
            raise ValueError(f"task_head=joint needs 8 features or more, the model gives {n_features}; widen the model")
        n_task = max(n_features // 4, 128) if n_task_features is None else n_task_features
        if n_task < 1 or any(width < 1 for width in snr_hidden):
            raise ValueError(
                "task_head.n_task_features and task_head.snr_hidden must be positive, "
                f"got {n_task} and {list(snr_hidden)}"
            )
        self.modulation = TaskBranch(n_features, n_task, nn.ReLU(), nn.GELU(), dropout)
        self.snr = TaskBranch(n_features, n_task, nn.Tanh(), nn.ReLU(), dropout)
        self.modulation_head = RealLinear(n_task, len(spec.class_names))
        widths = [n_task, *snr_hidden]
        hidden: list[nn.Module] = []
        for d_in, d_out in pairwise(widths):
            hidden += [RealLinear(d_in, d_out), nn.ReLU(), nn.Dropout(dropout)]
        self.snr_head = nn.Sequential(*hidden, RealLinear(widths[-1], len(spec.snr_db)))

    def forward(self, h: Tensor) -> Tensor:
        """Features (B, F) to logits (B, M + S)."""
        return torch.cat([self.modulation_head(self.modulation(h)), self.snr_head(self.snr(h))], dim=-1)


class TaskBranch(nn.Module):
    """f = 0.7 drop(BN(act(A (h * a)))) + 0.3 R h with the gate a = sigmoid(W2 gate_act(W1 h)).

    Args:
        n_features: features F.
        n_task: features T of the task.
        gate_act: nonlinearity inside the gate.
        act: nonlinearity of the task's features.
        dropout: probability of dropping one of these.
    """

    def __init__(self, n_features: int, n_task: int, gate_act: nn.Module, act: nn.Module, dropout: float) -> None:
        super().__init__()
        n_hidden = n_features // 8
        self.gate = nn.Sequential(
            RealLinear(n_features, n_hidden), gate_act, RealLinear(n_hidden, n_features), nn.Sigmoid()
        )
        self.branch = nn.Sequential(RealLinear(n_features, n_task), act, nn.BatchNorm1d(n_task), nn.Dropout(dropout))
        self.shortcut = nn.Identity() if n_features == n_task else RealLinear(n_features, n_task)

    def forward(self, h: Tensor) -> Tensor:
        """Features (B, F) to the task's (B, T)."""
        return SHARE_OF_BRANCH * self.branch(h * self.gate(h)) + (1 - SHARE_OF_BRANCH) * self.shortcut(h)
