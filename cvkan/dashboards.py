"""W&B workspaces as code: one dashboard a domain, of the names under which runs log.

Needs the extra ``wandb-dash``. Building one asks for neither key nor network; ``Workspace.save()`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from cvkan.errors import UserError
from cvkan.gallery import SOUNDS, best_name, figure_name, table_name

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import LinePlot
    from wandb_workspaces.workspaces import Section, Workspace

GRADIENTS = ("norm", "largest", "clipped", "vanishing", "exploding")
POLARIZATION = ("gini", "entropy", "coherence", "gain_spread")
MAPS = ("polarization", "polarization_layers")  # pictures of every model of more than one complex token
LEARNING_RATES = "^lr-"  # lr-AdamW/pg1: the name tells optimizer and group


@dataclass(frozen=True)
class Board:
    """What one domain shows beside what all do.

    Attributes:
        metrics: names behind ``val/`` and ``test/``; the first is the domain's own, the monitored one in most.
        figures: pictures, by their names in ``plots/``.
        tables: tables, by their names in ``metrics.json``.
        sounds: samples to listen to.
    """

    metrics: tuple[str, ...]
    figures: tuple[str, ...]
    tables: tuple[str, ...] = ()
    sounds: bool = False


BOARDS = {
    "image": Board(("accuracy", "f1_macro"), ("confusion_matrix", *MAPS)),
    "audio": Board(("accuracy", "f1_macro"), ("confusion_matrix", *MAPS), sounds=True),
    "synthetic": Board(("topk_recovery", "auc"), ("per_layer_recovery", *MAPS)),
    "radio": Board(
        ("combined_accuracy", "modulation_accuracy", "snr_accuracy", "f1_macro", "snr_mae_db"),
        ("accuracy_over_snr", "confusion_modulation", "confusion_snr", "f1_per_class", *MAPS),
        ("per_snr", "per_class"),
    ),
    "poetry": Board(
        ("token_cosine", "word_accuracy"),
        ("cosine_by_position", "code_use", "latent_space"),
        ("reconstructions",),
    ),
    "timeseries": Board(("mse", "mae"), ("forecast", "error_by_horizon"), ("per_horizon", "per_channel")),
    "text": Board(("accuracy", "f1_macro"), ("confusion_matrix", "words_behind", *MAPS), ("examples",)),
}


def workspace(domain: str, monitor: str, entity: str, project: str) -> Workspace:
    """The dashboard of one domain, built and not saved; it shows the runs whose config has this ``domain.name``.

    Args:
        domain: a key of :data:`BOARDS`.
        monitor: the domain's monitored metric.
        entity: user or team of W&B.
        project: its project.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    ws, board = _library(), BOARDS[domain]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"cvkan {domain}",
        sections=[
            _results(board, monitor),
            _training(board),
            _insides(),
            _pictures(board),
            _search(monitor),
        ],
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Config("domain.name") == domain),
            groupby=[ws.Metric("Group")],
            order=[ws.Ordering(ws.Metric("CreatedTimestamp"), ascending=False)],
        ),
    )


def logged_names(domain: str, monitor: str) -> dict[str, list[str]]:
    """All names that the dashboard of a domain refers to: ``metrics``, ``figures`` and ``tables``."""
    board = BOARDS[domain]
    metrics = [best_name(monitor), "train/loss", "val/loss", "test/loss"]
    metrics += [f"{stage}/{name}" for name in board.metrics for stage in ("val", "test")]
    return {
        "metrics": metrics + [f"gradients/{name}" for name in GRADIENTS],
        "figures": [figure_name(name) for name in board.figures],
        "tables": [table_name(name) for name in board.tables] + [SOUNDS] * board.sounds,
    }


def _results(board: Board, monitor: str) -> Section:
    from wandb_workspaces.reports import v2 as wr

    names = [best_name(monitor), *(f"test/{name}" for name in board.metrics)]
    bars = [wr.BarPlot(title=name, metrics=[name], orientation="h") for name in names]
    return _section("Results", [*bars, wr.RunComparer(diff_only=True)], is_open=True)


def _training(board: Board) -> Section:
    curves = [_lines("loss", ["train/loss", "val/loss"])]
    curves += [_lines(name, [f"val/{name}"]) for name in board.metrics]
    return _section("Training", [*curves, _matching("learning rate", LEARNING_RATES)], is_open=True)


def _insides() -> Section:
    norms = _lines("gradient norm", [f"gradients/{name}" for name in GRADIENTS[:2]])
    counts = [_lines(f"gradients {name}", [f"gradients/{name}"]) for name in GRADIENTS[2:]]
    layers = [_matching(f"{name} of the layers", rf"^polarization/layer\d+/{name}$") for name in POLARIZATION]
    return _section("Gradients and polarization", [norms, *counts, *layers])


def _pictures(board: Board) -> Section:
    from wandb_workspaces.reports import v2 as wr

    figures = [wr.MediaBrowser(title=name, media_keys=[figure_name(name)]) for name in board.figures]
    names = [table_name(name) for name in board.tables] + [SOUNDS] * board.sounds
    return _section("Pictures and tables", [*figures, *(wr.WeavePanelSummaryTable(table_name=name) for name in names)])


def _search(monitor: str) -> Section:
    """What a sweep looks at: which choices the best score depends on."""
    from wandb_workspaces.reports import v2 as wr

    score = best_name(monitor)
    columns = [
        wr.ParallelCoordinatesPlotColumn(metric=name) for name in (wr.Config("optimizer.lr"), wr.Config("seed"), score)
    ]
    plots = [wr.ParameterImportancePlot(with_respect_to=score), wr.ParallelCoordinatesPlot(columns=columns)]
    return _section("Search", plots)


def _lines(title: str, names: Sequence[str]) -> LinePlot:
    from wandb_workspaces.reports import v2 as wr

    return wr.LinePlot(title=title, x="Step", y=list(names))


def _matching(title: str, pattern: str) -> LinePlot:
    from wandb_workspaces.reports import v2 as wr

    return wr.LinePlot(title=title, x="Step", metric_regex=pattern)


def _section(name: str, panels: list, is_open: bool = False) -> Section:
    return _library().Section(name=name, panels=panels, is_open=is_open)


def _library() -> ModuleType:
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError(
            "dashboards need the package wandb-workspaces", "", "Install it: pip install 'cvkan[wandb-dash]'."
        ) from error
    return ws
