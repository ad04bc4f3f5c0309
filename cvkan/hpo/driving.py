"""Ask the study for trials, launch them as jobs of the multirun, and tell it what their run directories say."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from cvkan.atomic import write_text
from cvkan.errors import UserError
from cvkan.hpo import results, space, studies

if TYPE_CHECKING:
    import optuna
    from hydra.core.config_loader import ConfigLoader
    from hydra.plugins.launcher import Launcher

COMMON = "common to all trials"  # user attribute of a study
BEST = "best_trial.yaml"  # in the folder of the sweep


@dataclass(frozen=True)
class Options:
    """What ``hydra.sweeper`` says, see :class:`cvkan.hpo.plugin.OptunaSweeper`."""

    n_trials: int
    batch: int
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    params: dict[str, Any]


class Drive:
    """One call of a study: it goes on where an earlier one in the same folder stopped.

    A job's number is its trial's. Every trial's state comes out of its run directory, so that any launcher will do, and
    a trial whose job was killed is launched again, before new ones are asked for.

    Args:
        options: of the study.
        config: the composed config with Hydra's own section.
        launcher: starts jobs.
        loader: composes the config of a trial.
        typed: overrides of the command line.

    Raises:
        UserError: Optuna is not installed, an option is out of range, or there is nothing to search.
    """

    def __init__(
        self, options: Options, config: DictConfig, launcher: Launcher, loader: ConfigLoader, typed: list[str]
    ) -> None:
        self.options, self.config, self.launcher, self.loader = options, config, launcher, loader
        self.folder = Path(config.hydra.sweep.dir)
        self.monitor, self.mode = str(config.domain.monitor), str(config.domain.mode)
        studies.load_optuna()
        if options.n_trials < 1 or (options.batch < 1 and options.batch != -1):
            raise UserError(
                f"n_trials must be at least 1, and batch as well or -1, got {options.n_trials} and {options.batch}",
                "hydra.sweeper",
                "Set hydra.sweeper.n_trials=20, for example.",
            )
        self.space = space.parse(options.params, typed, self.loader)

    def run(self) -> None:
        """Launch what is left of the study; write and log its best trial.

        Raises:
            UserError: the folder holds another study, a choice does not exist, or no trial has completed.
        """
        self._check_choices()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_same_study()
        OmegaConf.save(self.config, self.folder / "multirun.yaml")
        killed = [trial.number for trial in self._trials("RUNNING")]
        stopped = False
        for numbers in consecutive(killed):
            stopped = stopped or self._launch(numbers)
        while not stopped and (wanted := self.options.n_trials - len(self._finished())) > 0:
            stopped = self._launch([self._ask() for _ in range(min(wanted, self._batch()))])
        if not stopped:
            self._conclude()

    @cached_property
    def study(self) -> optuna.Study:
        return studies.create(self.folder, self.mode, self.options.sampler, self.options.pruner)

    def _batch(self) -> int:
        return self.options.batch if self.options.batch > 0 else os.cpu_count() or 1

    def _check_choices(self) -> None:
        """Compose the config with each choice in turn: what does not exist is refused before the first trial."""
        from optuna.distributions import CategoricalDistribution

        tried: list[list[str]] = [[]]
        for key, distribution in self.space.distributions.items():
            if isinstance(distribution, CategoricalDistribution):
                tried += [[f"{key}={choice}"] for choice in distribution.choices]
        for overrides in tried:
            self.loader.load_sweep_config(self.config, [*self.space.fixed, *overrides])

    def _check_same_study(self) -> None:
        # The section `sweep` says how jobs are run, not what they are.
        overrides = sorted(line for line in self.space.fixed if not line.startswith("sweep."))
        common = {"monitor": self.monitor, "mode": self.mode, "overrides": overrides}
        if self.study.user_attrs.setdefault(COMMON, common) != common:
            raise UserError(
                f"{self.folder} holds a study of other choices: {self.study.user_attrs[COMMON]['overrides']}",
                "hydra.sweep.dir",
                "Type those, or choose another folder.",
            )
        self.study.set_user_attr(COMMON, common)

    def _trials(self, *states: str) -> list[optuna.trial.FrozenTrial]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name in states]

    def _finished(self) -> list[optuna.trial.FrozenTrial]:
        return self._trials("COMPLETE", "PRUNED", "FAIL")

    def _ask(self) -> int:
        return self.study.ask(self.space.distributions).number

    def _launch(self, numbers: Sequence[int]) -> bool:
        """Run consecutive trials as jobs and tell the study how they ended.

        Returns:
            Whether a signal has stopped one of them; it waits for the study to be resumed.
        """
        trials = self.study.get_trials(deepcopy=False)
        jobs = [self.space.overrides(trials[number].params) for number in numbers]
        ended = self.launcher.launch(jobs, initial_job_idx=numbers[0])
        stopped = False
        for number, job in zip(numbers, ended, strict=True):
            assert job.hydra_cfg is not None
            folder = Path(job.hydra_cfg.hydra.runtime.output_dir)
            found = results.read(self.folder.absolute(), folder, self.monitor)
            stopped = stopped or found.state is None
            if found.state is not None:
                results.tell(self.study, number, found)
        return stopped

    def _conclude(self) -> None:
        if not self._trials("COMPLETE"):
            raise UserError(
                f"none of {len(self._finished())} trials has completed",
                self.folder,
                "See the first error above, or train.log in a trial's folder.",
            )
        best = self.study.best_trial
        overrides = self.space.overrides(best.params)
        content = {
            "trial": best.number,
            "monitor": self.monitor,
            "value": best.value,
            "overrides": overrides,
            "params": dict(best.params),
            "run": best.user_attrs[results.FOLDER],
            "trials": {state: len(self._trials(state)) for state in ("COMPLETE", "PRUNED", "FAIL", "RUNNING")},
        }
        write_text(self.folder / BEST, OmegaConf.to_yaml(OmegaConf.create(content)))
        print(
            f"best of {len(self._finished())} trials ({len(self._trials('PRUNED'))} pruned, "
            f"{len(self._trials('FAIL'))} failed): trial {best.number}, {self.monitor} {best.value:.4g}"
        )
        # Without the study itself, which a repetition is no part of.
        choices = (line for line in overrides if not line.startswith(("sweep=", "sweep.")))
        print(f"repeat it: cvkan-train {shlex.join(choices)}")


def consecutive(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Split ascending numbers where one is left out: jobs of one launch are numbered without gaps."""
    run: list[int] = []
    for number in numbers:
        if run and number != run[-1] + 1:
            yield run
            run = []
        run.append(number)
    if run:
        yield run
