"""Sweeps that are refused as a whole, before their first job."""

from __future__ import annotations

from typing import Any

from cvkan.errors import UserError
from cvkan.sweeping.processes import SHARING

# What Lightning takes where a trainer's YAML says nothing.
LIGHTNINGS = {"devices": "auto", "num_nodes": 1, "accelerator": "auto"}


class Refused(BaseException):
    """A :class:`UserError` on its way through Hydra, which makes a mere warning of an exception of a callback.

    Args:
        error: what is wrong with the sweep.
    """

    def __init__(self, error: UserError) -> None:
        super().__init__(str(error))
        self.error = error

    def speak(self) -> None:
        """Raise what it stands for."""
        raise self.error


def check_processes(trainer: Any, launcher: str) -> None:
    """Refuse jobs that would train in several processes each where they share one.

    Args:
        trainer: its section of the config.
        launcher: full name of the launcher's class.

    Raises:
        UserError: so it is.
    """
    if launcher in SHARING and (count := processes(trainer)) > 1:
        raise shared_process(count)


def shared_process(count: int) -> UserError:
    """Why a training in ``count`` processes is no job of such a launcher, and what to do."""
    return UserError(
        f"a training in {count} processes cannot be a job of a launcher whose jobs share one",
        "trainer.devices",
        "Set hydra/launcher=submitit_slurm or submitit_local, or give every run a command of its own.",
    )


def processes(trainer: Any) -> int:
    """How many processes a training takes by its config.

    Args:
        trainer: its section of the config.
    """
    devices, nodes, accelerator = (trainer.get(key, default) for key, default in LIGHTNINGS.items())
    if devices in ("auto", -1, "-1"):
        import torch

        devices = max(torch.cuda.device_count(), 1) if accelerator in ("auto", "gpu", "cuda") else 1
    elif isinstance(devices, str):
        devices = int(devices) if devices.isdigit() else len(devices.split(","))
    elif not isinstance(devices, int):
        devices = len(devices)
    return devices * nodes
