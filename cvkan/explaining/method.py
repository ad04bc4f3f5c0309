"""What a method of ``cvkan-explain`` is, and what becomes of its findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from omegaconf import DictConfig

from cvkan import build
from cvkan.atomic import atomic_file
from cvkan.domains.datamodule import DataModule
from cvkan.errors import UserError
from cvkan.explaining import trained
from cvkan.explaining.trained import Trained
from cvkan.report import shown
from cvkan.run_directory import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table


@dataclass(frozen=True)
class Explanation:
    """Findings of a method.

    Attributes:
        results: for the JSON file, beside what is known of any method.
        pictures: by file stem.
        table: for the terminal.
    """

    results: Mapping[str, Any]
    pictures: Mapping[str, Figure]
    table: Table


class Method(Protocol):
    """A way to tell what a network's decisions rest on; its options are arguments of its constructor."""

    def check(self, data: DataModule, where: str) -> None:
        """Look at the data, which are not loaded, before the network of the checkpoint ``where`` is made.

        Raises:
            UserError: the method is for other kinds of target.
        """

    def explain(self, trained: Trained) -> Explanation:
        """Ask the network.

        Raises:
            UserError: the method does not fit the network or the data.
        """


def explain(cfg: DictConfig, name: str) -> None:
    """Apply ``cfg.method`` to ``cfg.ckpt``: write ``explain/NAME.json`` and pictures, print the table.

    Args:
        cfg: the composed config of ``conf/explain.yaml``; ``explain/`` is made in ``cfg.output``.
        name: of the method, as typed.

    Raises:
        UserError: the config, the checkpoint or the data is at fault, or the output cannot be written.
    """
    from rich.console import Console

    method = build.build_method(cfg)  # wrong options are found before anything is loaded
    subject = trained.load(cfg, method.check)
    with torch.inference_mode():
        found = method.explain(subject)
    folder = Path(cfg.output).expanduser() / "explain"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}", "output", "Choose another folder.") from error
    about = {
        "method": name,
        "checkpoint": str(cfg.ckpt),
        "model": cfg.model["_target_"],
        "data_source": cfg.data["_target_"],
        "data_fingerprint": subject.data.fingerprint(),
    }
    write_json(folder / f"{name}.json", {**about, **found.results})
    for stem, figure in found.pictures.items():
        with atomic_file(folder / f"{stem}.png") as file:
            figure.savefig(file, format="png", dpi=110)
    console = Console(soft_wrap=True)
    console.print(found.table)
    for path in (folder / f"{name}.json", *(folder / f"{stem}.png" for stem in found.pictures)):
        console.print(shown(path), markup=False, highlight=False)
