"""Forecasting patch by patch: trained on true series, tested on what the network goes on to tell by itself.

Legend: B batch, C channels, L steps of a window, H steps ahead, P steps of a patch, Q quantiles, n steps asked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import lightning.pytorch as pl
import torch
from torch import Tensor

from cvkan.analysis.forecasting import window_mean
from cvkan.models.autoregressive import NextPatchForecaster
from cvkan.spec import Batch
from cvkan.tasks.forecasting import ForecastingTask, series_source


class AutoregressionTask(ForecastingTask):
    """As :class:`~cvkan.tasks.forecasting.ForecastingTask`, for a network that foretells the next patch.

    In training the network reads the window and the truth behind it, and each patch ahead is foretold from all that is
    true before it (teacher forcing): one pass for all of them. In validation and test it reads the window alone and
    goes on from its own answers. So ``train/loss`` is not ``val/loss`` of the training part, but below it. All is
    normalised by what the window alone tells: the truth behind it is heard patch by patch, never by its mean.

    Raises:
        ValueError: the model tells all steps at once.
    """

    def make_metrics(self) -> None:
        if not isinstance(self.model, NextPatchForecaster):
            raise ValueError(
                f"task=autoregression trains a network that foretells the next patch, {type(self.model).__name__} "
                "tells all steps at once; set model=autoregressive or mode=direct"
            )
        super().make_metrics()

    def before_fit(self, data: pl.LightningDataModule) -> None:
        """Start as the training windows' ridge regression of the first patch ahead, made again and again.

        The regression is about the mean of the past: an answer that is heard again stands on the scale of what is
        read, so all of its location has to be kept.
        """
        source = series_source(data)
        of_patch = replace(source.windows("train"), horizon=self.forecaster.patch_size)
        self.start_at(source.ridge(window_mean(self.forecaster.lookback)), of_patch)

    def model_input(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Normalised windows and what follows them, but for the last patch, of single channels: (B C, L + H - P)."""
        x, y = batch["x"], batch["y"]
        frame = self.normalization(x)
        return torch.cat([frame.fold(x), frame.fold(y)], dim=1)[:, : self.forecaster.longest], None

    def loss_and_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and forecast of a batch: told the truth patch by patch in training, all by itself in evaluation."""
        if self.training:
            return super().loss_and_logits(batch)
        windows = self.normalization(batch["x"]).fold(batch["x"])
        return self.compare(self.forecaster.generate(windows, batch["y"].shape[1]), batch)

    def generate(self, x: Tensor, n_steps: int) -> Tensor:
        """Continue series by any number of steps, on the scale of the data.

        Args:
            x: windows (B, L, C), as the data module hands them out.
            n_steps: n, at least 1.

        Returns:
            Tensor (B, n, C), or (B, n, C, Q) where there are quantiles.
        """
        frame = self.normalization(x)
        answers = self.forecaster.generate(frame.fold(x), n_steps)  # (B C, n max(1, Q))
        return frame.unfold(answers if self.median is None else answers.unflatten(-1, (n_steps, -1)))

    @property
    def forecaster(self) -> NextPatchForecaster:
        """The network."""
        return cast(NextPatchForecaster, self.model)
