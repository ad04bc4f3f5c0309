"""``suite=overnight``: whole trainings, one after another, as a table that is compared with that of another night.

Every case is a command that a person could type; its run directory is kept below ``OUTPUT/runs/BUDGET``. Each has a
process of its own, so that its memory can be told, forked from one that has imported everything already.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from cvkan.benchmarks import overnight_table
from cvkan.benchmarks.overnight_table import Night, Result
from cvkan.benchmarks.rows import Row
from cvkan.benchmarks.suite import Suite
from cvkan.benchmarks.training_process import train_apart
from cvkan.doctor import folder_of
from cvkan.errors import UserError

UNFINISHED = "unfinished"  # a file in the folder of the runs, until the last of them is done
SHARED = ("all", "originals")  # of a budget; its other keys are names of cases


@dataclass(frozen=True)
class Case:
    """A training of the night.

    Attributes:
        choices: as typed for ``cvkan-train``, separated by blanks.
        embedded: choices that put embedded data in the place of a data set that is not there; None if it needs none.
        original: the figure that the system this project began with reported; None if it did not.
    """

    choices: str
    embedded: str | None = None
    original: float | None = None


class OvernightSuite(Suite):
    """The trainings of a budget, and how they compare with the reference.

    A night that was interrupted goes on where it stopped; one that was finished begins anew. A case that fails is told
    in the table, and the others are run.

    Args:
        budget: see :class:`~cvkan.benchmarks.suite.Suite`.
        budgets: for each budget what is typed for ``all`` cases, for ``originals``, those with data sets of their own,
            and for single cases by their names.
        seed: of all trainings.
        output_dir: where the runs and the table are written.
        reference: a ``summary.json`` that the figures are compared with, if there is one.
        root: folder of the data sets.
        cases: fields of :class:`Case`, by name.

    Raises:
        UserError: a budget that is not known, or one that names a case that is not there.
    """

    def __init__(
        self,
        budget: str,
        budgets: Mapping[str, Mapping[str, Any]],
        seed: int,
        output_dir: str,
        reference: str,
        root: str,
        cases: Mapping[str, Mapping[str, Any]],
    ) -> None:
        super().__init__(budget, budgets)
        self.cases = {name: Case(**fields) for name, fields in cases.items()}
        unknown = self.settings.keys() - self.cases.keys() - set(SHARED)
        if unknown:
            raise UserError(
                f"budget {budget} speaks of {', '.join(sorted(unknown))}",
                "suite.budgets",
                f"Cases are {', '.join(self.cases)}.",
            )
        self.budget, self.seed = budget, seed
        self.folder, self.reference, self.root = Path(output_dir), Path(reference), Path(root).expanduser()

    def run(self) -> Iterator[Row]:
        """Train what is to be trained; the table is written after every case, so that a night cut short has one."""
        runs = self.folder / "runs" / self.budget
        if not (runs / UNFINISHED).exists():
            shutil.rmtree(runs, ignore_errors=True)
            runs.mkdir(parents=True)
            (runs / UNFINISHED).touch()
        earlier = overnight_table.read_night(self.reference, self.budget)
        results: list[Result] = []
        for number, (name, case) in enumerate(self.cases.items(), 1):
            typed, note = self.typed(name, case)
            print(f"[{number}/{len(self.cases)}] cvkan-train {' '.join(typed)}{note and f'  ({note})'}", flush=True)
            original = None if note else case.original  # figures of other data do not compare
            self.train(typed, runs / name)
            results.append(overnight_table.read_result(name, original, note, runs / name))
            night = Night(self.budget, results)
            overnight_table.write(night, earlier, self.folder)
            yield from overnight_table.rows(results[-1], earlier)
        (runs / UNFINISHED).unlink()

    def typed(self, name: str, case: Case) -> tuple[list[str], str]:
        """The overrides of a case, and what is to be said of its data."""
        choices, note = case.choices.split(), ""
        parts = [self.settings["all"]]
        if case.embedded is not None:
            parts.append(self.settings["originals"])
            source, folder = self.source(choices)
            if folder is not None:
                choices.append(f"data.root={folder}")
            else:
                choices += case.embedded.split()
                note = f"{case.embedded}: {source} is not in {self.root}"
        parts.append(self.settings.get(name, ""))
        return [*choices, f"seed={self.seed}", *" ".join(parts).split()], note

    def source(self, choices: list[str]) -> tuple[str, Path | None]:
        """Name of the data source that is chosen, and the folder it is in; None if it is not there."""
        cfg = compose("train", overrides=choices, return_hydra_config=True)
        node = cast(DictConfig, OmegaConf.masked_copy(cfg, ["data"]).data)
        return cast(str, cfg.hydra.runtime.choices["data"]), folder_of(self.root, node, cfg.domain.name)

    def train(self, typed: list[str], run: Path) -> None:
        """Train a case, unless the part of the night before the interruption has."""
        overrides = run / ".hydra/overrides.yaml"
        done = (run / "metrics.json").exists() and overrides.exists()
        if not done or list(OmegaConf.load(overrides)) != typed:
            shutil.rmtree(run, ignore_errors=True)
            train_apart([*typed, f"hydra.run.dir={run}"], run.with_suffix(".log"))
