"""What a run directory says about its trial."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvkan.gallery import best_name
from cvkan.sweeping.records import read_json, read_record

if TYPE_CHECKING:
    import optuna

PRUNED = "pruned"  # key of run.json: why the study stopped the run, where it did
FOLDER = "folder"  # user attributes of a trial
ERROR = "error"


@dataclass(frozen=True)
class Result:
    """How a trial ended.

    Attributes:
        folder: the run directory.
        state: ``"COMPLETE"``, ``"PRUNED"`` or ``"FAIL"``; None: a signal stopped it, and it can go on.
        value: best value of the monitored metric, of a complete trial alone.
        error: one line, of a failed, pruned or diverged one.
    """

    folder: Path
    state: str | None
    value: float | None = None
    error: str | None = None


def read(sweep: Path, folder: Path, monitor: str) -> Result:
    """Read ``run.json``, ``metrics.json`` and the sweep's record of the job.

    A diverged trial counts as pruned, not as failed: samplers pass over failed ones and would come back.

    Args:
        sweep: folder of the sweep.
        folder: the run directory; without a run, its trial was refused.
        monitor: name of the metric; its best value over the epochs counts.
    """
    run = read_json(folder / "run.json")
    if run.get("status") in ("interrupted", "running"):
        return Result(folder, None)
    if run.get("status") == "completed":
        return _completed(folder, run, monitor)
    job = read_record(sweep, os.path.relpath(folder, sweep))
    if job is None:
        return Result(folder, "FAIL", error=run.get("error"))
    return Result(folder, "PRUNED" if job.status(sweep) == "diverged" else "FAIL", error=job.error)


def _completed(folder: Path, run: dict[str, Any], monitor: str) -> Result:
    if run.get(PRUNED):
        return Result(folder, "PRUNED", error=run[PRUNED])
    value = read_json(folder / "metrics.json").get(best_name(monitor))
    if value is None or not math.isfinite(value):
        return Result(folder, "FAIL", error=f"{monitor} was never a number")
    return Result(folder, "COMPLETE", value=value)


def tell(study: optuna.Study, number: int, result: Result) -> None:
    """Hand a result that is final to the study."""
    from optuna.trial import TrialState

    assert result.state is not None
    storage, trial_id = study._storage, study.get_trials(deepcopy=False)[number]._trial_id
    storage.set_trial_user_attr(trial_id, FOLDER, str(result.folder))
    storage.set_trial_user_attr(trial_id, ERROR, result.error)
    study.tell(number, result.value, TrialState[result.state])
