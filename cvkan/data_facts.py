"""What the answers of a network mean, kept in its checkpoint: its weights fit other data of the same size as well."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from torch import nn

from cvkan.domains.datamodule import DataModule
from cvkan.domains.radio.base import RadioData
from cvkan.domains.radio.png_tree import ConstellationImages
from cvkan.errors import UserError
from cvkan.models.constellation import ImageInput
from cvkan.radio.images import ConstellationImage

LABELS = ("class_names", "snr_db")
# What a tree of images says of itself that is no setting of an image; the labels are compared on their own.
NOT_OF_AN_IMAGE = {"kind", "snr_definition", "layout", "source"}
FIX = "Choose data as the checkpoint's run had them."


def data_facts(data: DataModule, network: nn.Module) -> dict[str, Any]:
    """What a network is told and asked, in plain containers.

    Args:
        data: its spec is known; it need not be loaded.
        network: made for this data.

    Returns:
        ``class_names`` and ``snr_db``, lists in the order of the labels; ``snr_definition``, the meaning of the SNR;
        ``image``, the settings of the constellation images that the network sees. The last two are None where there is
        no such thing or nobody has said.
    """
    return {
        "class_names": list(data.spec.class_names),
        "snr_db": list(data.spec.snr_db),
        "snr_definition": data.snr_definition if isinstance(data, RadioData) else None,
        "image": image_facts(data, network),
    }


def image_facts(data: DataModule, network: nn.Module) -> dict[str, Any] | None:
    """Settings of the constellation images, stored or drawn by the network; None for other samples, and if unknown."""
    if isinstance(data, ConstellationImages):
        return {name: value for name, value in data.facts.items() if name not in NOT_OF_AN_IMAGE} or None
    for module in network.modules():
        if isinstance(module, ImageInput) and isinstance(module.draw, ConstellationImage):
            assert isinstance(data, RadioData)
            return {**module.draw.settings(), "normalization": data.normalization}
    return None


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
        for number, (one, other) in enumerate(zip_longest(theirs[name], here[name])):
            _check(f"{name}[{number}]", one, other, where)
    if None not in (theirs["snr_definition"], here["snr_definition"]):
        _check("snr_definition", theirs["snr_definition"], here["snr_definition"], where)
    if None not in (theirs["image"], here["image"]):
        for name in theirs["image"] | here["image"]:
            _check(f"{name} of the images", theirs["image"].get(name), here["image"].get(name), where)


def _check(name: str, theirs: Any, here: Any, where: str) -> None:
    if theirs != here:
        one, other = ("missing" if value is None else value for value in (theirs, here))
        raise UserError(f"the checkpoint is of other data: {name} is {one} in it and {other} here", where, FIX)
