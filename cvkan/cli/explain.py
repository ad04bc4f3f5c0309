"""``cvkan-explain``: what the decisions of a trained network rest on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cvkan.cli.app import launch
from cvkan.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIG_NAME = "explain"
OF_RUN = "run_of_checkpoint"  # the config that explain.yaml takes what the checkpoint's run chose from
HELP = """cvkan-explain: what the decisions of a trained network rest on; writes explain/METHOD.json and .png.

  cvkan-explain ckpt=RUN/checkpoints/best.ckpt                  perturbation impact score, on the run's own data
  cvkan-explain ckpt=RUN/checkpoints/best.ckpt method.levels=[1,5,10] method.limit=500
  cvkan-explain ckpt=RUN/checkpoints/best.ckpt data=constellation_png data.root=DIR output=OTHER
  cvkan-explain ckpt=… data=constellation_png data.root=DIR method.limit=null method.write_png=DIR
                                                                also write the images with pixels blanked out
"""


def job(cfg: DictConfig) -> None:
    """One method on one checkpoint."""
    from hydra.core.hydra_config import HydraConfig

    from cvkan.cli import overrides

    hydra_config = HydraConfig.get()
    overrides.check(cfg, CONFIG_NAME, list(hydra_config.overrides.task), root="method")
    if cfg.ckpt is None:
        raise UserError("no checkpoint is given", "ckpt", "Set ckpt=RUN/checkpoints/best.ckpt.")

    from cvkan.explaining.method import explain

    explain(cfg, hydra_config.runtime.choices["method"])


def prepare(arguments: list[str]) -> list[str]:
    """Let Hydra know model and data of the run that ``ckpt`` names, for the rest of the arguments to change."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.override_parser.overrides_parser import OverridesParser

    typed = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    values = {item.key_or_group: item.value() for item in OverridesParser.create().parse_overrides(typed)}
    sections = {}
    if values.get("ckpt") is not None:
        from cvkan.explaining.trained import run_sections

        trusted = [{"_target_": value} for key, value in values.items() if key.endswith("_target_")]
        sections = run_sections(str(values["ckpt"]), values.keys(), trusted)
    ConfigStore.instance().store(OF_RUN, sections)
    return arguments


def run() -> int:
    """Do what ``sys.argv`` says; returns the exit code."""
    return launch(CONFIG_NAME, job, HELP, prepare)


def main() -> None:
    """Console entry point."""
    sys.exit(run())


if __name__ == "__main__":
    main()
