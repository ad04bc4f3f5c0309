"""Regularizers: what the complex tokens at the end of the stack are asked for beside the task's loss.

Every regularizer maps tokens, mask and targets to one number in [0, 1], the smaller the better; the task adds it to
the training loss times ``weight``. All are smooth, with finite gradients at z = 0, and leave padded tokens out.

Legend: B batch, N tokens, D complex channels, M tokens of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvkan.core.linear import masked
from cvkan.core.norm import mean_over_tokens
from cvkan.core.polar import Planes, as_planes, at_least_float32, squared_magnitude, unit_phase

TINY = 1e-12  # keeps roots and quotients of samples without any valid token finite; those are left out afterwards


class Regularizer(nn.Module):
    """Base of all regularizers; a subclass implements :meth:`value`.

    Args:
        weight: factor of the value in the training loss.

    Raises:
        ValueError: a negative weight, which would reward what is to be avoided.

    Attributes:
        needs_classes: ``y`` must be one label a sample.
    """

    needs_classes = False

    def __init__(self, weight: float) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"weight of a regularizer must not be negative, got {weight}; set 0.01, for example")
        self.weight = weight

    def forward(self, z: Tensor | Planes, mask: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """The value, a scalar of float32 at least, also under autocast.

        Args:
            z: planes, each (B, N, D), or a complex tensor; what padded tokens hold does not matter.
            mask: (B, N), 1 = valid, or None.
            y: targets of the task.
        """
        z = as_planes(z)
        with torch.autocast(z[0].device.type, enabled=False):
            return self.value(at_least_float32(masked(z, mask)), valid_tokens(z[0], mask), y)

    def value(self, z: Planes, valid: Tensor, y: Tensor | None) -> Tensor:
        """The value for planes (B, N, D), 0 at padded tokens, and ``valid`` (B, N, 1), 1 or 0."""
        raise NotImplementedError


class DiversityRegularizer(Regularizer):
    """Mean over pairs i < j of channels of |mean(u_i conj u_j)|^2, the inner mean over all valid tokens of a batch.

    1 if the channels turn together, near 0 if they carry phases of their own. All pairs come from one product
    of (2D, M) with (M, 2D). With one channel it is 0. Source: own choice; u conj u in the place of
    differences of angles, which wrap at pi.
    """

    def value(self, z: Planes, valid: Tensor, y: Tensor | None) -> Tensor:
        u = torch.cat(unit_phase(z, squared_magnitude(z)), dim=-1).flatten(0, 1)  # (M, 2D), 0 at padded tokens
        (rr, ri), (ir, ii) = (half.chunk(2, dim=1) for half in (u.T @ u / valid.sum().clamp(min=1)).chunk(2))
        power = (rr + ii).square() + (ir - ri).square()  # (D, D)
        d_complex = len(power)
        return (power.sum() - power.diagonal().sum()) / max(d_complex * (d_complex - 1), 1)


class AnchorRegularizer(Regularizer):
    """Mean of (1 - cos(n theta)) / 2 over valid tokens and channels: phases settle at the n-th roots of unity.

    cos(n theta) is the real part of u^n, by products; no angle is taken. Source: own choice.

    Args:
        weight: factor of the value in the training loss.
        n: number of anchors on the circle.

    Raises:
        ValueError: a negative weight, or ``n`` below 1.
    """

    def __init__(self, weight: float, n: int = 4) -> None:
        super().__init__(weight)
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}; set the number of anchors on the circle")
        self.n = n

    def value(self, z: Planes, valid: Tensor, y: Tensor | None) -> Tensor:
        cos, sin = unit_phase(z, squared_magnitude(z))
        re, im = cos, sin
        for _ in range(self.n - 1):
            re, im = re * cos - im * sin, re * sin + im * cos
        away = 0.5 * (1 - re).mean(dim=-1, keepdim=True)  # (B, N, 1)
        return (away * valid).sum() / valid.sum().clamp(min=1)


class SparsityRegularizer(Regularizer):
    """How evenly the magnitude is spread over the tokens of a sample, 1 = all alike, 0 = all in one token.

    Of a token it takes the mean magnitude over its channels, r_t, the number by which polarization is read. ``hoyer``:
    (|r|_1 / |r|_2 - 1) / (sqrt(N) - 1), one minus the sparseness of Hoyer, "Non-negative matrix factorization with
    sparseness constraints", 2004, section 3.1. ``entropy``: -sum p log p / log N with p = r / |r|_1. Neither depends
    on the overall size. Samples of fewer than two valid tokens are left out.

    Args:
        weight: factor of the value in the training loss.
        measure: ``hoyer`` or ``entropy``.

    Raises:
        ValueError: a negative weight or another measure.
    """

    def __init__(self, weight: float, measure: str = "hoyer") -> None:
        super().__init__(weight)
        if measure not in ("hoyer", "entropy"):
            raise ValueError(f"measure must be 'hoyer' or 'entropy', got {measure!r}; set regularizer.sparsity.measure")
        self.measure = measure

    def value(self, z: Planes, valid: Tensor, y: Tensor | None) -> Tensor:
        valid = valid.squeeze(-1)
        r = torch.sqrt(squared_magnitude(z)).mean(dim=-1) * valid  # (B, N); the floor of a padded token is no magnitude
        n_tokens = valid.sum(dim=1)  # (B,)
        several = (n_tokens > 1).to(r.dtype)
        n_tokens = n_tokens.clamp(min=2)
        total = r.sum(dim=1).clamp(min=TINY)
        if self.measure == "hoyer":
            norm = torch.sqrt(r.square().sum(dim=1).clamp(min=TINY))
            evenness = (total / norm - 1) / (torch.sqrt(n_tokens) - 1)
        else:
            p = r / total[:, None]
            # log 1 in the place of log 0, whose derivative would turn the gradient of a padded token to NaN.
            evenness = -(p * torch.log(p + (1 - valid))).sum(dim=1) / torch.log(n_tokens)
        return (evenness * several).sum() / several.sum().clamp(min=1)


class CoherenceRegularizer(Regularizer):
    """1 - R, R the mean resultant length of the samples' phases within a class; mean over classes and channels.

    A sample's phase is that of the mean of its valid tokens, so loud tokens speak loudest. R = |mean of unit phases|
    over the samples of a class in the batch is 1 if they agree; of n unrelated phases it is about 1 / sqrt(n).
    Classes with one sample in the batch say nothing and are left out. Source: Mardia and Jupp, "Directional
    statistics", 2000, eq. 2.3.4, for R; its use within classes is an own choice.
    """

    needs_classes = True

    def value(self, z: Planes, valid: Tensor, y: Tensor | None) -> Tensor:
        if y is None or y.ndim != 1:
            got = "none" if y is None else f"targets of shape {tuple(y.shape)}"
            raise ValueError(f"coherence needs one label a sample (B,), got {got}; set regularizer=none")
        mask = valid.squeeze(-1)
        pooled = mean_over_tokens(z[0], mask).squeeze(1), mean_over_tokens(z[1], mask).squeeze(1)  # (B, D) each
        u = torch.cat(unit_phase(pooled, squared_magnitude(pooled)), dim=-1)  # (B, 2D)
        present = mask.amax(dim=1)  # (B,)
        # Each sample meets its own class: no loop over classes, whose number need not be known.
        same = (y[:, None] == y[None, :]).to(u.dtype) * present[:, None] * present[None, :]  # (B, B)
        n_same = same.sum(dim=1)
        re, im = (same @ u / n_same.clamp(min=1)[:, None]).chunk(2, dim=1)
        resultant = torch.sqrt(squared_magnitude((re, im))).mean(dim=1)  # (B,)
        share = (n_same > 1).to(u.dtype) / n_same.clamp(min=1)  # 1 in sum over a class
        return ((1 - resultant) * share).sum() / share.sum().clamp(min=1)


def valid_tokens(x: Tensor, mask: Tensor | None) -> Tensor:
    """(B, N, 1), 1 = valid and 0 = padded, in the dtype of tokens x (B, N, D), float32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    if mask is None:
        return torch.ones_like(x[..., :1], dtype=dtype)
    return mask.bool().unsqueeze(-1).to(dtype)
