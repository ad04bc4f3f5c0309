"""What all tasks share: a model, a loss, an optimizer with its schedule, and what to log.

Legend: B batch, N tokens, K outputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NotRequired, Protocol, TypedDict, cast, runtime_checkable

import lightning.pytorch as pl
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cvkan.analysis.polarization import polarization, traceable
from cvkan.core.regularizers import Regularizer
from cvkan.spec import Batch, Spec

if TYPE_CHECKING:
    from matplotlib.figure import Figure


N_EXAMPLES = 64  # kept of the test, for statistics over samples
N_DRAWN = 4  # of them, one by one


@runtime_checkable
class Monitoring(Protocol):
    """A scheduler that is stepped with a metric, once a validation."""

    monitor: str


class Parts(TypedDict):
    """What every task is made of; a subclass with further arguments hands them on as ``**parts: Unpack[Parts]``.

    Attributes:
        spec, model, loss, optimizer, scheduler, augment, regularizers: see :class:`Task`.
    """

    spec: Spec
    model: nn.Module
    loss: nn.Module
    optimizer: Callable[..., Optimizer]
    scheduler: Callable[..., LRScheduler]
    augment: nn.Module | None
    regularizers: NotRequired[Mapping[str, Regularizer] | None]


class Task(pl.LightningModule):
    """A training problem: one loss and its metrics around any model.

    A subclass names the kind of target it understands and implements :meth:`make_metrics`,
    :meth:`compare` and :meth:`update_metrics`; batches are dicts with ``x``, ``y`` and, where lengths
    differ, ``mask``.

    Args:
        spec: what the data looks like.
        model: maps ``(x, mask)`` to logits.
        loss: maps ``(logits, y)`` to a scalar; parameters of its own are trained without weight decay.
        optimizer: constructor, called with the parameter groups.
        scheduler: constructor, called with the optimizer and ``total_steps``; stepped once a batch, or once a
            validation with the metric that it names as its ``monitor``.
        augment: applied to training batches only.
        regularizers: what training asks of the model's complex tokens beside the loss, by the names they are logged
            under.

    Raises:
        ValueError: the data has another kind of target, or the regularizers do not fit the model or the data.
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
        regularizers: Mapping[str, Regularizer] | None = None,
    ) -> None:
        super().__init__()
        if spec.target != self.target:
            raise ValueError(
                f"{type(self).__name__} needs targets of kind {self.target!r}, the data has {spec.target!r}; "
                "choose the domain or task that fits the data"
            )
        self.spec, self.model, self.loss = spec, model, loss
        self.make_optimizer, self.make_scheduler, self.augment = optimizer, scheduler, augment
        self.regularizers = cast(Mapping[str, Regularizer], nn.ModuleDict(regularizers))
        self.check_regularizers()
        self.example: Batch | None = None  # the first few test samples, for pictures
        self.make_metrics()

    def make_metrics(self) -> None:
        """Check the loss and make the metrics; the last step of construction, when everything else is in place."""
        raise NotImplementedError

    def check_loss(self, logits: Tensor, y: Tensor, **inputs: Tensor) -> None:
        """Try the loss on tensors of the shapes that training will bring.

        Args:
            logits: what the model gives.
            y: the targets.
            inputs: further entries of the batch that :meth:`compare` looks at.

        Raises:
            ValueError: it cannot compare them.
        """
        try:
            self.compare(logits, {"y": y, **inputs})
        except (ValueError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"{type(self.loss).__name__} cannot compare logits {tuple(logits.shape)} with targets {tuple(y.shape)} "
                f"of {y.dtype}; choose a loss for targets of kind {self.target!r}"
            ) from error

    def check_regularizers(self) -> None:
        """Refuse regularizers that have nothing to act on.

        Raises:
            ValueError: the model has no complex tokens, or the data no classes where they are needed.
        """
        names = "[" + ",".join(self.regularizers) + "]"
        if self.regularizers and "return_tokens" not in inspect.signature(self.model.forward).parameters:
            raise ValueError(
                f"regularizer={names} acts on complex tokens, {type(self.model).__name__} has none; "
                "set regularizer=none or model=cvkan"
            )
        for name, regularizer in self.regularizers.items():
            if regularizer.needs_classes and self.spec.target != "classes":
                raise ValueError(
                    f"regularizer={name} compares samples of one class, the data has targets of kind "
                    f"{self.spec.target!r}; set regularizer=none"
                )

    def before_fit(self, data: pl.LightningDataModule) -> None:
        """Look at the data, which are loaded, before the first step of a fresh run; a resumed one goes on without."""

    def model_input(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """What the model is given of a batch: samples and, where lengths differ, their mask."""
        return batch["x"], batch.get("mask")

    def compare(self, output: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scalar loss of what the model gives for a batch, and the logits as :meth:`update_metrics` takes them."""
        raise NotImplementedError

    def loss_and_logits(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scalar loss and logits of a batch, without regularizers."""
        return self.compare(self.model(*self.model_input(batch)), batch)

    def update_metrics(self, stage: str, batch: Batch, logits: Tensor) -> None:
        """Update and log the metrics of ``val`` or ``test``."""
        raise NotImplementedError

    def results(self) -> dict[str, Any]:
        """Figures for ``metrics.json`` that are no logged scalars; after the test."""
        return {}

    def figures(self) -> dict[str, Figure]:
        """Named pictures for ``plots/``, after the test: what layers did to their tokens, for a model that can tell."""
        if self.example is None or traceable(self.model) is None:
            return {}
        from cvkan import plots

        if traceable(self.model).grid == (1,):  # type: ignore[union-attr]
            return {}  # a token alone is neither louder than others nor in phase with them
        found = polarization(self, self.example)
        wanted = self.example["y"] if self.spec.per_token else None
        maps = plots.polarization(found, N_DRAWN, self.titles(), self.spec.sample_rate_hz, wanted)
        return {"polarization": maps, "polarization_layers": plots.polarization_layers(found)}

    def titles(self) -> list[str]:
        """One line above each example in a picture."""
        assert self.example is not None
        return ["" for _ in self.example["x"]]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.augment is not None:
            batch = self.augment(batch)
        if not self.regularizers:
            loss, _ = self.loss_and_logits(batch)
            self._log_training("loss", loss, batch)
            return loss
        output, z, mask = self.model(*self.model_input(batch), return_tokens=True)
        loss, _ = self.compare(output, batch)
        self._log_training("loss", loss, batch)  # the same quantity as in validation
        for name, regularizer in self.regularizers.items():
            value = regularizer(z, mask, batch["y"])
            self._log_training(name, value, batch)
            loss = loss + regularizer.weight * value
        return loss

    def _log_training(self, name: str, value: Tensor, batch: Batch) -> None:
        in_bar = name == "loss"
        name, n = f"train/{name}", len(batch["x"])
        self.log(name, value, on_step=False, on_epoch=True, prog_bar=in_bar, sync_dist=True, batch_size=n)

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
        groups = parameter_groups(self.model)
        of_loss = list(self.loss.parameters())  # weights that the loss learns: decay would pull them to equality
        if of_loss:
            groups.append({"params": of_loss, "weight_decay": 0.0})
        optimizer = self.make_optimizer(groups)
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = self.make_scheduler(optimizer, total_steps=total_steps)
        stepping: dict[str, Any] = {"interval": "step"}
        if isinstance(scheduler, Monitoring):
            # Between two validations the metric is the old one and would count as no improvement.
            every = self.trainer.check_val_every_n_epoch or 1
            stepping = {
                "interval": "epoch",
                "frequency": every,
                "monitor": scheduler.monitor,
                "reduce_on_plateau": True,
            }
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **stepping}}


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
