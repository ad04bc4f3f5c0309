"""``cvkan-bench``: run one suite of benchmarks, print its table, write its rows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cvkan.cli.app import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIG_NAME = "bench"
HELP = """cvkan-bench: measure cvkan against other ways to do the same; writes benchmark/SUITE.json and SUITE.md.

  cvkan-bench                           suite=core budget=smoke: a polarizing block, forward and backward
  cvkan-bench suite=core budget=cpu     the same at larger sizes
  cvkan-bench suite=data                radio frames and constellation images against other ways to make them
  cvkan-bench suite=poetry              a recurrent decoder with teacher forcing against one call a step
  cvkan-bench suite=overnight           whole trainings of every domain, compared with benchmark/reference.json
  cvkan-bench suite=overnight budget=cpu suite.root=DIR         an evening, with the data sets in DIR
  cvkan-bench suite=startup             how long until the help text, and until the first training step

Keys, set by KEY=VALUE; --cfg job prints all of them:
  budget=cpu                   how much is measured: smoke (default), cpu, of suite=overnight also gpu
  output_dir=DIR               where the table is written, benchmark by default
"""


def job(cfg: DictConfig) -> None:
    """One suite."""
    from pathlib import Path

    from hydra.core.hydra_config import HydraConfig

    from cvkan.cli import overrides

    hydra_config = HydraConfig.get()
    overrides.check(cfg, CONFIG_NAME, list(hydra_config.overrides.task), root="suite")

    from cvkan.benchmarks import rows
    from cvkan.build import build_suite

    measured = []
    for row in build_suite(cfg).run():
        print(f"{row.case}: {row.metric} against {row.against}: {row.ratio:.2f}", flush=True)
        measured.append(row)
    path = rows.write(measured, Path(cfg.output_dir), hydra_config.runtime.choices["suite"])
    print(f"\n{rows.table(measured)}\n\nA ratio above 1 means that cvkan is better. Written to {path}")


def main() -> None:
    """Console entry point."""
    sys.exit(launch(CONFIG_NAME, job, HELP))


if __name__ == "__main__":
    main()
