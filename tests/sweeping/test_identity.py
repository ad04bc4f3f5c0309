from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_module

from cvkan.cli import resolvers
from cvkan.sweeping.identity import config_hash


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield


def hashed(*overrides: str) -> str:
    return config_hash(compose("train", overrides=["domain=synthetic", *overrides]))


@pytest.mark.parametrize(
    "override",
    ["output_dir=elsewhere", "ckpt=a.ckpt", "debug=true", "+logger.mine=1", "sweep.resume=x", "data.num_workers=2"],
)
def test_circumstances_change_no_hash(override: str) -> None:
    assert hashed(override) == hashed()


@pytest.mark.parametrize(
    "override", ["seed=1", "optimizer.lr=0.5", "norm=none", "data.n_train=8", "trainer.max_epochs=9"]
)
def test_choices_change_the_hash(override: str) -> None:
    assert hashed(override) != hashed()


def test_what_is_typed_as_it_is_by_default_is_the_same_job() -> None:
    assert hashed("seed=0", "domain.mode=max") == hashed()


def test_hydras_section_is_no_part_of_it() -> None:
    cfg = compose("train", overrides=["domain=synthetic"], return_hydra_config=True)
    assert config_hash(cfg) == hashed()
