"""The study: an Optuna journal in the folder of the sweep, which the parent and every job can open."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cvkan.errors import UserError

if TYPE_CHECKING:
    import optuna

FILE = "study.journal"  # in the folder of the sweep
NAME = "cvkan"


def load_optuna() -> ModuleType:
    """The module ``optuna``, quiet.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "hydra/sweeper=optuna needs the package optuna", "hydra.sweeper", "Install it: pip install 'cvkan[optuna]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def create(folder: Path, mode: str, sampler: Mapping[str, Any], pruner: Mapping[str, Any]) -> optuna.Study:
    """The study in ``folder``, made if there is none, from which trials are asked.

    Args:
        folder: of the sweep; is there.
        mode: ``"max"`` or ``"min"``, the direction of the monitored metric that is better.
        sampler: name and arguments.
        pruner: name and arguments, checked here and used by the jobs.
    """
    optuna = load_optuna()
    judge = make(optuna.pruners, pruner, "hydra.sweeper.pruner")
    direction = "maximize" if mode == "max" else "minimize"
    study = optuna.create_study(
        storage=_storage(folder), study_name=NAME, direction=direction, pruner=judge, load_if_exists=True
    )
    study.sampler = make_sampler(sampler, len(study.get_trials(deepcopy=False)))
    return study


def trial_of_job(folder: Path, number: int, pruner: Mapping[str, Any]) -> optuna.Trial:
    """The trial that a job is, for reports of its metric while it runs.

    Args:
        folder: of the sweep, whose study the parent has made.
        number: of the job, which is that of the trial.
        pruner: name and arguments.
    """
    optuna = load_optuna()
    judge = make(optuna.pruners, pruner, "hydra.sweeper.pruner")
    study = optuna.load_study(study_name=NAME, storage=_storage(folder), pruner=judge)
    return optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def _storage(folder: Path) -> optuna.storages.JournalStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    # The lock is a link beside the file, which shared file systems have too; one that a killed job left is broken
    # after 30 seconds.
    return JournalStorage(JournalFileBackend(str(folder / FILE)))


def make_sampler(options: Mapping[str, Any], n_trials: int) -> optuna.samplers.BaseSampler:
    """The sampler, seeded so that a resumed study does not draw its first values once more.

    Args:
        options: name and arguments; a ``seed`` is counted on from by the trials there are.
        n_trials: how many those are.
    """
    seeded = dict(options)
    if seeded.get("seed") is not None:
        seeded["seed"] += n_trials
    return make(load_optuna().samplers, seeded, "hydra.sweeper.sampler")


def make(module: ModuleType, options: Mapping[str, Any], where: str) -> Any:
    """An object of the class ``options["name"]`` of a module, made with the other options.

    Raises:
        UserError: there is no such class, or it refuses the options.
    """
    arguments = dict(options)
    name = str(arguments.pop("name"))
    if name not in module.__all__:
        near = difflib.get_close_matches(name, module.__all__, 3, 0.0)
        raise UserError(f"{module.__name__} has no {name}", f"{where}.name", f"Closest known: {', '.join(near)}.")
    try:
        return vars(module)[name](**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(str(error), where, f"Check the arguments of {name}.") from error
