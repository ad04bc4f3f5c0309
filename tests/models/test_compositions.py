"""Every choice of pooling, aggregation, norm and psi composes, builds and takes one step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from cvkan import build
from cvkan.cli import resolvers
from cvkan.spec import Spec
from cvkan.tasks.base import parameter_groups

AGGREGATIONS = [
    "mean",
    "magnitude",
    "magnitude_weighted",
    "agreement",
    "local",
    "local_box",
    "causal",
    "causal_filter",
    "phase_attention",
    "hierarchical",
    "[agreement,local]",
    "[causal,causal_filter]",
    "[mean,magnitude,local]",
]
POOLINGS = ["mean", "magnitude", "attention", "max", "none"]
NORMS = ["none", "pre_rms", "stream_rms", "stream_loglayer"]  # batch: not beside causal aggregations, test_conf has it
PSIS = ["poly", "rbf"]
TINY = ["domain.cvkan.d_complex=4", "domain.cvkan.n_layers=1", "domain.cvkan.n_heads=2"]


@pytest.fixture(scope="module", autouse=True)
def conf() -> Iterator[None]:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield


def composed(*overrides: str) -> DictConfig:
    return compose("train", overrides=[*TINY, *overrides])


def tokens(pooling: str) -> tuple[Spec, torch.Tensor, torch.Tensor]:
    """Spec, samples and targets that fit the pooling."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 6, 4, dtype=torch.complex64, generator=generator)
    if pooling == "none":
        return Spec((6, 4), "token_mask", 1, is_complex=True), x, (torch.arange(18).view(3, 6) % 3 == 0).float()
    return Spec((6, 4), "classes", 2, is_complex=True), x, torch.tensor([0, 1, 0])


def one_step(cfg: DictConfig, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """A step of the configured optimizer on the configured loss; every parameter gets a finite gradient."""
    optimizer = instantiate(cfg.optimizer)(parameter_groups(model))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    logits = model(x)
    loss = instantiate(cfg.loss)(logits.squeeze(-1) if y.is_floating_point() else logits, y)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} is not used"
        assert parameter.grad.isfinite().all(), name
    optimizer.step()
    moved = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert sum(moved) > 0.7 * len(moved)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@cache
def composed_once(override: str) -> DictConfig:
    return composed("embedding=identity", override)


def mixed(**choices: str) -> DictConfig:
    """One config with the given choice in each group. Composing takes longer than a step: each choice does it once."""
    cfg = composed_once("model=cvkan").copy()
    for group, name in choices.items():
        cfg[group] = composed_once(f"{group}={name}")[group]
    return cfg


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_every_combination_takes_a_step(aggregation: str, pooling: str) -> None:
    loss = "binary_cross_entropy" if pooling == "none" else "cross_entropy"
    spec, x, y = tokens(pooling)
    # Every pair of choices meets, not every four: norms and functions of magnitude do not know of each other.
    turn = AGGREGATIONS.index(aggregation) + POOLINGS.index(pooling)
    for i, norm in enumerate(NORMS):
        psi = PSIS[(i + turn) % len(PSIS)]
        cfg = mixed(aggregation=aggregation, pooling=pooling, norm=norm, psi=psi, loss=loss)
        one_step(cfg, build.build_model(cfg, spec), x, y)


def test_mixing_choices_is_composing_them_together() -> None:
    together = composed("embedding=identity", "aggregation=[mean,local]", "pooling=mean", "norm=none", "psi=rbf")
    apart = mixed(aggregation="[mean,local]", pooling="mean", norm="none", psi="rbf")
    assert apart.model == together.model


@pytest.mark.parametrize("aggregation", ["local", "[magnitude,local]"])
@pytest.mark.parametrize("embedding", ["conv_stem", "patch"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_image_embeddings_and_optimizers_take_a_step(embedding: str, aggregation: str, optimizer: str) -> None:
    cfg = composed(f"embedding={embedding}", f"aggregation={aggregation}", f"optimizer={optimizer}")
    model = build.build_model(cfg, Spec((1, 8, 8), "classes", 3))
    one_step(cfg, model, torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2]))


def test_convnet_takes_a_step() -> None:
    cfg = composed("model=convnet", "model.d_model=8")
    model = build.build_model(cfg, Spec((1, 8, 8), "classes", 3))
    one_step(cfg, model, torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize(
    ("override", "place", "expected"),
    [
        ("pooling=attention", "pooling", "AttentionPooling"),
        ("pooling=mean", "pooling", "MeanPooling"),
        ("pooling=max", "pooling", "MaxPooling"),
        ("norm=none", "backbone.blocks.0.interaction_norm", "NoNorm"),
        ("norm=none", "backbone.blocks.0.mixing_norm", "NoNorm"),
        ("psi=rbf", "backbone.blocks.0.gate_token.psi_context", "RBFPsi"),
        ("psi=rbf", "backbone.blocks.0.mixing.act.psi_rot", "RBFPsi"),
        ("aggregation=agreement", "backbone.blocks.0.aggregation.parts.0", "AgreementAggregation"),
        ("aggregation=magnitude_weighted", "backbone.blocks.0.aggregation.parts.0", "MagnitudeWeightedAggregation"),
        ("aggregation=local_box", "backbone.blocks.0.aggregation.parts.0", "LocalBoxAggregation"),
        ("aggregation=causal", "backbone.blocks.0.aggregation.parts.0", "CausalMeanAggregation"),
        ("aggregation=[causal,causal_filter]", "backbone.blocks.0.aggregation.parts.1", "CausalFilterAggregation"),
        ("aggregation=phase_attention", "backbone.blocks.0.aggregation.parts.0", "PhaseAttentionAggregation"),
        ("aggregation=hierarchical", "backbone.blocks.0.aggregation.parts.0", "HierarchicalAggregation"),
        ("aggregation=[mean,local]", "backbone.blocks.0.aggregation.parts.1", "LocalAggregation"),
    ],
)
def test_a_choice_changes_the_built_module(override: str, place: str, expected: str) -> None:
    spec, *_ = tokens("mean")
    usual = build.build_model(composed("embedding=identity", "aggregation=magnitude"), spec)
    chosen = build.build_model(composed("embedding=identity", "aggregation=magnitude", override), spec)
    assert type(chosen.get_submodule(place)).__name__ == expected
    names = {name for name, _ in usual.named_modules()}
    assert place not in names or type(usual.get_submodule(place)).__name__ != expected


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("aggregation.agreement.n_passes=5", "backbone.blocks.0.aggregation.parts.0.n_passes", 5),
        ("block.dropout=0.25", "backbone.blocks.0.dropout", 0.25),
        ("block.mixing.expansion=2.0", "backbone.blocks.0.mixing.linear_in.d_out", 8),
        ("psi.degree=2", "backbone.blocks.0.mixing.act.psi.coefficients.shape", (2, 6)),
        ("block.agreement_gain=3.0", "backbone.blocks.0.agreement_gain.data", [3.0, 3.0]),
        ("block.agreement_threshold=0.5", "backbone.blocks.0.agreement_threshold.data", [0.5, 0.5]),
        ("block.context_bias=-1.0", "backbone.blocks.0.gate_context.bias.data", [-1.0] * 4),
        ("aggregation.agreement.tau=9.0", "backbone.blocks.0.aggregation.parts.0.tau.data", [9.0, 9.0]),
        ("norm.eps=0.1", "backbone.blocks.0.interaction_norm.eps", 0.1),
        ("model.n_layers=3", "backbone.blocks.2.n_heads", 2),
        ("model.dropout=0.7", "dropout.p", 0.7),
        ("readout=mag", "head.in_features", 4),
        ("pooling.sharpness=1.5", "pooling.score.psi.coefficients.data", [[1.5 / 4] * 4, [0.0] * 4, [0.0] * 4]),
    ],
)
def test_a_number_reaches_the_built_module(override: str, place: str, value: object) -> None:
    spec, *_ = tokens("mean")
    cfg = composed("embedding=identity", "aggregation=agreement", override)
    found: object = build.build_model(cfg, spec)
    for step in place.split("."):
        found = found[int(step)] if step.isdigit() else getattr(found, step)
    if isinstance(found, torch.Tensor):
        found = found.tolist()
    assert found == (torch.Size(value) if isinstance(value, tuple) else value)
