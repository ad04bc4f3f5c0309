"""Hand the config, the pictures, the tables and the best checkpoint of a run to the loggers that can show them.

Legend: B batch, T samples of a sound, K classes.
"""

from __future__ import annotations

from typing import Any, cast

import lightning.pytorch as pl
import torch
from omegaconf import OmegaConf

from cvkan import report
from cvkan.callbacks.checkpoint import RunCheckpoint
from cvkan.gallery import SOUNDS, Clip, Gallery, Rows, best_name, figure_name, table_name
from cvkan.run_directory import RunDirectory
from cvkan.tasks.base import Task

N_ROWS = 16  # of the table of sounds


class ShowRun(pl.Callback):
    """Serve every logger of the trainer that is a :class:`~cvkan.gallery.Gallery`; the yaml of such a logger adds it.

    At the start of training it shows the config. After the test it shows what ``plots/`` and ``metrics.json`` will
    hold: every picture of the task, every table, and for waveforms some samples with what the network made of them. It
    logs ``best/<monitor>``, keeps the best checkpoint, and closes the loggers. In a run of several processes all of
    them draw, for a picture may need figures of all, and one shows.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        file = _run(trainer).config
        if trainer.is_global_zero and file.exists():
            config: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
            config.pop("hydra", None)
            for gallery in _galleries(trainer):
                gallery.show_config(config)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "test":
            return
        assert isinstance(pl_module, Task)
        figures = {figure_name(name): figure for name, figure in pl_module.figures().items()}
        tables = {table_name(name.replace("/", "_")): rows for name, rows in tables_of(pl_module).items()}
        if rows := sounds(pl_module):
            tables[SOUNDS] = rows
        for gallery in _galleries(trainer):
            gallery.show_figures(figures, trainer.global_step)
            for name, rows in tables.items():
                gallery.show_table(name, rows, trainer.global_step)
        self._show_best(trainer)
        self._close(trainer, failed=False)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close(trainer, failed=True)

    def _show_best(self, trainer: pl.Trainer) -> None:
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for checkpoint in (each for each in callbacks if isinstance(each, RunCheckpoint)):
            if checkpoint.best_score is None or not checkpoint.run.best.exists():
                continue
            best = {best_name(checkpoint.monitor): checkpoint.best_score}
            for logger in trainer.loggers:
                if isinstance(logger, Gallery):
                    logger.log_metrics(best, trainer.global_step)
                    logger.keep_checkpoint(checkpoint.run.best, best)

    def _close(self, trainer: pl.Trainer, failed: bool) -> None:
        for gallery in _galleries(trainer):
            gallery.close(failed)


def _run(trainer: pl.Trainer) -> RunDirectory:
    return RunDirectory(str(trainer.default_root_dir))


def _galleries(trainer: pl.Trainer) -> list[Gallery]:
    return [logger for logger in trainer.loggers if isinstance(logger, Gallery)]


def tables_of(task: Task) -> dict[str, Rows]:
    """The results of a tested task that are tables: lists of dicts, one a row."""
    found = {name: value for name, value in task.results().items() if report.is_table(value)}
    return {name: rows for name, rows in found.items() if isinstance(rows[0], dict)}


def sounds(task: Task) -> Rows:
    """Some test samples to listen to, their class, and the class that the network gives them.

    Args:
        task: a tested task.

    Returns:
        Rows of ``sound``, ``target`` and ``prediction``; none for data without classes or without waveforms.
    """
    spec = task.spec
    audible = spec.sample_rate_hz is not None and len(spec.input_shape) == 1 and not spec.is_complex
    if task.example is None or spec.target != "classes" or not audible:
        return []
    batch = {name: tensor[:N_ROWS] for name, tensor in task.example.items()}
    was_training = task.training
    task.eval()
    with torch.no_grad():
        _, logits = task.loss_and_logits(batch)  # (B, K)
    task.train(was_training)
    names = spec.class_names or tuple(map(str, range(spec.n_outputs)))
    x = batch["x"].float().cpu()  # (B, T)
    x = x / x.abs().amax(dim=1, keepdim=True).clamp(min=1e-8)  # (B, T)
    return [
        {"sound": Clip(samples, cast(int, spec.sample_rate_hz)), "target": names[wanted], "prediction": names[found]}
        for samples, wanted, found in zip(x.numpy(), batch["y"].tolist(), logits.argmax(dim=-1).tolist(), strict=True)
    ]
