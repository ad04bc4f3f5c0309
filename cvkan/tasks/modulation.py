"""Which modulation a radio frame carries, and at which signal-to-noise ratio.

Legend: B batch, M modulations, S levels of the SNR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cvkan.losses import MultiTaskLoss
from cvkan.radio.bound import Bound, eta
from cvkan.spec import Batch
from cvkan.tasks.base import Task
from cvkan.tasks.joint_scores import JointCounts, JointScores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADS = ("modulation", "snr")  # in the order of their logits and labels


@runtime_checkable
class RadioSource(Protocol):
    """Data that can tell what its SNRs mean and what the best possible classifier reaches."""

    snr_definition: str | None

    def bound(self) -> Bound | None: ...


class ModulationTask(Task):
    """Logits (B, M + S) against labels (B, 2): modulation, SNR, and both at once. Arguments as :class:`Task`.

    The loss is a :class:`~cvkan.losses.MultiTaskLoss` over ``modulation`` and ``snr``. "Combined" counts the frames of
    which both are right. The accuracies over the SNR are compared with what is possible at best, if the data knows it.
    """

    target = "modulation_snr"
    loss: MultiTaskLoss

    def make_metrics(self) -> None:
        n_classes, n_levels = len(self.spec.class_names), len(self.spec.snr_db)
        names = sorted(self.loss.names) if isinstance(self.loss, MultiTaskLoss) else None
        if names != sorted(HEADS):
            raise ValueError(
                f"modulation and SNR need a loss over both, {type(self.loss).__name__} compares "
                f"{names or 'one pair of tensors'}; set loss=kendall"
            )
        self.check_loss(torch.zeros(2, self.spec.n_outputs), torch.zeros(2, 2, dtype=torch.long))
        self.val_counts, self.test_counts = JointCounts(n_classes, n_levels), JointCounts(n_classes, n_levels)
        self.bound: Bound | None = None
        self.snr_definition: str | None = None

    def compare(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        heads = output.split([len(self.spec.class_names), len(self.spec.snr_db)], dim=1)  # (B, M), (B, S)
        parts = self.loss.parts(
            dict(zip(HEADS, heads, strict=True)), dict(zip(HEADS, batch["y"].unbind(dim=1), strict=True))
        )
        self.parts = parts.detach()  # for the weights that training logs
        return self.loss.combine(parts), output

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        for name, share in zip(self.loss.names, self.loss.shares(self.parts), strict=True):
            self._log_training(f"weight_{name}", share, batch)
        return loss

    def update_metrics(self, stage: str, batch: Batch, logits: Tensor) -> None:
        counts = self.val_counts if stage == "val" else self.test_counts
        counts.update(logits, batch["y"])

    def on_validation_epoch_start(self) -> None:
        self.val_counts.reset()

    def on_validation_epoch_end(self) -> None:
        for name, score in self.scores(self.val_counts).figures("val").items():
            self.log(name, score, prog_bar=name.endswith("_accuracy"))

    def on_test_epoch_start(self) -> None:
        self.test_counts.reset()

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.scores(self.test_counts).figures("test"))
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, RadioSource):
            self.bound, self.snr_definition = data.bound(), data.snr_definition

    def scores(self, counts: JointCounts) -> JointScores:
        """What the counts say, on the CPU."""
        modulation, snr, combined = (tensor.cpu() for tensor in counts.compute())
        n_classes, n_snrs = len(self.spec.class_names), len(self.spec.snr_db)
        return JointScores(
            torch.tensor(self.spec.snr_db),
            modulation.view(n_snrs, n_classes, n_classes),  # torchmetrics squeezes tensors of one number
            snr.view(n_snrs, n_snrs),
            combined.view(n_snrs),
        )

    def limits(self) -> dict[str, Tensor] | None:
        """Accuracies (S,) of the best possible classifier: ``modulation``, ``snr`` and ``combined``."""
        if self.bound is None:
            return None
        blind = self.bound.blind  # the SNR is not told to the network either
        return {"modulation": blind.modulation, "snr": blind.snr, "combined": blind.combined}

    def results(self) -> dict[str, Any]:
        """Figures by SNR and by class, counts of confusions, and shares of what is possible (None = not known)."""
        scores, limits = self.scores(self.test_counts), self.limits()
        columns: dict[str, Tensor] = {"snr_db": scores.snr_db}
        columns |= {f"{name}_accuracy": values for name, values in scores.accuracy.items()}
        columns |= {f"{name}_bound": values for name, values in (limits or {}).items()}
        columns["count"] = scores.count
        by_class = {"class": self.spec.class_names, "f1": scores.f1.tolist(), "accuracy": scores.recall.tolist()}
        return {
            "test/eta": self.eta("modulation", len(self.spec.class_names)),
            "test/eta_combined": self.eta("combined", len(self.spec.class_names) * len(self.spec.snr_db)),
            "snr_definition": self.snr_definition,
            "per_snr": records({name: values.tolist() for name, values in columns.items()}),
            "per_class": records(by_class),
            "confusion_modulation": scores.modulation.sum(dim=0).tolist(),
            "confusion_snr": scores.snr.tolist(),
        }

    def eta(self, name: str, n_classes: int) -> float | None:
        """Share of the possible skill over the SNRs that were tested; None where the limit is unknown or at chance."""
        limits, scores = self.limits(), self.scores(self.test_counts)
        if limits is None:
            return None
        tested = (scores.count > 0) & (limits[name] > 2 / n_classes)
        return eta(scores.accuracy[name][tested], limits[name][tested], n_classes) if tested.any() else None

    def figures(self) -> dict[str, Figure]:
        from cvkan import plots_radio

        scores, names, snr_db = self.scores(self.test_counts), self.spec.class_names, self.spec.snr_db
        return {
            **super().figures(),
            "accuracy_over_snr": plots_radio.accuracy_over_snr(snr_db, scores.accuracy, self.limits()),
            "confusion_modulation": plots_radio.modulation_confusion(scores.modulation, names, snr_db),
            "confusion_snr": plots_radio.snr_confusion(scores.snr, snr_db),
            "f1_per_class": plots_radio.f1_per_class(scores.f1, names),
        }

    def titles(self) -> list[str]:
        assert self.example is not None
        names, snr_db = self.spec.class_names, self.spec.snr_db
        return [f"{names[k]}, {snr_db[level]:g} dB" for k, level in self.example["y"].tolist()]


def records(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """A table by columns as one dict a row."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
