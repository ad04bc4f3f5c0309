"""Reading and writing checkpoints: whole files only, and data only, never code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from cvkan.atomic import atomic_file
from cvkan.errors import UserError


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint of cvkan onto the CPU, refusing anything that is not plain data.

    Args:
        path: a file written by :class:`AtomicCheckpointIO`.

    Returns:
        The checkpoint; ``checkpoint["cvkan"]`` holds ``version``, ``domain``, the resolved ``config`` and
        ``data``, see :func:`~cvkan.data_facts.data_facts`.

    Raises:
        UserError: there is no such file, it is damaged, or it is not a checkpoint of cvkan.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}", "ckpt", "Give the path of a best.ckpt or last.ckpt.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    # torch reports a damaged or foreign file by whichever exception the damage leads to.
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
    ) as error:
        raise UserError(
            f"{path} is damaged or not a checkpoint",
            "ckpt",
            "Use another checkpoint of the run, or train again.",
        ) from error
    if not isinstance(checkpoint, dict) or "cvkan" not in checkpoint or "state_dict" not in checkpoint:
        raise UserError(
            f"{path} is not a checkpoint of cvkan",
            "ckpt",
            "Give the path of a best.ckpt or last.ckpt that cvkan-train wrote.",
        )
    return checkpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written through :func:`~cvkan.atomic.atomic_file` and read as data only.

    Whenever the process dies, the file under the checkpoint's name is the old one or the new one, complete.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; ``storage_options`` belong to remote stores and are refused."""
        if storage_options is not None:
            raise TypeError("storage_options have no effect on a local checkpoint file")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint as :func:`read_checkpoint` does.

        Both options are Lightning's to pass and fixed here: tensors load on the CPU, and never with code.
        """
        return read_checkpoint(path)
