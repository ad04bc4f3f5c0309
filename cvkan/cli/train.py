"""``cvkan-train``: compose the config, fit, test the best checkpoint, print the result table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cvkan.cli.app import launch, report_errors

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONFIG_NAME = "train"
HELP = """cvkan-train: train a complex-valued network, test its best checkpoint, print the results.

  cvkan-train                                       handwritten digits, embedded: runs anywhere, offline
  cvkan-train domain=audio pooling=attention        synthetic speech, embedded
  cvkan-train domain=synthetic                      hidden in-phase tokens, embedded
  cvkan-train domain=audio data=audio_folder data.root=DIR data.index=index.csv
  cvkan-train ckpt=RUN/checkpoints/last.ckpt        go on with an interrupted run
  cvkan-train -m pooling=mean,attention seed=0,1,2  a run for each; means over seeds in summary.md, .html, .csv
  cvkan-train -m sweep.resume=multirun/DATE         go on with an interrupted sweep
  cvkan-train -m seed=0,1,2 hydra/launcher=joblib hydra.launcher.n_jobs=2       two at a time

Keys, set by KEY=VALUE; --cfg job prints all of them:
  seed=1                       every random choice of the run
  trainer.max_epochs=5         how long it trains
  trainer.accelerator=cpu      where: auto (default), cpu, gpu
  trainer.precision=bf16-mixed in which precision: 32-true (default), bf16-mixed, 16-mixed
  optimizer.lr=1e-3            learning rate
  model.d_complex=64           complex channels; model.n_layers=4, model.dropout=0.2
  model.compile=true           compile the network first: faster steps after a slow start
  data.root=DIR                the folder that the files of a data set are in
  data.batch_size=128          samples a step
  data.limit_train=1000        train on so many samples, drawn at random
  output_dir=DIR               the run directory itself
  ckpt=PATH                    a checkpoint to go on from
"""


def job(cfg: DictConfig) -> None:
    """One run."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from cvkan.cli import overrides

    hydra_config = HydraConfig.get()
    typed = list(hydra_config.overrides.task)
    overrides.check(cfg, CONFIG_NAME, typed, root="model")
    # A job of a multirun lives where Hydra put it.
    OmegaConf.update(cfg, "output_dir", hydra_config.runtime.output_dir)

    from cvkan.sweeping.records import typed_overrides
    from cvkan.training import train

    train(cfg, typed_overrides(typed))


def prepare(arguments: list[str]) -> list[str]:
    """A checkpoint or the folder of a sweep, without more, means the run or the sweep that it is of."""
    from cvkan.cli import overrides
    from cvkan.sweeping import resuming

    return resuming.with_sweep(overrides.with_config_of_run(arguments))


def run() -> int:
    """Do what ``sys.argv`` says; returns the exit code."""
    from cvkan.sweeping.refusal import Refused

    try:
        code = launch(CONFIG_NAME, job, HELP, prepare)
    except Refused as refused:
        return report_errors(refused.speak, debug=False)
    sweeping = sys.modules.get("cvkan.sweeping.sweep")  # Hydra has loaded it if there was a multirun
    return code if sweeping is None else sweeping.close(code)


def main() -> None:
    """Console entry point."""
    sys.exit(run())


if __name__ == "__main__":
    main()
