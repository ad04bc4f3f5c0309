"""How polarized the tokens are, once a validation, beside the other metrics of the run."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from cvkan.analysis.polarization import FIGURES, polarization, traceable


class PolarizationMonitor(pl.Callback):
    """Log ``polarization/layer1/gini``, ``/entropy``, ``/coherence`` and ``/gain_spread`` of every layer.

    Means over the first samples of the first validation batch, always the same ones, see
    :class:`~cvkan.analysis.polarization.Polarization`. Costs one forward pass of those samples a validation, draws
    nothing and keeps no state. Models without layers of complex tokens, such as baselines, are passed over silently:
    the callback belongs to every run, and for them there is nothing to tell.

    Args:
        n_samples: how many samples, at most.

    Raises:
        ValueError: ``n_samples`` is below 1.
    """

    def __init__(self, n_samples: int) -> None:
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}")
        self.n_samples = n_samples

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx or dataloader_idx or trainer.sanity_checking or traceable(pl_module) is None:
            return
        first = {name: tensor[: self.n_samples] for name, tensor in batch.items()}
        summary = polarization(pl_module, first).summary()
        figures = {f"polarization/layer{row['layer']}/{name}": row[name] for row in summary for name in FIGURES}
        pl_module.log_dict(figures, on_step=False, on_epoch=True, batch_size=len(first["x"]), sync_dist=True)
