"""DLinear: a moving average and what is left of the series, each by a linear map.

Source: Zeng, Chen, Zhang and Xu, "Are Transformers Effective for Time Series Forecasting?", 2023, section 4.

Legend: B windows, L samples, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.core.local import odd
from cvkan.models.series import real_series, series_length
from cvkan.spec import Spec


class DLinear(nn.Module):
    """y = W_trend t + W_season (x - t) + b, with t the moving average of the window x, its ends repeated.

    The paper has a bias for each of the two maps; their sum is one bias. It gives windows to the maps as they are,
    here the task normalises them.

    Args:
        spec: windows (L,).
        kernel_size: odd width of the moving average, samples; the paper has 25.
        head: constructor of the two maps, side by side, ``head(n_features, spec)`` of 2 L features.

    Raises:
        ValueError: the samples are no real series, or an even width.
    """

    def __init__(self, spec: Spec, *, kernel_size: int, head: Callable[..., nn.Module]) -> None:
        super().__init__()
        n_samples = series_length(spec, "model=dlinear")
        self.kernel_size = odd(kernel_size)
        self.head = head(n_features=2 * n_samples, spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Outputs (B, K) of windows (B, L); mask (B, L), 1 = valid sample."""
        x = real_series(x, mask)
        trend = self.moving_average(x)
        return self.head(torch.cat([trend, x - trend], dim=-1))

    def moving_average(self, x: Tensor) -> Tensor:
        """Mean of each sample of x (B, L) and its neighbours, the first and last one standing in beyond the ends."""
        reach = self.kernel_size // 2
        padded = F.pad(x.unsqueeze(1), (reach, reach), mode="replicate")  # (B, 1, L + 2 reach)
        return F.avg_pool1d(padded, self.kernel_size, stride=1).squeeze(1)  # (B, L)
