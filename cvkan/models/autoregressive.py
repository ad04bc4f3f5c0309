"""Forecasts patch by patch: each token of a series foretells the next one's samples, and hears of no later token.

Legend: B series, T samples of one, L samples of a window, H steps ahead, P samples of a patch, N tokens, M of them with
an answer behind the window, Q quantiles (1 where there are none), D complex channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from cvkan.core.backbone import LayerTrace
from cvkan.core.polar import Planes
from cvkan.models.cvkan import CVKAN
from cvkan.models.series import real_series, series_length
from cvkan.models.skip import Skip
from cvkan.spec import Spec


class NextPatchForecaster(nn.Module):
    """A causal network that is asked, after each patch of a series, for the next one.

    The network reads windows and what follows them as one series of up to L + H - P samples. Of its answers those
    are given that lie behind the window: after the window alone the first P steps ahead, after all of the series H.
    Each of them has heard the samples before it and nothing else, so that one pass over a known series trains all of
    them. :meth:`generate` goes on from its own answers. A skip is a simple forecast of one patch from the last L
    samples, the same for every patch.

    Args:
        spec: windows (L,) and the numbers of H steps ahead.
        patch_size: samples P that a token stands for and foretells; a divisor of L and H.
        network: constructor of the network, ``network(spec)``, for one answer of P Q numbers a token.
        skip: constructor of what adds a simple model of the last L samples to an answer, ``skip(spec)``.

    Raises:
        ValueError: the data asks for something else than forecasts, patches do not tile window and horizon, the
            network hears of later tokens or has not one token a patch, or there are quantiles without the median.
    """

    def __init__(
        self, spec: Spec, *, patch_size: int, network: Callable[..., CVKAN], skip: Callable[..., Skip]
    ) -> None:
        super().__init__()
        if spec.target != "forecast":
            raise ValueError(
                f"model=autoregressive is for targets of kind 'forecast', the data has {spec.target!r}; set "
                "domain=timeseries or another model"
            )
        lookback, n_quantiles = series_length(spec, "model=autoregressive"), max(1, len(spec.quantiles))
        pred_len = spec.n_outputs // n_quantiles
        if patch_size < 1 or lookback % patch_size or pred_len % patch_size:
            raise ValueError(
                f"patches of {patch_size} samples do not tile a window of {lookback} and {pred_len} steps ahead; set "
                "embedding.patch_size to a common divisor of both"
            )
        if spec.quantiles and 0.5 not in spec.quantiles:
            raise ValueError(
                f"a forecast goes on from its median, which is not among the quantiles {list(spec.quantiles)}; "
                "add 0.5 to domain.quantiles"
            )
        self.patch_size, self.lookback, self.n_quantiles = patch_size, lookback, n_quantiles
        self.point = spec.quantiles.index(0.5) if spec.quantiles else 0
        self.longest = lookback + pred_len - patch_size  # samples of a series in training
        of_patch = replace(spec, n_outputs=patch_size * n_quantiles)
        self.network = network(spec=replace(of_patch, input_shape=(self.longest,), target="next_patch"))
        self.skip = skip(spec=of_patch)
        if not self.network.backbone.causal:
            raise ValueError(
                "a token that foretells the next patch must not hear of it; set aggregation=[causal,causal_filter]"
            )
        if self.grid != (self.longest // patch_size,):
            raise ValueError(
                f"a series of {self.longest} samples has {self.longest // patch_size} patches of {patch_size}, the "
                f"embedding makes tokens of layout {self.grid} of it; set embedding=rfft_patch "
                f"embedding.patch_size={patch_size} embedding.stride={patch_size}"
            )

    def forward(
        self, x: Tensor, mask: Tensor | None = None, return_tokens: bool = False
    ) -> Tensor | tuple[Tensor, Planes, Tensor | None]:
        """Answers (B, (T - L + P) Q) behind the window, of series (B, T) that begin with it; T a multiple of P.

        Read as (T - L + P, Q). With ``return_tokens`` also the planes (B, N, D) that were read out, and their mask.
        """
        answers, z, valid = self.network(x, mask, return_tokens=True)  # (B, N, P Q)
        windows = real_series(x, mask).unfold(1, self.lookback, self.patch_size)  # (B, M, L), up to each answer
        ahead = answers[:, -windows.shape[1] :].flatten(0, 1)  # (B M, P Q)
        ahead = self.skip(ahead, windows.flatten(0, 1)).unflatten(0, windows.shape[:2]).flatten(1)
        return (ahead, z, valid) if return_tokens else ahead

    @torch.no_grad()
    def generate(self, x: Tensor, n_steps: int) -> Tensor:
        """Continue windows by any number of steps, patch by patch; in evaluation mode, without gradients.

        What is heard of a patch that was generated is its point forecast, the median where there are quantiles:
        intervals tell how unsure the network is of the next patch, not how errors add up along the way. Beyond H
        steps the network hears the last L + H - P samples: it was never trained on more.

        Args:
            x: windows (B, L).
            n_steps: n, at least 1.

        Returns:
            Tensor (B, n Q), read as (n, Q).

        Raises:
            ValueError: windows of another length, or no step.
        """
        if x.dim() != 2 or x.shape[1] != self.lookback or n_steps < 1:
            raise ValueError(
                f"expected windows (B, {self.lookback}) and 1 step or more, got {tuple(x.shape)} and {n_steps} steps"
            )
        series, answers = x, []
        for _ in range(0, n_steps, self.patch_size):
            answer = self(series[:, -self.longest :])[:, -self.patch_size * self.n_quantiles :]  # (B, P Q)
            answers.append(answer)
            heard = answer.unflatten(1, (-1, self.n_quantiles))[..., self.point]  # (B, P)
            series = torch.cat([series, heard.to(series.dtype)], dim=1)
        return torch.cat(answers, dim=1)[:, : n_steps * self.n_quantiles]

    def tokens(self, x: Tensor, mask: Tensor | None = None) -> tuple[Planes, Tensor | None]:
        """Planes (B, N, D) of series (B, T) as they enter the first layer, and their mask."""
        return self.network.tokens(x, mask)

    def trace(self, x: Tensor, mask: Tensor | None = None) -> list[LayerTrace]:
        """Stream and token gains after every layer, for series (B, T)."""
        return self.network.trace(x, mask)

    @property
    def grid(self) -> tuple[int, ...]:
        """Layout of the tokens of the longest series, (N,)."""
        return self.network.grid
