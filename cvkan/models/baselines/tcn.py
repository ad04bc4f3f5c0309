"""A temporal convolutional network: dilated filters that look back, and double their reach layer by layer.

Source: Bai, Kolter and Koltun, "An empirical evaluation of generic convolutional and recurrent networks for sequence
modeling", 2018, section 3 and figure 1.

Legend: B windows, L samples, C channels, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from cvkan.models.series import real_series, series_length
from cvkan.spec import Spec


class TCN(nn.Module):
    """Residual blocks of dilation 1, 2, 4, ..., the features at the last sample, the head.

    Args:
        spec: windows (L,).
        d_model: channels C.
        n_layers: blocks; None for as many as the last sample needs to hear of the whole window.
        kernel_size: samples k of a filter, at least 2.
        dropout: probability of dropping a feature after each convolution.
        head: constructor of what makes outputs of features, ``head(n_features, spec)``.

    Raises:
        ValueError: the samples are no real series, or a size is out of range.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        d_model: int,
        n_layers: int | None,
        kernel_size: int,
        dropout: float,
        head: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        if d_model < 1 or kernel_size < 2 or (n_layers is not None and n_layers < 1):
            raise ValueError(
                f"d_model and n_layers must be positive and kernel_size at least 2, got {d_model}, {n_layers} and "
                f"{kernel_size}; set model.n_layers=null for as many as the window needs"
            )
        n_samples = series_length(spec, "model=tcn")
        if n_layers is None:
            n_layers = next(n for n in count(1) if reach(n, kernel_size) >= n_samples)
        self.blocks = nn.Sequential(
            *(TCNBlock(d_model if i else 1, d_model, kernel_size, 2**i, dropout) for i in range(n_layers))
        )
        self.head = head(n_features=d_model, spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Outputs (B, K) of windows (B, L); mask (B, L), 1 = valid sample."""
        features = self.blocks(real_series(x, mask).unsqueeze(1))  # (B, C, L)
        return self.head(features[..., -1])


class TCNBlock(nn.Module):
    """relu(x + drop(relu(conv(drop(relu(conv(x))))))), weight-normalised; (B, C_in, L) to (B, C, L)."""

    def __init__(self, d_in: int, d_model: int, kernel_size: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.past = (kernel_size - 1) * dilation  # samples that a filter looks back
        self.convolutions = nn.ModuleList(
            weight_norm(nn.Conv1d(width, d_model, kernel_size, dilation=dilation)) for width in (d_in, d_model)
        )
        self.shortcut = nn.Conv1d(d_in, d_model, 1) if d_in != d_model else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for convolution in self.convolutions:
            y = self.dropout(F.relu(convolution(F.pad(y, (self.past, 0)))))  # (B, C, L)
        return F.relu(self.shortcut(x) + y)


def reach(n_layers: int, kernel_size: int) -> int:
    """Samples that the last one hears of, itself included: 1 + 2 (k - 1) (1 + 2 + ... + 2^(n - 1))."""
    return 1 + 2 * (kernel_size - 1) * (2**n_layers - 1)
