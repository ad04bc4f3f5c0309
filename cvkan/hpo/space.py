"""The search space: Hydra's sweep syntax, read as distributions of Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cvkan.errors import UserError

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override
    from optuna.distributions import BaseDistribution

# What would change the measure itself from trial to trial.
NOT_SEARCHED = {"seed": "averages are for a grid over seeds", "domain": "its metric is the objective"}


@dataclass(frozen=True)
class Space:
    """What all trials have in common, and what is searched.

    Attributes:
        fixed: overrides that every trial gets, as typed.
        distributions: key of an override to its range.
    """

    fixed: tuple[str, ...]
    distributions: dict[str, BaseDistribution]

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """The overrides of one trial; six digits of a number are enough, and can be read.

        Args:
            params: the chosen value of each key; text for choices, numbers for ranges.
        """
        typed = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in params.items()}
        return [*self.fixed, *(f"{key}={value}" for key, value in typed.items())]


def parse(params: Mapping[str, str], typed: list[str], loader: ConfigLoader) -> Space:
    """Read a search space: ``interval(a,b)``, ``range(a,b,step)``, ``choice(a,b)``, ``a,b``, ``glob(*)``.

    ``tag(log,interval(a,b))`` is searched on a logarithmic scale, ``int(interval(a,b))`` holds integers.

    Args:
        params: key to range, out of a yaml.
        typed: overrides of the command line; they win over ``params``, and those without a range are for all trials.
        loader: knows the choices of a group, for globs.

    Raises:
        UserError: nothing is searched, or a range cannot be.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    lines = [*(f"{key}={value}" for key, value in params.items()), *typed]
    latest: dict[str, Override] = {}
    for item in OverridesParser.create(loader).parse_overrides(lines):
        latest.pop(item.get_key_element(), None)  # what is typed stands in the order of typing
        latest[item.get_key_element()] = item
    fixed: list[str] = []
    distributions: dict[str, BaseDistribution] = {}
    for key, item in latest.items():
        if not item.is_sweep_override():
            fixed.append(str(item.input_line))
        elif key.lstrip("+") in NOT_SEARCHED:
            raise UserError(
                f"{item.input_line} cannot be searched: {NOT_SEARCHED[key.lstrip('+')]}",
                "command line",
                f"Set one value of {key}.",
            )
        else:
            distributions[key] = _distribution(item)
    if not distributions:
        raise UserError(
            "there is nothing to search", "command line", "Type a range: optimizer.lr='tag(log,interval(1e-4,1e-2))'."
        )
    return Space(tuple(fixed), distributions)


def _distribution(item: Override) -> BaseDistribution:
    from hydra.core.override_parser.types import Sweep
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = item.value()
    log = isinstance(value, Sweep) and "log" in value.tags  # globs have no tags
    try:
        if item.is_interval_sweep():
            whole = isinstance(value.start, int) and isinstance(value.end, int)
            return (IntDistribution if whole else FloatDistribution)(value.start, value.end, log=log)
        if item.is_range_sweep():
            steps: list[Any] = sorted(item.sweep_iterator())
            low, high, step = steps[0], steps[-1], abs(value.step)
            whole = all(isinstance(number, int) for number in (low, high, step))
            return (IntDistribution if whole else FloatDistribution)(low, high, step=step, log=log)
        if log:
            raise ValueError("choices have no scale; tag(log, …) is for an interval")
        return CategoricalDistribution(list(item.sweep_string_iterator()))
    except (ValueError, IndexError) as error:
        raise UserError(
            f"{item.input_line} is no range to search: {error}", "command line", "Type interval(LOW,HIGH), for example."
        ) from error
