"""Token selection: which tokens of a sample belong together.

Legend: B batch, N tokens, L layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAUROC

from cvkan.analysis.polarization import Traceable, token_magnitude, topk_recovery
from cvkan.spec import Batch
from cvkan.tasks.base import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class TokenSelectionTask(Task):
    """One logit a token against a 0/1 mark (B, N). Arguments as :class:`Task`.

    ``topk_recovery`` is the share of the k marked tokens among the k highest logits; ``per_layer_recovery`` is the
    same with the tokens ranked by their magnitude after each layer: how far the layers polarized them.
    """

    target = "token_mask"

    def make_metrics(self) -> None:
        self.check_loss(torch.zeros(2, 3), torch.zeros(2, 3))
        self.val_recovery, self.test_recovery = MeanMetric(), MeanMetric()
        self.val_auc, self.test_auc = BinaryAUROC(thresholds=1000), BinaryAUROC(thresholds=1000)
        self.layer_recovery: list[Tensor] = []

    def compare(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = output.squeeze(-1)  # (B, N)
        valid = valid_tokens(batch)
        return self.loss(logits[valid], batch["y"][valid].to(logits.dtype)), logits

    def update_metrics(self, stage: str, batch: Batch, logits: Tensor) -> None:
        valid = valid_tokens(batch)
        testing = stage == "test"
        recovery = self.test_recovery if testing else self.val_recovery
        auc = self.test_auc if testing else self.val_auc
        wanted = batch["y"] * valid
        recovery.update(topk_recovery(logits.masked_fill(~valid, -torch.inf), wanted))
        auc.update(logits[valid], wanted[valid].long())
        self.log(f"{stage}/topk_recovery", recovery, on_step=False, on_epoch=True, prog_bar=not testing)
        self.log(f"{stage}/auc", auc, on_step=False, on_epoch=True)
        if testing and isinstance(self.model, Traceable):
            layers = self.model.trace(batch["x"], batch.get("mask"))
            scores = [topk_recovery(token_magnitude(layer.z).masked_fill(~valid, -1), wanted) for layer in layers]
            self.layer_recovery.append(torch.stack(scores, dim=1).cpu())  # (B, L)

    def on_test_start(self) -> None:
        self.layer_recovery.clear()

    def results(self) -> dict[str, Any]:
        """Recovery by magnitude after each layer; empty for models without layers of complex tokens."""
        if not self.layer_recovery:
            return {}
        return {"per_layer_recovery": torch.cat(self.layer_recovery).mean(dim=0).tolist()}

    def figures(self) -> dict[str, Figure]:
        from cvkan import plots

        pictures = super().figures()
        if self.layer_recovery:
            pictures["per_layer_recovery"] = plots.per_layer(self.results()["per_layer_recovery"])
        return pictures


def valid_tokens(batch: Batch) -> Tensor:
    """(B, N) bool, all true where the batch has no mask."""
    return batch["mask"].bool() if "mask" in batch else torch.ones_like(batch["y"], dtype=torch.bool)
