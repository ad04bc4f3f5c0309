"""From the features of a sample to its logits: the last part of every network.

A head is built as ``head(n_features=F, spec=spec)`` and maps features (B, F) to logits (B, K), K =
``spec.n_outputs``. For ``target="modulation_snr"`` the first M logits are those of the modulations, the last S those of
the SNR levels; for ``target="vectors"`` there are no logits, but the d numbers of a code.

Legend: B batch, N tokens, F features, T features of one of two tasks, K outputs, d numbers of a code.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.core.linear import RealLinear
from cvkan.spec import Spec

SHARE_OF_BRANCH = 0.7  # of a task's features; the rest is a linear map of all features


class LinearHead(RealLinear):
    """One linear map to all logits, (..., F) to (..., K).

    Args:
        n_features: features F.
        spec: gives the number of outputs K.
        gain: factor on weights and bias at the start; 0 for a network that adds nothing yet to what stands beside it.

    Raises:
        ValueError: ``gain`` is negative.
    """

    def __init__(self, n_features: int, spec: Spec, gain: float = 1.0) -> None:
        super().__init__(n_features, spec.n_outputs)
        if gain < 0:
            raise ValueError(f"gain must not be negative, got {gain}; set task_head.gain=1")
        with torch.no_grad():
            self.weight.mul_(gain)
            self.bias.mul_(gain)

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


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation of rows (n, F), in float32 at least.

    A single row has no statistics: it is normalised by those of the batches before.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """Rows (n, F) to rows (n, F)."""
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        if len(rows) > 1:
            return super().forward(rows)
        return F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class CodeHead(nn.Module):
    """Features (..., F) to a code (..., d) by one linear map; batch normalisation of the code in a step of its own.

    :meth:`forward` is the map alone, as a network calls its head with features only. :meth:`normalised` needs the mask
    as well, and is called by the autoencoder that the network stands in.

    Args:
        n_features: features F.
        spec: of data with vectors for a target.
        d_latent: numbers d of a code.
        batch_norm: scale and shift each number by its statistics over valid codes: 2 d parameters.

    Raises:
        ValueError: the data has another kind of target, or the code is empty.
    """

    def __init__(self, n_features: int, spec: Spec, d_latent: int, batch_norm: bool) -> None:
        super().__init__()
        if spec.target != "vectors":
            raise ValueError(
                f"a code is for targets of kind 'vectors', the data has {spec.target!r}; set task_head=linear"
            )
        if d_latent < 1:
            raise ValueError(f"d_latent must be at least 1, got {d_latent}; set domain.d_latent=16")
        self.d_latent = d_latent
        self.linear = RealLinear(n_features, d_latent)
        self.norm = RowNorm(d_latent) if batch_norm else None

    def forward(self, features: Tensor) -> Tensor:
        """Features (..., F) to codes (..., d), as they enter :meth:`normalised`."""
        return self.linear(features)

    def normalised(self, code: Tensor, mask: Tensor) -> Tensor:
        """Codes (B, d), or (B, N, d) a token, by the statistics of the valid ones; mask (B, N), 1 = valid.

        Codes of padded tokens are 0.
        """
        if code.ndim == 2:
            return self.normalised_rows(code)
        valid = mask.bool().unsqueeze(-1)  # (B, N, 1)
        if self.norm is None:
            return code.masked_fill(~valid, 0.0)
        rows = self.normalised_rows(code[mask.bool()])  # (n, d)
        return torch.zeros_like(code, dtype=rows.dtype).masked_scatter(valid, rows)

    def raw(self, code: Tensor) -> Tensor:
        """The inverse of :meth:`normalised` in evaluation, but for the mean: what the linear map gave."""
        norm = self.norm
        if norm is None:
            return code
        assert norm.running_var is not None
        return (code - norm.bias) / norm.weight * (norm.running_var + norm.eps).sqrt()

    def normalised_rows(self, rows: Tensor) -> Tensor:
        """Codes (n, d), all of them valid."""
        return rows if self.norm is None else self.norm(rows)


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
            raise ValueError(f"task_head=joint needs at least 8 features, it gets {n_features}; widen the model")
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
        self.branch = nn.Sequential(RealLinear(n_features, n_task), act, RowNorm(n_task), nn.Dropout(dropout))
        self.shortcut = nn.Identity() if n_features == n_task else RealLinear(n_features, n_task)

    def forward(self, h: Tensor) -> Tensor:
        """Features (B, F) to the task's (B, T)."""
        return SHARE_OF_BRANCH * self.branch(h * self.gate(h)) + (1 - SHARE_OF_BRANCH) * self.shortcut(h)
