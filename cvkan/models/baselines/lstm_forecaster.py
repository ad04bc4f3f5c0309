"""An LSTM that reads a series sample by sample.

Legend: B windows, L samples, H hidden units, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from cvkan.models.recurrent import RecurrentStack
from cvkan.models.series import real_series, series_length
from cvkan.spec import Spec


class LSTMForecaster(nn.Module):
    """The state after the last sample of the window, then the head: all steps ahead at once.

    Args:
        spec: windows (L,).
        d_hidden: hidden units H.
        n_layers: layers, see :class:`cvkan.models.recurrent.RecurrentStack`.
        dropout: probability of dropping an output of a layer.
        head: constructor of what makes outputs of features, ``head(n_features, spec)``.

    Raises:
        ValueError: the samples are no real series, or a size is out of range.
    """

    def __init__(
        self, spec: Spec, *, d_hidden: int, n_layers: int, dropout: float, head: Callable[..., nn.Module]
    ) -> None:
        super().__init__()
        series_length(spec, "model=lstm")
        self.stack = RecurrentStack("lstm", 1, d_hidden, n_layers, residual=False, dropout=dropout)
        self.head = head(n_features=d_hidden, spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Outputs (B, K) of windows (B, L); mask (B, L), 1 = valid sample."""
        states, _ = self.stack(real_series(x, mask).unsqueeze(-1))  # (B, L, H)
        return self.head(states[:, -1])
