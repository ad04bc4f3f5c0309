"""Loggers beside the CSV file that every run writes: curves, pictures, tables and sounds of a run."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from cvkan.api_key import has_api_key
from cvkan.atomic import write_text
from cvkan.gallery import Clip, Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

ID_FILE = "run_id"  # in the run's folder wandb/: a resumed run goes on under the same id


class WandbRun(WandbLogger):
    """A W&B logger that never prompts and never hangs: without an API key it writes an offline run and says so.

    Jobs of a multirun form a group, named after the folder of the sweep. A run that is resumed in its own folder keeps
    its id: online it goes on, offline it leaves a second folder, which ``wandb sync`` joins to the first.

    Args:
        save_dir: the run directory; W&B writes below ``save_dir/wandb``.
        project: W&B project.
        name: display name; None for the name of the run directory, in a group behind that of the group.
        group: W&B group; None for that of the sweep, and for none outside a sweep.
        tags: W&B tags.
        offline: None decides by the presence of a key.
    """

    def __init__(
        self, save_dir: str, project: str, name: str | None, group: str | None, tags: list[str], offline: bool | None
    ) -> None:
        if offline is None:
            offline = not has_api_key()
            if offline:
                log.info("wandb: there is no API key, so the run is logged offline")
        if offline:
            log.info("wandb: upload the run later with: wandb sync %s/wandb/offline-run-*", save_dir)
        # Settings are fixed before wandb.init, so that it has nothing to ask.
        os.environ.setdefault("WANDB_SILENT", "true")
        os.environ.setdefault("WANDB_INIT_TIMEOUT", "30")
        folder = Path(save_dir)
        folder.mkdir(parents=True, exist_ok=True)
        group = group or sweep_name()
        super().__init__(
            project=project,
            name=name or "/".join(filter(None, (group, folder.name))),
            group=group,
            tags=tags,
            save_dir=save_dir,
            offline=offline,
            id=run_id(folder / "wandb"),
            log_model=False,  # refused offline; keep_checkpoint does it
        )
        del self._wandb_init["anonymous"]  # W&B warns of it, used or not

    @rank_zero_only
    def show_config(self, config: Mapping[str, Any]) -> None:
        self.log_hyperparams(dict(config))

    @rank_zero_only
    def show_figures(self, figures: Mapping[str, Figure], step: int) -> None:
        import wandb

        self.log_metrics({name: wandb.Image(figure) for name, figure in figures.items()}, step)  # type: ignore[misc]

    @rank_zero_only
    def show_table(self, name: str, rows: Rows, step: int) -> None:
        import wandb

        def cell(value: Any) -> Any:
            return wandb.Audio(value.samples, sample_rate=value.rate_hz) if isinstance(value, Clip) else value

        self.log_table(name, list(rows[0]), [[cell(value) for value in row.values()] for row in rows], step=step)

    @rank_zero_only
    def keep_checkpoint(self, path: Path, facts: Mapping[str, Any]) -> None:
        import wandb

        artifact = wandb.Artifact(f"model-{self.experiment.id}", type="model", metadata=dict(facts))
        artifact.add_file(str(path), name=path.name)
        self.experiment.log_artifact(artifact, aliases=["best"])

    @rank_zero_only
    def close(self, failed: bool) -> None:
        """End the W&B run: the next job of a multirun in this process would go on writing to it."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(failed))


class TensorBoardRun(TensorBoardLogger):
    """TensorBoard's files in ``save_dir/tensorboard``, with the pictures, tables and sounds of the run.

    Args:
        save_dir: the run directory.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir=save_dir, name="", version="tensorboard", default_hp_metric=False)

    @rank_zero_only
    def show_config(self, config: Mapping[str, Any]) -> None:
        from omegaconf import OmegaConf

        text = OmegaConf.to_yaml(OmegaConf.create(dict(config)))
        self.experiment.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()))

    @rank_zero_only
    def show_figures(self, figures: Mapping[str, Figure], step: int) -> None:
        for name, figure in figures.items():
            self.experiment.add_figure(name, figure, step)

    @rank_zero_only
    def show_table(self, name: str, rows: Rows, step: int) -> None:
        lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
        for k, row in enumerate(rows):
            cells = []
            for column, value in row.items():
                if isinstance(value, Clip):
                    tag = f"{name}/{column}{k}"
                    self.experiment.add_audio(tag, value.samples[None], step, sample_rate=value.rate_hz)
                    value = tag
                cells.append(str(value).replace("|", "\\|"))
            lines.append("| " + " | ".join(cells) + " |")
        self.experiment.add_text(name, "\n".join(lines), step)

    def keep_checkpoint(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Nothing: the run directory has it."""

    @rank_zero_only
    def close(self, failed: bool) -> None:
        self.experiment.flush()


def run_id(folder: Path) -> str:
    """The id of the W&B run whose files are in ``folder``: the agent's of a W&B sweep, the one of an earlier part, or
    a new one, which is kept for later parts."""
    given = os.environ.get("WANDB_RUN_ID")
    if given:
        return given
    file = folder / ID_FILE
    if file.exists():
        return file.read_text().strip()
    folder.mkdir(parents=True, exist_ok=True)
    fresh = uuid.uuid4().hex[:12]
    write_text(file, fresh + "\n")
    return fresh


def sweep_name() -> str | None:
    """Name of the folder of the sweep that this job belongs to; None outside a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    if not HydraConfig.initialized() or OmegaConf.is_missing(HydraConfig.get().job, "num"):
        return None
    return Path(HydraConfig.get().sweep.dir).name
