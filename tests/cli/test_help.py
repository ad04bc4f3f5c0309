"""``--help``: every command shows the groups that it takes, all of their choices, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from cvkan.cli import bench, data, doctor, explain, help, train

CONF = Path(__file__).parents[2] / "conf"
GROUPS = {folder.name for folder in CONF.iterdir() if list(folder.glob("*.yaml"))}


def shown(text: str, *config_names: str) -> dict[str, set[str]]:
    """Group to choices, as a person reads them off the page."""
    page = help.page(text, *config_names)
    _, _, lines = page.partition("Config groups, chosen by GROUP=CHOICE:\n")
    found: dict[str, set[str]] = {}
    group = ""
    for line in lines.partition("\n\n")[0].splitlines():
        words = line.replace(",", "").split()
        group = words.pop(0) if line[2] != " " else group
        found.setdefault(group, set()).update(words)
    return found


def test_train_shows_every_choice_of_every_group_but_those_of_other_commands() -> None:
    found = shown(train.HELP, "train")
    assert GROUPS - found.keys() == {"layout", "method", "suite"}
    for group, choices in found.items():
        assert choices == {path.stem for path in (CONF / group).glob("*.yaml")}


@pytest.mark.parametrize(
    ("text", "config_names", "groups"),
    [
        (bench.HELP, ["bench"], {"suite", "psi", "linear", "block", "aggregation", "interaction", "heads", "norm"}),
        (doctor.HELP, ["doctor"], set()),
        (explain.HELP, ["explain"], {"data", "method"}),
        (data.HELP, ["data_prepare", "data_convert", "data_inspect"], {"data", "layout", "image"}),
    ],
)
def test_other_commands_show_their_own_groups(text: str, config_names: list[str], groups: set[str]) -> None:
    found = shown(text, *config_names)
    assert found.keys() - {"centering"} == groups
    for name in config_names:
        assert set(help.groups_of(CONF, name)) <= found.keys()


def test_keys_that_are_shown_are_there() -> None:
    keys = [line.split("=")[0].strip() for line in train.HELP.partition("Keys")[2].splitlines()[1:] if "=" in line]
    assert len(keys) >= 10
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        compose("train", overrides=["data=image_npz", *(f"{key}=1" for key in keys)])  # refuses one that is not there


def test_page_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = help.page("", "train")
    assert max(map(len, page.splitlines())) <= 100  # the flags
    assert all(len(line) <= 80 for line in page.partition("Flags")[0].splitlines())
