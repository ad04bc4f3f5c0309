"""``cvkan-doctor``: is everything here that a training needs?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cvkan.cli.app import launch
from cvkan.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIG_NAME = "doctor"
HELP = """cvkan-doctor: versions, devices, precisions, data, W&B and disk on one screen; exit code 2 if one is at fault.

  cvkan-doctor                  looks for data sets in the folder data
  cvkan-doctor root=DIR         looks for them in another one
"""


def job(cfg: DictConfig) -> None:
    """One screen."""
    from hydra.core.hydra_config import HydraConfig

    from cvkan.cli import overrides

    overrides.check(cfg, CONFIG_NAME, list(HydraConfig.get().overrides.task), root="doctor")

    from pathlib import Path

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cvkan import doctor

    findings = list(doctor.examine(Path(cfg.root).expanduser()))
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    part = findings[0].part
    for finding in findings:
        if finding.part != part:
            table.add_section()
            part = finding.part
        table.add_row(finding.name, Text(finding.value, style="red" if finding.fix else ""))
    Console().print(table)
    faults = [finding for finding in findings if finding.fix]
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise UserError(f"{faults[0].name}: {faults[0].value}{more}", "this machine", faults[0].fix)
    print("A training can run here.")


def run() -> int:
    """Do what ``sys.argv`` says; returns the exit code."""
    return launch(CONFIG_NAME, job, HELP)


def main() -> None:
    """Console entry point."""
    sys.exit(run())


if __name__ == "__main__":
    main()
