"""Sweeps of W&B: what its agent would type is a command that composes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from cvkan.cli import overrides, resolvers

SWEEPS = sorted((Path(__file__).parents[1] / "scripts").glob("wandb_sweep_*.yaml"))


def agent_arguments(sweep: dict[str, Any], chosen: dict[str, Any]) -> list[str]:
    """The command line that the agent makes of one choice, by the agent's own functions."""
    words = create_sweep_command(list(sweep["command"]))
    given = create_sweep_command_args({"args": {name: {"value": value} for name, value in chosen.items()}})
    typed: list[str] = []
    for word in words:
        if word == "${program}":
            typed.append(sweep["program"])
        elif word.startswith("$"):
            typed += given[word.removeprefix("${").removesuffix("}")]
        else:
            typed.append(word)
    return typed


def ends(parameter: dict[str, Any]) -> tuple[Any, Any]:
    """The first and the last value of a parameter."""
    values = parameter.get("values") or [
        parameter.get("value", parameter.get("min")),
        parameter.get("value", parameter.get("max")),
    ]
    return values[0], values[-1]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
@pytest.mark.parametrize("end", [0, 1], ids=["first", "last"])
def test_what_the_agent_types_composes(path: Path, end: int) -> None:
    sweep = yaml.safe_load(path.read_text())
    chosen = {name: ends(parameter)[end] for name, parameter in sweep["parameters"].items()}
    program, *typed = agent_arguments(sweep, chosen)
    assert program == "cvkan-train"
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        cfg = compose("train", overrides=typed, return_hydra_config=False)
    overrides.check(cfg, "train", typed, root="model")  # types of values, and choices without an effect
    for name, value in chosen.items():
        if "." in name:
            assert OmegaConf.select(cfg, name) == value
    assert f"domain={cfg.domain.name}" in typed
    assert "wandb" in cfg.logger


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_metric_of_a_sweep_is_the_best_value_of_the_monitored_one(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text())
    (chosen,) = [word.removeprefix("domain=") for word in sweep["command"] if word.startswith("domain=")]
    domain = OmegaConf.load(path.parents[1] / f"conf/domain/{chosen}.yaml").domain
    assert sweep["metric"]["name"] == f"best/{domain.monitor}"
    assert sweep["metric"]["goal"] == {"max": "maximize", "min": "minimize"}[domain.mode]
