"""Hydra's door to the study: the sweeper behind ``hydra/sweeper=optuna``."""

from __future__ import annotations

from functools import partial
from typing import Any

from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from cvkan.hpo.driving import Drive, Options

# Hydra admits sweepers of this namespace alone, and imports all of it as any command starts.
NAME = "hydra_plugins.cvkan.OptunaSweeper"


class OptunaSweeper(Sweeper):
    """Jobs of a multirun are trials of an Optuna study, see :class:`cvkan.hpo.driving.Drive`.

    Args:
        n_trials: trials of the whole study, those of earlier parts of a resumed one among them.
        batch: trials that are asked for, and handed to the launcher, at once; -1 for as many as there are cores.
        sampler: ``name``, a class of ``optuna.samplers``, and its arguments.
        pruner: ``name``, a class of ``optuna.pruners``, and its arguments.
        params: the search space, key to range in Hydra's override syntax; the command line adds to it and wins.
    """

    def __init__(self, n_trials: int, batch: int, sampler: DictConfig, pruner: DictConfig, params: DictConfig) -> None:
        self.options = Options(n_trials, batch, *map(plain, (sampler, pruner, params)))

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.drive = partial(Drive, self.options, config, launcher, hydra_context.config_loader)

    def sweep(self, arguments: list[str]) -> Any:
        self.drive(arguments).run()


class Admit(Callback):
    """Make the sweeper known to Hydra when a multirun that chose it begins: other commands need not import it."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        Plugins.instance().class_name_to_class[NAME] = OptunaSweeper


def plain(config: DictConfig) -> dict[str, Any]:
    """A section as a dict."""
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}
