"""``cvkan-data``: fetch a data set, write it in another layout, or tell what it holds."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from cvkan.cli import help
from cvkan.cli.app import launch, report_errors
from cvkan.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """cvkan-data: fetch, convert and inspect data; sources are chosen as for cvkan-train.

  cvkan-data prepare data=cifar10 data.download=true             fetch a data set once, with its checksum
  cvkan-data inspect data=rml2018 data.root=DIR                  classes, SNRs, sizes, power
  cvkan-data convert data=rml2018 data.root=DIR to=DIR layout=rml_split
                                                                 one HDF5 file a pair of modulation and SNR
  cvkan-data convert data=rml_split data.root=DIR to=DIR layout=rml2018
  cvkan-data convert data=rml2018 data.root=DIR to=DIR layout=constellation_png
"""


def prepare(cfg: DictConfig) -> None:
    """Fetch what is missing and may be fetched."""
    _check(cfg, "data_prepare", root="data")

    from cvkan.build import build_data

    data = build_data(cfg)
    data.prepare_data()
    print(f"{type(data).__name__} is ready")


def convert(cfg: DictConfig) -> None:
    """Write the frames of a source in another layout."""
    _check(cfg, "data_convert", root="layout")
    if cfg.to is None:
        raise UserError("no folder to write to is given", "to", "Set to=DIR.")

    from pathlib import Path

    from cvkan.build import build_data, build_layout

    data, writer = build_data(cfg), build_layout(cfg)
    data.prepare_data()
    writer.write(data, Path(cfg.to).expanduser())
    print(f"written to {cfg.to}")


def inspect(cfg: DictConfig) -> None:
    """Print what a source holds."""
    _check(cfg, "data_inspect", root="data")

    from rich.console import Console
    from rich.table import Table

    from cvkan.build import build_data
    from cvkan.inspecting import facts

    data = build_data(cfg)
    data.prepare_data()
    data.setup()
    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # a fingerprint cut short is of no use
    for name, value in facts(data):
        table.add_row(name, value)
    Console().print(table)


def _check(cfg: DictConfig, config_name: str, root: str) -> None:
    from hydra.core.hydra_config import HydraConfig

    from cvkan.cli import overrides

    overrides.check(cfg, config_name, list(HydraConfig.get().overrides.task), root=root)


COMMANDS = {"prepare": prepare, "convert": convert, "inspect": inspect}


def run() -> int:
    """Run the subcommand that ``sys.argv`` names; returns the exit code."""
    named = [argument for argument in sys.argv[1:] if argument in COMMANDS]
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help.page(HELP, *(f"data_{name}" for name in COMMANDS)))
        return 0
    if len(named) != 1:
        return report_errors(partial(_refuse, named), debug=False)
    sys.argv.remove(named[0])
    return launch(f"data_{named[0]}", COMMANDS[named[0]], HELP)


def _refuse(named: list[str]) -> None:
    what = f"{' and '.join(named)} at once" if named else "no subcommand is given"
    raise UserError(what, "command line", f"Write one of: {', '.join(COMMANDS)}; see cvkan-data --help.")


def main() -> None:
    """Console entry point."""
    sys.exit(run())


if __name__ == "__main__":
    main()
