"""What all tasks share: a model, a loss, an optimizer with its schedule, and what to log.

Legend: B batch, N tokens, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cvkan.core.backbone import LayerTrace
from cvkan.spec import Batch, Spec

if TYPE_CHECKING:
    from matplotlib.figure import Figure


N_EXAMPLES = 4


@runtime_checkable
class Traceable(Protocol):
    """A network of complex tokens that can tell what each layer did to them."""

    grid: tuple[int, ...]

    def trace(self, x: Tensor, mask: Tensor | None = None) -> list[LayerTrace]:
        """Stream and token gains after every layer, for a batch (B, ...)."""
        ...


class Task(pl.LightningModule):
    """A training problem: one loss and its metrics around any model.

    A subclass names the kind of target it understands and implements :meth:`make_metrics`,
    :meth:`loss_and_logits` and :meth:`update_metrics`; batches are dicts with ``x``, ``y`` and, where lengths
    differ, ``mask``.

    Args:
        spec: what the data looks like.
        model: maps ``(x, mask)`` to logits.
        loss: maps ``(logits, y)`` to a scalar.
        optimizer: constructor, called with the parameter groups.
        scheduler: constructor, called with the optimizer and ``total_steps``.
        augment: applied to training batches only.

    Raises:
        ValueError: the data has another kind of target.
    """

    target: str

    def __init__(
        self,
        spec: Spec,
        model: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., LRScheduler],
        augment: nn.Module | None,
    ) -> None:
        super().__init__()
        if spec.target != self.target:
            raise ValueError(
                f"{type(self).__name__} needs targets of kind {self.target!r}, the data has {spec.target!r}; "
                "choose the domain or task that fits the data"
            )
        self.spec, self.model, self.loss = spec, model, loss
        self.make_optimizer, self.make_scheduler, self.augment = optimizer, scheduler, augment
        self.example: Batch | None = None  # the first few test samples, for pictures
        self.make_metrics()

    def make_metrics(self) -> None:
        """Check the loss and make the metrics; the last step of construction, when everything else is in place."""
        raise NotImplementedError

    def check_loss(self, logits: Tensor, y: Tensor) -> None:
        """Try the loss on tensors of the shapes that training will bring.

        Raises:
            ValueError: it cannot compare them.
        """
        try:
            self.loss(logits, y)
        except (ValueError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"{type(self.loss).__name__} cannot compare logits {tuple(logits.shape)} with targets {tuple(y.shape)} "
                f"of {y.dtype}; choose a loss for targets of kind {self.target!r}"
            ) from error

    def loss_and_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scalar loss and logits of a batch."""
        raise NotImplementedError

    def update_metrics(self, stage: str, batch: Batch, logits: Tensor) -> None:
        """Update and log the metrics of ``val`` or ``test``."""
        raise NotImplementedError

    def results(self) -> dict[str, Any]:
        """Figures for ``metrics.json`` that are no logged scalars; after the test."""
        return {}

    def figures(self) -> dict[str, Figure]:
        """Named pictures for ``plots/``, after the test: what each layer amplified, for a model that can tell."""
        if self.example is None or not isinstance(self.model, Traceable):
            return {}
        from cvkan import plots

        x, mask = self.example["x"], self.example.get("mask")
        with torch.no_grad():
            gains = torch.stack([layer.gain.mean(dim=-1) for layer in self.model.trace(x, mask)], dim=1)  # (B, L, N)
        return {"polarization": plots.polarization(list(x.cpu()), gains.float().cpu(), self.model.grid, self.titles())}

    def titles(self) -> list[str]:
        """One line above each example in a picture."""
        assert self.example is not None
        return ["" for _ in self.example["x"]]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.augment is not None:
            batch = self.augment(batch)
        loss, _ = self.loss_and_logits(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch["x"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0:
            self.example = {name: tensor[:N_EXAMPLES] for name, tensor in batch.items()}
        self._evaluate("test", batch)

    def _evaluate(self, stage: str, batch: Batch) -> None:
        loss, logits = self.loss_and_logits(batch)
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["x"]), sync_dist=True)
        self.update_metrics(stage, batch, logits)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(parameter_groups(self.model))
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self.make_scheduler(optimizer, total_steps=total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Two groups: matrices of linear and convolutional layers decay, everything else does not.

    Norms, biases, coefficients of psi and phi, gates, positions and embeddings carry no scale that weight decay
    should shrink. A decaying parameter is one whose name starts with ``weight`` and that has two dimensions or
    more, in a module that is no embedding table.
    """
    decay: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_matrix = name.startswith("weight") and parameter.ndim >= 2
            (decay if is_matrix and not isinstance(module, nn.Embedding) else rest).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decay}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
