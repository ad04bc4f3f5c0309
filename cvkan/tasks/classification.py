"""Classification: one label a sample.

Legend: B batch, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchmetrics import ConfusionMatrix, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from cvkan.spec import Batch
from cvkan.tasks.base import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ClassificationTask(Task):
    """Logits (B, K) against labels (B,): accuracy, macro F1, confusion matrix. Arguments as :class:`Task`."""

    target = "classes"

    def make_metrics(self) -> None:
        spec = self.spec
        self.check_loss(torch.zeros(2, spec.n_outputs), torch.zeros(2, dtype=torch.long))
        metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(spec.n_outputs, average="micro"),
                "f1_macro": MulticlassF1Score(spec.n_outputs, average="macro"),
            }
        )
        self.val_metrics, self.test_metrics = metrics.clone(prefix="val/"), metrics.clone(prefix="test/")
        self.confusion = ConfusionMatrix(task="multiclass", num_classes=spec.n_outputs)

    def compare(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.loss(output, batch["y"]), output

    def update_metrics(self, stage: str, batch: Batch, logits: Tensor) -> None:
        metrics = self.val_metrics if stage == "val" else self.test_metrics
        metrics.update(logits, batch["y"])
        self.log_dict(metrics, on_step=False, on_epoch=True, prog_bar=stage == "val")
        if stage == "test":
            self.confusion.update(logits, batch["y"])

    def on_test_start(self) -> None:
        self.confusion.reset()

    def figures(self) -> dict[str, Figure]:
        from cvkan import plots

        matrix = plots.confusion_matrix(torch.as_tensor(self.confusion.compute()).cpu(), self.class_names)
        return {**super().figures(), "confusion_matrix": matrix}

    def titles(self) -> list[str]:
        assert self.example is not None
        return [self.class_names[int(label)] for label in self.example["y"]]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The data's names of the classes, else their numbers."""
        return self.spec.class_names or tuple(str(k) for k in range(self.spec.n_outputs))
