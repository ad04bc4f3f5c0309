"""``cvkan-train``: compose the config, fit, test the best checkpoint, print the result table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cvkan.cli.app import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIG_NAME = "train"
HELP = """cvkan-train: train a complex-valued network, test its best checkpoint, print the results.

  cvkan-train                                       handwritten digits, embedded: runs anywhere, offline
  cvkan-train domain=audio pooling=attention        synthetic speech, embedded
  cvkan-train domain=synthetic                      hidden in-phase tokens, embedded
  cvkan-train domain=audio data=audio_folder data.root=DIR data.index=index.csv
  cvkan-train ckpt=RUN/checkpoints/last.ckpt        go on with an interrupted run
"""


def job(cfg: DictConfig) -> None:
    """One run."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from cvkan.cli import overrides

    hydra_config = HydraConfig.get()
    overrides.check(cfg, CONFIG_NAME, list(hydra_config.overrides.task), root="model")
    # A job of a multirun lives where Hydra put it.
    OmegaConf.update(cfg, "output_dir", hydra_config.runtime.output_dir)

    from cvkan.training import train

    train(cfg)


def run() -> int:
    """Do what ``sys.argv`` says; returns the exit code."""
    return launch(CONFIG_NAME, job, HELP)


def main() -> None:
    """Console entry point."""
    sys.exit(run())


if __name__ == "__main__":
    main()
