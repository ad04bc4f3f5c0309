"""A transformer on the patches of a window, one channel of a series at a time.

Source: Nie, Nguyen, Sinthong and Kalagnanam, "A time series is worth 64 words: long-term forecasting with
transformers", 2023.

Legend: B windows, L samples, P samples of a patch, N patches, M width, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.models.series import real_series, series_length
from cvkan.spec import Spec


class PatchTST(nn.Module):
    """Patches -> linear map plus learned position -> layers of attention -> all tokens side by side -> head.

    The window is lengthened by ``stride`` copies of its last sample, as in the paper. It differs from the paper in its
    layers, which are those of ``torch.nn``: layer norm before each branch in the place of batch norm behind it, and no
    attention scores handed on from layer to layer.

    Args:
        spec: windows (L,).
        d_model: width M of a token.
        n_layers: layers.
        n_heads: heads of attention, a divisor of ``d_model``.
        patch_size: samples P of a patch.
        stride: samples from patch to patch.
        expansion: hidden width of a layer's feed-forward part, as a multiple of ``d_model``.
        dropout: probability of dropping a feature of a token, a branch's output or a feature before the head.
        head: constructor of what makes outputs of features, ``head(n_features, spec)``.

    Raises:
        ValueError: the samples are no real series, or a size is out of range.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        d_model: int,
        n_layers: int,
        n_heads: int,
        patch_size: int,
        stride: int,
        expansion: float,
        dropout: float,
        head: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        if min(patch_size, stride, n_layers, n_heads, d_model, round(expansion * d_model)) < 1 or d_model % n_heads:
            raise ValueError(
                "patch_size, stride, n_layers, n_heads, d_model and expansion must be positive and n_heads must divide "
                f"d_model, got {patch_size}, {stride}, {n_layers}, {n_heads}, {d_model} and {expansion}"
            )
        n_samples = series_length(spec, "model=patchtst", at_least=patch_size)
        self.patch_size, self.stride = patch_size, stride
        n_tokens = (n_samples - patch_size) // stride + 2  # one more for the copies of the last sample
        self.project = nn.Linear(patch_size, d_model)
        self.position = nn.Parameter(0.02 * torch.randn(n_tokens, d_model))
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            *(d_model, n_heads, round(expansion * d_model), dropout),
            activation=gelu,
            batch_first=True,
            norm_first=True,
        )
        # Nested tensors are for padded batches, and not for layers that normalise first.
        self.encoder = nn.TransformerEncoder(layer, n_layers, nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.head = head(n_features=n_tokens * d_model, spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Outputs (B, K) of windows (B, L); mask (B, L), 1 = valid sample."""
        x = real_series(x, mask).unsqueeze(1)
        padded = F.pad(x, (0, self.stride), mode="replicate").squeeze(1)  # (B, L + stride)
        patches = padded.unfold(1, self.patch_size, self.stride)  # (B, N, P)
        tokens = self.encoder(self.dropout(self.project(patches) + self.position))  # (B, N, M)
        return self.head(self.dropout(tokens.flatten(1)))


def gelu(x: Tensor) -> Tensor:
    """GELU by a name that torch does not know: it has fused layers for its own in evaluation, which do not compile."""
    return F.gelu(x)
