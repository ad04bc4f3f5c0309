from __future__ import annotations

from functools import partial

import torch
from torch import nn

from cvkan.core.aggregation import AgreementAggregation, MagnitudeAggregation
from cvkan.core.local import LocalAggregation
from cvkan.core.polarizing import PolarBlock
from cvkan.core.pooling import AttentionPooling, Readout
from cvkan.core.position import LearnedPosition
from cvkan.core.univariate import RBFPsi
from cvkan.models.baselines.convnet import ConvNet
from cvkan.models.cvkan import CVKAN
from cvkan.models.embedding import ConvStem
from cvkan.models.heads import LinearHead
from cvkan.radio.images import Histogram
from cvkan.spec import Spec
from cvkan.tasks.base import parameter_groups

IMAGES = Spec((1, 8, 8), "classes", 10)


def decaying(model: nn.Module) -> set[str]:
    """Names of the parameters in the decaying group; checks that every parameter is in exactly one group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay, rest = parameter_groups(model)
    assert "weight_decay" not in decay  # the optimizer's own
    assert rest["weight_decay"] == 0.0
    together = [id(parameter) for parameter in (*decay["params"], *rest["params"])]
    assert sorted(together) == sorted(names)
    return {names[id(parameter)] for parameter in decay["params"]}


def network() -> CVKAN:
    aggregations = {"a": AgreementAggregation, "l": LocalAggregation, "m": MagnitudeAggregation}
    return CVKAN(
        IMAGES,
        d_complex=4,
        n_layers=1,
        n_heads=2,
        readout=Readout("all"),
        dropout=0.0,
        embedding=partial(ConvStem, n_layers=2, max_tokens=64),
        position=LearnedPosition,
        block=partial(PolarBlock, aggregations=aggregations, psi=RBFPsi),
        pooling=AttentionPooling,
    )


def test_only_matrices_of_linear_and_convolutional_layers_decay() -> None:
    linears = ("value", "interaction_out", "mixing.linear_in", "mixing.linear_out")
    assert decaying(network()) == {
        "embedding.layers.0.weight",
        "embedding.layers.3.weight",
        "pooling.score.0.weight",
        "pooling.score.2.weight",
        "head.weight",
        "backbone.blocks.0.aggregation.parts.1.weight_re",
        "backbone.blocks.0.aggregation.parts.1.weight_im",
        *(f"backbone.blocks.0.{layer}.weight_{plane}" for layer in linears for plane in ("re", "im")),
    }


def test_baseline_follows_the_same_rule() -> None:
    sizes = {"d_model": 4, "n_layers": 1, "stem_stride": 1, "kernel_size": 3, "expansion": 2.0, "dropout": 0.0}
    model = ConvNet(IMAGES, **sizes, image=Histogram(size=32, limit=3.0, reference=32), head=LinearHead)
    kernels = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    assert decaying(model) == kernels


def test_embedding_tables_do_not_decay() -> None:
    assert decaying(nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 2))) == {"2.weight"}


def test_a_group_without_parameters_is_left_out() -> None:
    assert [len(group["params"]) for group in parameter_groups(nn.LayerNorm(3))] == [2]
    assert [len(group["params"]) for group in parameter_groups(nn.Linear(3, 3, bias=False))] == [1]


def test_decay_shrinks_matrices_and_leaves_biases() -> None:
    model = nn.Linear(3, 3)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=0.1, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model.weight.detach(), before["weight"] * 0.95)
    assert torch.equal(model.bias.detach(), before["bias"])
