"""A trained network and the data it is asked about, made of a checkpoint.

Legend: B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from omegaconf import DictConfig
from torch import nn
from torch.utils.data import DataLoader

from cvkan import build
from cvkan.checkpointing import read_checkpoint
from cvkan.data_facts import check_data
from cvkan.domains.datamodule import DataModule, collate, subset
from cvkan.domains.loader import leave_interrupts_to_parent
from cvkan.errors import UserError
from cvkan.models.constellation import ImageInput
from cvkan.spec import Batch

SECTIONS = ("domain", "seed", "model", "data")  # of a run's config: what network and data are made of


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode, and the data.

    Attributes:
        model: maps a batch to logits; a network for images takes images, also where the data are I/Q frames.
        draw: makes what ``model`` takes of the samples of a batch: images of I/Q frames for a network for images, for
            all others it changes nothing.
        data: the source, loaded.
        device: where the network is.
        checkpoint: the file it came from.
    """

    model: nn.Module
    draw: nn.Module
    data: DataModule
    device: torch.device
    checkpoint: Path

    def test_batches(self, limit: int | None) -> Iterator[Batch]:
        """The test part as the model gets it, on its device.

        Args:
            limit: take so many samples, drawn by a fixed seed and in their order; None takes all.
        """
        test = self.data.splits["test"]
        rows = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
        loader = DataLoader(
            subset(test, rows[:limit].sort().values),
            batch_size=self.data.batch_size,
            num_workers=self.data.num_workers,
            worker_init_fn=leave_interrupts_to_parent,
            collate_fn=collate,
            generator=torch.Generator().manual_seed(0),  # the global one stays as it is
        )
        for batch in loader:
            yield self.data.preprocess({name: tensor.to(self.device) for name, tensor in batch.items()})


def run_sections(ckpt: str, chosen: Collection[str], trusted: Any) -> dict[str, Any]:
    """The sections of the config that a checkpoint was trained with.

    Args:
        ckpt: path of the checkpoint.
        chosen: sections that the user replaces, to be left out.
        trusted: plain containers with the classes that the user names.

    Raises:
        UserError: no checkpoint, or its config names a class that is not part of cvkan.
    """
    config = read_checkpoint(ckpt)["cvkan"]["config"]
    sections = {name: config[name] for name in SECTIONS if name not in chosen}
    build.check_targets(sections, ckpt, trusted)
    return sections


def load(cfg: DictConfig, check: Callable[[DataModule, str], None]) -> Trained:
    """Model and data of ``cfg``, with the weights of the checkpoint ``cfg.ckpt``.

    Args:
        cfg: the composed config of ``conf/explain.yaml``.
        check: looks at the data before they are loaded, and hears where the checkpoint is.

    Raises:
        UserError: the config or the data is at fault, the data has other classes, SNRs or images than the weights were
            trained on, or the weights do not fit the model.
    """
    checkpoint = read_checkpoint(cfg.ckpt)
    data = build.build_data(cfg)
    check(data, cfg.ckpt)
    data.prepare_data()
    data.setup()
    model = build.build_model(cfg, data.spec)
    check_data(checkpoint, data, model, cfg.ckpt)
    load_weights(model, checkpoint["state_dict"], cfg.ckpt)
    device = compute_device(cfg)
    model.to(device).eval()
    return Trained(model, taken_renderer(model), data, device, Path(cfg.ckpt))


def load_weights(model: nn.Module, state: dict[str, Any], where: str) -> None:
    """Give a model its part of a task's state.

    Raises:
        UserError: a weight is missing, superfluous or of another shape.
    """
    weights = {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip().rstrip(".")
        raise UserError(
            f"the weights do not fit: {first}", where, "Choose the run's own model, and samples of its size."
        ) from error


def taken_renderer(model: nn.Module) -> nn.Module:
    """Take what draws I/Q frames out of a network for images, so that it takes images from now on.

    Returns:
        What draws; the identity for a network that takes samples as they are.
    """
    for module in model.modules():
        if isinstance(module, ImageInput):
            draw, module.draw = module.draw, nn.Identity()
            return draw
    return nn.Identity()


def compute_device(cfg: DictConfig) -> torch.device:
    """The device that ``cfg.trainer.accelerator`` names.

    Raises:
        UserError: there is no such device.
    """
    try:
        return Fabric(accelerator=cfg.trainer.accelerator, devices=1).device
    except (ValueError, RuntimeError) as error:  # Lightning's MisconfigurationException among them
        raise UserError(
            f"accelerator={cfg.trainer.accelerator} cannot be used: {error}", "trainer.accelerator", "Set auto or cpu."
        ) from error
