"""The search space: Hydra's syntax on one side, Optuna's distributions on the other."""

from __future__ import annotations

from collections.abc import Iterator

import optuna
import pytest
from hydra import initialize_config_module
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from cvkan.errors import UserError
from cvkan.hpo.space import Space, parse


@pytest.fixture(scope="module")
def loader() -> Iterator[ConfigLoader]:
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("interval(0.1,0.5)", FloatDistribution(0.1, 0.5)),
        ("int(interval(1,8))", IntDistribution(1, 8)),
        ("tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("range(1,5)", IntDistribution(1, 4)),
        ("range(2,9,3)", IntDistribution(2, 8, step=3)),
        ("range(0.0,1.0,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("choice(mean,attention)", CategoricalDistribution(("mean", "attention"))),
        ("mean,attention", CategoricalDistribution(("mean", "attention"))),
        ("[a,b],[c]", CategoricalDistribution(("[a,b]", "[c]"))),
        ("glob(pre*)", CategoricalDistribution(("pre_rms",))),
    ],
)
def test_every_kind_of_range(loader: ConfigLoader, value: str, expected: object) -> None:
    space = parse({}, [f"norm={value}", "trainer.max_epochs=2"], loader)
    assert space == Space(("trainer.max_epochs=2",), {"norm": expected})


def test_the_command_line_wins_over_the_yaml(loader: ConfigLoader) -> None:
    params = {"optimizer.lr": "interval(0.1,0.2)", "pooling": "mean,max", "model.n_layers": "range(1,4)"}
    space = parse(params, ["optimizer.lr=0.01", "pooling=attention,max", "domain=image"], loader)
    assert space.fixed == ("optimizer.lr=0.01", "domain=image")
    assert space.distributions["pooling"] == CategoricalDistribution(("attention", "max"))
    assert list(space.distributions) == ["model.n_layers", "pooling"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["optimizer.lr=0.1"], "nothing to search"),
        (["seed=0,1,2", "optimizer.lr=interval(0.1,0.2)"], "seed=0,1,2 cannot be searched"),
        (["domain=image,audio"], "domain=image,audio cannot be searched"),
        (["optimizer.lr=tag(log,interval(0.0,0.2))"], "no range to search"),
        (["optimizer.lr=interval(0.3,0.2)"], "no range to search"),
        (["pooling=tag(log,choice(mean,max))"], "choices have no scale"),
        (["norm=glob(foo*)"], "no range to search"),
    ],
)
def test_what_cannot_be_searched_is_refused(loader: ConfigLoader, typed: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse({}, typed, loader)


@given(st.floats(1e-8, 1e8))
def test_a_number_comes_back_from_its_override(value: float) -> None:
    space = Space((), {"optimizer.lr": FloatDistribution(1e-8, 1e8)})
    (override,) = OverridesParser.create().parse_overrides(space.overrides({"optimizer.lr": value}))
    assert override.value() == pytest.approx(value, rel=1e-5)


def test_a_study_draws_overrides_that_lie_within_their_ranges(loader: ConfigLoader) -> None:
    typed = ["optimizer.lr=tag(log,interval(1e-4,1e-2))", "model.n_layers=range(1,5)", "pooling=mean,max"]
    space = parse({}, typed, loader)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        rate, layers, pooling = OverridesParser.create().parse_overrides(
            space.overrides(study.ask(space.distributions).params)
        )
        assert 0.99e-4 <= rate.value() <= 1.01e-2
        assert layers.value() in (1, 2, 3, 4)
        assert pooling.value() in ("mean", "max")
