"""One training in several processes: which of them this one is, and what cannot be shared out.

Three things start processes: ``srun`` in a SLURM job, ``torchrun``, and otherwise the command itself, see
:mod:`cvkan.companions`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from cvkan.domains.datamodule import DataModule
from cvkan.errors import UserError
from cvkan.sweeping.processes import SHARING
from cvkan.sweeping.refusal import shared_process


class LocalProcesses(ClusterEnvironment):
    """The processes of one training on this machine, of which the first one starts the others.

    Nothing of it is in the environment variables, which would outlive the run in this process.

    Args:
        rank: number of this process.
        port: where the first one listens; 0 finds a free one when it is needed.
    """

    def __init__(self, rank: int = 0, port: int = 0) -> None:
        super().__init__()
        self._rank, self._port, self._world_size = rank, port, 1

    @property
    def creates_processes_externally(self) -> bool:
        return True  # Lightning would start this command line once more

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        if not self._port:
            with socket.socket() as probe:
                probe.bind((self.main_address, 0))
                self._port = probe.getsockname()[1]
        return self._port

    @staticmethod
    def detect() -> bool:
        return True

    def world_size(self) -> int:
        return self._world_size

    def set_world_size(self, size: int) -> None:
        self._world_size = size

    def global_rank(self) -> int:
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        """Nothing: it is known from the start."""

    def local_rank(self) -> int:
        return self._rank

    def node_rank(self) -> int:
        return 0


def environment(companion: LocalProcesses | None = None) -> ClusterEnvironment:
    """Who starts the processes of a training, and which one this is; from here on only the first one writes.

    SLURM's is told to leave signals alone: cvkan.callbacks.graceful_stop handles them.

    Args:
        companion: that of a process that cvkan has started.
    """
    found: ClusterEnvironment
    if companion is not None:
        found = companion
    elif TorchElasticEnvironment.detect():
        found = TorchElasticEnvironment()
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:  # by srun; the script of a job has no step
        found = SLURMEnvironment(auto_requeue=False)
    else:
        found = LocalProcesses()
    rank_zero_only.rank = found.global_rank()  # type: ignore[attr-defined]
    return found


def check(
    trainer: pl.Trainer,
    found: ClusterEnvironment,
    task: pl.LightningModule,
    data: DataModule,
    overrides: Sequence[str],
) -> None:
    """Refuse what cannot be trained in several processes, before there is a run.

    Args:
        trainer: of the run.
        found: its environment.
        task: with its network.
        data: loaded.
        overrides: as typed.

    Raises:
        UserError: the processes, the jobs of the sweep or the data do not go together.
    """
    processes = trainer.world_size
    if processes == 1:
        return
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise UserError("a strategy that forks or spawns loses the run", "trainer.strategy", "Set trainer=ddp.")
    if in_process_sweep():
        raise shared_process(processes)
    if isinstance(found, LocalProcesses) and trainer.num_nodes > 1:
        raise UserError(
            f"nothing has started a process on each of {trainer.num_nodes} machines",
            "trainer.num_nodes",
            "Start the command with srun or torchrun.",
        )
    named = any(line.startswith(("output_dir=", "ckpt=", "hydra.run.dir=")) for line in overrides)
    if not isinstance(found, LocalProcesses) and not in_sweep() and not named:
        raise UserError(
            "processes that are started from outside would each name a folder", "output_dir", "Set output_dir=DIR."
        )
    synced = isinstance(trainer.strategy, DDPStrategy) and trainer.strategy._layer_sync is not None
    if synced and trainer.strategy.root_device.type == "cpu" and any(map(is_batch_norm, task.modules())):
        raise UserError(
            "torch has batch norms over several processes on GPUs only",
            "trainer.sync_batchnorm",
            "Set trainer.sync_batchnorm=false.",
        )
    data.check_processes(processes)


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a layer is a batch norm of torch's."""
    return isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))


def in_sweep() -> bool:
    """Whether this is a job of a multirun."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def in_process_sweep() -> bool:
    """Whether this is a job of a multirun that has no process of its own."""
    from hydra.core.hydra_config import HydraConfig

    return in_sweep() and HydraConfig.get().launcher["_target_"] in SHARING


def disband() -> None:
    """Leave the group of processes, if there is one: the next training of this process makes its own."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
