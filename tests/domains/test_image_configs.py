"""The image data yamls and the classes they name fit together."""

from __future__ import annotations

import inspect
from importlib import resources

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

CONF = resources.files("cvkan.conf") / "data"


@pytest.mark.parametrize("name", ["digits", "cifar10", "image_folder", "image_npz"])
def test_yaml_sets_every_argument_of_its_class_and_nothing_else(name: str) -> None:
    config = OmegaConf.create((CONF / f"{name}.yaml").read_text())
    for node in (config, config.augment):
        arguments = inspect.signature(get_class(node._target_)).parameters
        assert set(arguments) == set(node) - {"_target_"}
    assert OmegaConf.to_container(config, resolve=False)["seed"] == "${seed}"
