from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from cvkan.core.aggregation import AgreementAggregation
from cvkan.core.polarizing import PolarBlock
from cvkan.core.pooling import (
    AttentionPooling,
    FlattenPooling,
    MagnitudePooling,
    MeanPooling,
    NoPooling,
    Pooling,
    Readout,
)
from cvkan.core.position import NoPosition
from cvkan.models.cvkan import CVKAN
from cvkan.models.embedding import IdentityEmbedding
from cvkan.spec import Spec

N_TOKENS, D = 8, 4
TOKENS = Spec((N_TOKENS, D), "token_mask", 1, is_complex=True)
CLASSES = Spec((N_TOKENS, D), "classes", 3, is_complex=True)


def build(spec: Spec, pooling: type[Pooling], **options: object) -> CVKAN:
    torch.manual_seed(0)
    sizes = {"d_complex": D, "n_layers": 2, "n_heads": 2, "readout": Readout("all"), "dropout": 0.0}
    return CVKAN(
        spec,
        **{**sizes, **options},
        embedding=IdentityEmbedding,
        position=NoPosition,
        block=partial(PolarBlock, aggregations={"agreement": AgreementAggregation}),
        pooling=pooling,
    )


def samples(n: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(n, N_TOKENS, D, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pooling", [MeanPooling, MagnitudePooling, AttentionPooling])
def test_logits_are_the_head_of_the_pooled_readout(pooling: type[Pooling]) -> None:
    model, x = build(CLASSES, pooling), samples()
    planes = model.scale(model.backbone((x.real.contiguous(), x.imag.contiguous())))
    expected = model.head(model.pooling(planes, model.readout(planes)))
    logits = model(x)
    assert logits.shape == (3, 3)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30])
@pytest.mark.parametrize("pooling", [MeanPooling, MagnitudePooling, AttentionPooling, NoPooling])
def test_padded_tokens_and_other_samples_change_nothing(pooling: type[Pooling], poison: float) -> None:
    per_token = pooling is NoPooling
    model, x = build(TOKENS if per_token else CLASSES, pooling), samples()
    mask = torch.arange(N_TOKENS).expand(3, -1) < torch.tensor([[8], [5], [1]])
    dirty = torch.where(mask[..., None], x, complex(poison, poison))
    dirty[0] = samples(1, seed=5)
    clean, other = model(x, mask)[1:], model(dirty, mask)[1:]
    assert torch.equal(clean[mask[1:]] if per_token else clean, other[mask[1:]] if per_token else other)
    assert clean.isfinite().all()


def test_flattened_tokens_keep_their_places_in_batches_of_short_samples() -> None:
    """The batch is padded to its own longest sample: fewer tokens than the layout has."""
    model, x = build(CLASSES, FlattenPooling), samples()
    mask = torch.arange(N_TOKENS).expand(3, -1) < torch.tensor([[5], [3], [1]])
    torch.testing.assert_close(model(x[:, :5], mask[:, :5]), model(x, mask))


def test_more_tokens_than_the_layout_has_are_refused_where_each_has_its_place() -> None:
    longer = torch.cat([samples(), samples()], dim=1)
    with pytest.raises(ValueError, match=r"samples are longer than the layout \(8,\) of tokens; shorten them"):
        build(CLASSES, FlattenPooling)(longer)
    assert build(CLASSES, MeanPooling)(longer).shape == (3, 3)


@pytest.mark.parametrize(("spec", "pooling"), [(TOKENS, MeanPooling), (CLASSES, NoPooling)])
def test_pooling_must_fit_the_target(spec: Spec, pooling: type[Pooling]) -> None:
    want = "none" if spec is TOKENS else "mean, magnitude, attention or max"
    with pytest.raises(ValueError, match=f"{pooling.__name__} gives one output a .*; set pooling={want}"):
        build(spec, pooling)


def test_untrained_token_selection_ranks_by_magnitude() -> None:
    model, x = build(TOKENS, NoPooling), samples()
    layer = model.trace(x)[-1]
    loudness = torch.stack(model.scale(layer.z)).square().sum(0).add(1e-6).sqrt().mean(-1)
    torch.testing.assert_close(model(x)[..., 0], 4 * (loudness - 1.35), rtol=1e-4, atol=1e-4)


def test_head_start_needs_the_magnitude_and_is_for_tokens_only() -> None:
    plain = build(TOKENS, NoPooling, readout=Readout("cart"))
    assert plain.head.weight.std() > 0
    assert build(CLASSES, MeanPooling).head.weight.std() > 0


def test_trace_has_one_entry_a_layer_and_grid_is_that_of_the_embedding() -> None:
    model = build(CLASSES, MeanPooling, n_layers=3)
    assert len(model.trace(samples())) == 3
    assert model.grid == (N_TOKENS,)


def test_dropout_before_the_head_acts_in_training_only() -> None:
    model, x = build(CLASSES, MeanPooling, dropout=0.5), samples()
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_complex": 0}, "d_complex must be at least 1, got 0"),
        ({"n_layers": 0}, "n_layers must be at least 1, got 0"),
        ({"n_heads": 3}, "n_heads must divide d_complex"),
        ({"d_complex": 5}, "embedding=identity needs complex tokens"),
    ],
)
def test_impossible_sizes_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(CLASSES, MeanPooling, **options)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_network_has_the_gradients_of_the_eager_one() -> None:
    model, x = build(CLASSES, MagnitudePooling, n_layers=1), samples()
    results = []
    for network in (model, torch.compile(model, backend="aot_eager")):
        logits: Tensor = network(x)
        loss = nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2]))
        results.append([logits, *torch.autograd.grad(loss, list(model.parameters()))])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-6)
