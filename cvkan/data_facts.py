"""What the answers of a network mean, kept in its checkpoint: its weights fit other data of the same size as well."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, Protocol, runtime_checkable

from torch import nn

from cvkan.domains.datamodule import DataModule
from cvkan.errors import UserError

LABELS = ("class_names", "snr_db", "vocabulary")
SETTINGS = ("snr_definition", "vectors")
FIX = "Choose data as the checkpoint's run had them."


@runtime_checkable
class Draws(Protocol):
    """A part of a network that may draw images of its samples."""

    @property
    def drawing(self) -> dict[str, Any] | None:
        """Settings of the images, in plain values; None where it draws none."""


def data_facts(data: DataModule, network: nn.Module) -> dict[str, Any]:
    """What a network is told and asked, see :meth:`~cvkan.domains.datamodule.DataModule.facts`.

    Args:
        data: loaded.
        network: made for this data.
    """
    drawings = [module.drawing for module in network.modules() if isinstance(module, Draws)]
    return data.facts(next((drawing for drawing in drawings if drawing is not None), None))


def check_data(checkpoint: dict[str, Any], data: DataModule, network: nn.Module, where: str) -> None:
    """Refuse data whose labels or images mean something else than those that the weights were trained on.

    Args:
        checkpoint: as :func:`~cvkan.checkpointing.read_checkpoint` gives it.
        data: to be answered about, see :func:`data_facts`.
        network: made for this data; its weights do not matter.
        where: the checkpoint's path.

    Raises:
        UserError: a fact differs, of which the first is named, or the checkpoint does not hold them.
    """
    theirs, here = checkpoint["cvkan"].get("data"), data_facts(data, network)
    if theirs is None:
        raise UserError("the checkpoint does not say which classes it knows", where, "Train again.")
    for name in LABELS:
        for number, (one, other) in enumerate(zip_longest(theirs.get(name, ()), here[name])):
            _check(f"{name}[{number}]", one, other, where)
    for name in SETTINGS:
        if None not in (theirs.get(name), here[name]):
            _check(name, theirs[name], here[name], where)
    if None not in (theirs["image"], here["image"]):
        for name in theirs["image"] | here["image"]:
            _check(f"{name} of the images", theirs["image"].get(name), here["image"].get(name), where)


def _check(name: str, theirs: Any, here: Any, where: str) -> None:
    if theirs != here:
        one, other = ("missing" if value is None else value for value in (theirs, here))
        raise UserError(f"the checkpoint is of other data: {name} is {one} in it and {other} here", where, FIX)
