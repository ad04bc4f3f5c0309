"""What every suite of ``cvkan-bench`` is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cvkan.benchmarks.rows import Row
from cvkan.errors import UserError


class Suite:
    """A benchmark with a budget: how much of it is measured.

    Args:
        budget: name of one of ``budgets``.
        budgets: settings of each budget, by name.

    Raises:
        UserError: a budget that this suite does not have.
    """

    def __init__(self, budget: str, budgets: Mapping[str, Mapping[str, Any]]) -> None:
        if budget not in budgets:
            raise UserError(
                f"this suite has no budget {budget!r}", "budget", f"Choose one of: {', '.join(sorted(budgets))}."
            )
        self.settings = budgets[budget]

    def run(self) -> Iterator[Row]:
        """Measure; a row is handed out as soon as it is known."""
        raise NotImplementedError
