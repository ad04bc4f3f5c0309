"""How large the gradients of each part of a network are, and whether they vanish or explode.

Legend: G parts of the network.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


class GradientMonitor(pl.Callback):
    """Log the gradient norm of each part of the network once an epoch, from norms that are taken at every step.

    ``gradients/<part>`` and, of all parts together, ``gradients/norm`` are means over the steps of the epoch, before
    clipping; ``gradients/largest`` is the largest norm of all together; ``gradients/clipped`` the share of steps at
    which that was above ``trainer.gradient_clip_val``; ``gradients/vanishing`` and ``gradients/exploding`` count norms
    out of bounds, one a part and step. A part that leaves the bounds is named in the log, once.

    The norms stay on the device until the epoch ends. Steps whose gradients are not finite are left out: a loss scaler
    skips them, and otherwise :class:`~cvkan.callbacks.divergence.Divergence` ends the run. The sums of an epoch are in
    the checkpoint, so that a resumed run logs what the uninterrupted one does.

    Args:
        vanishing: norms below count as vanishing; a part that no gradient reaches has norm 0.
        exploding: norms above count as exploding.
        depth: parameters whose names begin with so many equal words are one part: ``model.encoder.rnn`` at 3.

    Raises:
        ValueError: a bound or the depth is out of range.
    """

    def __init__(self, vanishing: float, exploding: float, depth: int) -> None:
        if not 0 <= vanishing < exploding:
            raise ValueError(
                f"vanishing must be 0 or more and below exploding, got {vanishing} and {exploding}; "
                "set vanishing=1.0e-7 and exploding=100, for example"
            )
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}; set depth=5, for example")
        self.vanishing, self.exploding, self.depth = vanishing, exploding, depth
        self.parts: dict[str, list[nn.Parameter]] = {}
        self._sums: dict[str, Tensor] = {}  # of the running epoch; empty before its first step
        self._named: set[str] = set()

    def state_dict(self) -> dict[str, Any]:
        return {name: tensor.cpu() for name, tensor in self._sums.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sums = dict(state_dict)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.parts = parts_of(pl_module, self.depth)
        self._sums = {name: tensor.to(pl_module.device) for name, tensor in self._sums.items()}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        norms = gradient_norms(self.parts.values(), pl_module.device)  # (G,)
        total = torch.linalg.vector_norm(norms)
        limit = trainer.gradient_clip_val or torch.inf
        seen = {
            "steps": torch.ones_like(total),
            "parts": norms,
            "norm": total,
            "vanishing": (norms < self.vanishing).float(),
            "exploding": (norms > self.exploding).float(),
            "clipped": (total > limit).float(),
        }
        # Chosen on the device: asking the host whether a step counts would stop it at every step.
        seen = {name: torch.where(total.isfinite(), value, 0.0) for name, value in seen.items()}
        largest = self._sums.get("largest", torch.zeros_like(total))
        self._sums = {name: value + self._sums.get(name, 0.0) for name, value in seen.items()}
        self._sums["largest"] = largest.maximum(seen["norm"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        sums, self._sums = {name: tensor.cpu() for name, tensor in self._sums.items()}, {}
        if not sums or not sums["steps"]:
            return  # every step of the epoch was skipped
        means = (sums["parts"] / sums["steps"]).tolist()
        figures = {f"gradients/{part}": mean for part, mean in zip(self.parts, means, strict=True)}
        figures |= {f"gradients/{name}": float(sums[name] / sums["steps"]) for name in ("norm", "clipped")}
        figures |= {f"gradients/{name}": float(sums[name].sum()) for name in ("vanishing", "exploding")}
        pl_module.log_dict({**figures, "gradients/largest": float(sums["largest"])})
        bounds = {"vanishing": f"below {self.vanishing:g}", "exploding": f"above {self.exploding:g}"}
        for name, bound in bounds.items():
            for part, count in zip(self.parts, sums[name].tolist(), strict=True):
                if count and part not in self._named:
                    self._named.add(part)
                    n_steps = int(sums["steps"])
                    log.warning("gradients of %s were %s at %d of %d steps", part, bound, int(count), n_steps)


def parts_of(module: nn.Module, depth: int) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters by the module that they belong to, of whose name ``depth`` words count."""
    parts: dict[str, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            owner = name.split(".")[:-1] or [name]
            parts.setdefault(".".join(owner[:depth]), []).append(parameter)
    return parts


def gradient_norms(parts: Iterable[list[nn.Parameter]], device: torch.device) -> Tensor:
    """Norms (G,) float32 of the gradients of each part, on the device; 0 where there is none."""
    gradients = [[parameter.grad for parameter in part if parameter.grad is not None] for part in parts]
    norms = [torch.nn.utils.get_total_norm(part) if part else torch.zeros((), device=device) for part in gradients]
    return torch.stack([norm.float() for norm in norms])
