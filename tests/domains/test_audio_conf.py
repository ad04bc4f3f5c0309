"""Every setting in the audio yaml files is an argument of its class, and every argument is set there."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

CONF = Path(__file__).parents[2] / "conf"
FROM_THE_DATA = {"input_shape", "d_complex", "sample_rate_hz"}


@pytest.mark.parametrize(
    "name", ["data/audio_synth", "data/audio_folder", "data/speech_commands", "embedding/stft"]
)
def test_yaml_holds_exactly_the_arguments_of_its_class(name: str) -> None:
    config = OmegaConf.load(CONF / f"{name}.yaml")
    parts = [config, config.augment] if "augment" in config else [config]
    for part in parts:
        keys = set(OmegaConf.to_container(part, resolve=False)) - {"_target_"}
        arguments = set(inspect.signature(get_class(part._target_)).parameters)
        assert keys == (arguments - FROM_THE_DATA if name == "embedding/stft" else arguments)
