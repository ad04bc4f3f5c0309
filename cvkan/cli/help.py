"""``--help``: what a command does and what it takes, read off the config folder without Hydra and torch."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

ENTRY = re.compile(r"  - (?:override )?/?(\w+)(?:@\S+)?:")  # of a defaults list
FLAGS = """Flags:
  --cfg job            print the composed config    --info defaults   how it was composed
  -sc install=bash     tab completion               --config-dir DIR  add your own config folder
  debug=true           show tracebacks of errors
"""


def page(text: str, *config_names: str) -> str:
    """The help of a command: its own text, its config groups with their choices, Hydra's flags.

    Args:
        text: what the command does and takes, with examples.
        config_names: its primary configs in ``cvkan.conf``.
    """
    width = max(shutil.get_terminal_size().columns, 60)
    conf = config_folder()
    lines = [text.rstrip(), ""]
    groups = dict.fromkeys(group for name in config_names for group in groups_of(conf, name))
    if groups:
        lines.append("Config groups, chosen by GROUP=CHOICE:")
    for group in groups:
        choices = ", ".join(sorted(path.stem for path in (conf / group).glob("*.yaml")))
        name = f"  {group:<17}"
        lines += textwrap.wrap(choices, width, initial_indent=name, subsequent_indent=" " * len(name))
    return "\n".join([*lines, *([""] if groups else []), FLAGS.rstrip()])


def config_folder() -> Path:
    """Where ``cvkan.conf`` is."""
    spec = find_spec("cvkan.conf")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def groups_of(conf: Path, name: str) -> list[str]:
    """The groups in the defaults list of a primary config, in its order, then those that their choices add.

    Args:
        conf: the config folder.
        name: of the primary config.
    """
    found = list(entries(conf / f"{name}.yaml"))
    for group in found:  # grows
        for path in sorted((conf / group).glob("*.yaml")):
            found += [other for other in entries(path) if other not in found]
    return [group for group in found if (conf / group).is_dir()]


def entries(path: Path) -> Iterator[str]:
    """Names in the defaults list of a YAML; Hydra's own groups, with a slash, are left out."""
    _, _, rest = path.read_text().partition("\ndefaults:\n")
    for line in rest.splitlines():
        if line.strip() and not line.startswith((" ", "#")):
            return
        if match := ENTRY.match(line):
            yield match[1]
