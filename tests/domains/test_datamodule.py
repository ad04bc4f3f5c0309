"""Arguments that every data source passes on to its base class."""

from __future__ import annotations

import inspect
from typing import get_type_hints

import pytest
from omegaconf import OmegaConf

from cvkan import build
from cvkan.domains.datamodule import DataModule, Loading
from cvkan.domains.image.digits import Digits
from cvkan.errors import UserError

HARD = {"n_hidden": 2, "n_tokens": 6, "d_input": 3, "phase_std": 0.5, "n_train": 8, "n_val": 4, "n_test": 4}
LOADING = {"batch_size": 4, "num_workers": 0, "seed": 1, "limit_train": None}
SOURCES = {
    "digits": {"_target_": "cvkan.domains.image.digits.Digits", "split_seed": 0, **LOADING},
    "hard": {"_target_": "cvkan.domains.synthetic.SyntheticHard", **HARD, "data_seed": 0, **LOADING},
}


def built(source: str, **changes: object) -> DataModule:
    return build.build_data(OmegaConf.create({"data": {**SOURCES[source], **changes}}))


def test_loading_is_what_the_base_class_takes() -> None:
    parameters = inspect.signature(DataModule).parameters
    hints = get_type_hints(DataModule.__init__)
    assert get_type_hints(Loading) == {name: hints[name] for name in parameters}
    optional = {name for name, parameter in parameters.items() if parameter.default is not parameter.empty}
    assert optional == {"augment"}


@pytest.mark.parametrize("source", SOURCES)
def test_arguments_arrive_through_every_level(source: str) -> None:
    data = built(source, batch_size=3, seed=7, limit_train=5)
    assert (data.batch_size, data.num_workers, data.seed, data.limit_train, data.augment) == (3, 0, 7, 5, None)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["batch_size", "seed"])
def test_null_is_refused_at_every_level(source: str, name: str) -> None:
    with pytest.raises(UserError, match=rf"data\.{name} must not be null \(data\)\. It is of type int\."):
        built(source, **{name: None})


@pytest.mark.parametrize("source", SOURCES)
def test_unknown_argument_is_named(source: str) -> None:
    with pytest.raises(UserError, match=r"unexpected keyword argument 'batchsize' \(data\)") as caught:
        built(source, batchsize=8)
    assert "\n" not in str(caught.value)


def test_argument_that_is_left_out_is_named() -> None:
    with pytest.raises(TypeError, match="'limit_train'"):
        Digits(split_seed=0, batch_size=4, num_workers=0, seed=0)  # type: ignore[call-arg]
