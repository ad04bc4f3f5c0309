from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from autoencoders import ATTENTION, D_LATENT, HEAD, SPEC, D, H, N, masks, polar, recurrent, samples
from hydra import compose, initialize_config_module
from torch import nn

from cvkan import build
from cvkan.cli import resolvers
from cvkan.errors import UserError
from cvkan.models.autoencoder import Autoencoder
from cvkan.models.heads import CodeHead, LinearHead
from cvkan.models.memory import AttentionMemory
from cvkan.spec import Spec

POEMS = Spec((50, 300), "vectors", 300)
BATCH_NORMED = partial(CodeHead, d_latent=D_LATENT, batch_norm=True)
PLAIN = partial(CodeHead, d_latent=D_LATENT, batch_norm=False)


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield


def configured(*overrides: str) -> Autoencoder:
    """The autoencoder that ``cvkan-train domain=poetry ...`` trains, for chunks of 50 vectors of 300 numbers."""
    cfg = compose("train", overrides=["domain=poetry", *overrides])
    return Autoencoder(build.build_model(cfg, POEMS), build._instantiate(cfg, "decoder")(spec=POEMS))


def n_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("vanilla", [68_808, 153_352, 1_004_680]),
        ("gru", [162_504, 373_512, 2_671_752]),
        ("lstm", [210_440, 485_768, 3_513_992]),
    ],
)
def test_parameters_are_as_many_as_published(cell: str, expected: list[int]) -> None:
    chosen = ("model=recurrent", f"model.cell={cell}")
    found = [n_parameters(configured(*chosen, f"model.d_hidden={size}")) for size in (64, 128, 512)]
    assert found == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], 10_182_616),
        (["domain.d_latent=16"], 9_895_560),
        (["domain.d_latent=16", "model.n_layers=1"], 5_675_656),
        (["memory.n_heads=4"], 10_182_616),
    ],
)
def test_parameters_with_memory_are_as_many_as_published(overrides: list[str], expected: int) -> None:
    assert n_parameters(configured("experiment=poetry_attention", *overrides)) == expected


@pytest.mark.parametrize(("name", "expected"), [("baseline", 68_808), ("scaled", 3_513_992)])
def test_named_experiments_are_the_published_networks(name: str, expected: int) -> None:
    assert n_parameters(configured(f"experiment=poetry_{name}")) == expected


@pytest.mark.parametrize(
    ("name", "hidden", "d_latent", "n_layers", "dropout", "batch_norm"),
    [
        ("tiny", 128, 16, 1, 0.05, False),
        ("small", 256, 32, 1, 0.1, False),
        ("medium", 512, 64, 1, 0.1, False),
        ("large", 768, 96, 2, 0.15, True),
        ("xlarge", 1024, 128, 2, 0.2, True),
        ("research", 512, 20, 1, 0.1, False),
    ],
)
def test_presets_have_their_sizes(
    name: str, hidden: int, d_latent: int, n_layers: int, dropout: float, batch_norm: bool
) -> None:
    with torch.device("meta"):  # orthogonal starts of a thousand units take seconds
        cfg = compose("train", overrides=["domain=poetry", f"experiment=poetry_{name}"])
        encoder, decoder = build.build_model(cfg, POEMS), build._instantiate(cfg, "decoder")(spec=POEMS)
    for stack in (encoder.ahead, decoder.stack):
        assert [layer.hidden_size for layer in stack.layers] == [hidden] * n_layers
        assert stack.dropout.p == dropout
        assert stack.residual == (name == "xlarge")
    assert encoder.head.d_latent == decoder.d_latent == d_latent
    assert (encoder.head.norm is not None) == batch_norm
    assert (encoder.back is not None) == (name == "research")
    assert isinstance(decoder.memory, AttentionMemory) == (name == "research")


@pytest.mark.parametrize("name", ["tiny", "small", "medium", "large", "xlarge", "baseline", "scaled"])
def test_experiments_are_of_one_size_with_either_network(name: str) -> None:
    sizes = {}
    for model in ("cvkan", "recurrent"):
        cfg = compose("train", overrides=["domain=poetry", f"experiment=poetry_{name}", f"model={model}"])
        with torch.device("meta"):
            parts = [build.build_model(cfg, POEMS), build._instantiate(cfg, "decoder")(spec=POEMS)]
        sizes[model] = sum(map(n_parameters, parts))
    assert sizes["cvkan"] == pytest.approx(sizes["recurrent"], rel=0.02)


@pytest.mark.parametrize("overrides", [["model=recurrent"], ["model=cvkan", "decoder=recurrent"]])
def test_the_cell_has_one_place(overrides: list[str]) -> None:
    decoder = configured(*overrides, "domain.recurrent.cell=gru").decoder
    assert [type(layer) for layer in decoder.stack.layers] == [nn.GRU]
    if overrides == ["model=recurrent"]:
        assert [type(layer) for layer in configured(*overrides, "model.cell=vanilla").decoder.stack.layers] == [nn.RNN]


@pytest.mark.parametrize("code", ["sequence", "token"])
@pytest.mark.parametrize("model", ["recurrent", "cvkan"])
def test_model_brings_its_decoder_and_every_parameter_learns(model: str, code: str) -> None:
    torch.manual_seed(0)
    network = configured(f"model={model}", f"code={code}").train()
    x, mask = torch.randn(4, 50, 300), (torch.arange(50) < torch.tensor([[50], [30], [8], [2]])).float()
    output = network(x, mask)
    assert output.shape == x.shape
    (output * mask[..., None]).square().sum().backward()
    # Whatever is added to all codes alike, batch normalisation takes away: a bias in front of it has no gradient.
    silent = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert silent <= {"encoder.head.linear.bias"}
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize(("model", "decoder"), [("recurrent", "cvkan"), ("cvkan", "recurrent")])
def test_a_model_may_have_the_others_decoder(model: str, decoder: str) -> None:
    network = configured(f"model={model}", f"decoder={decoder}", "domain.recurrent.d_hidden=24")
    assert type(network.encoder) is type(configured(f"model={model}").encoder)
    assert type(network.decoder) is type(configured(f"model={decoder}").decoder)
    assert network(torch.randn(2, 50, 300), torch.ones(2, 50)).shape == (2, 50, 300)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30])
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (recurrent, {}),
        (recurrent, {"bidirectional": True, "n_layers": 2, "memory": ATTENTION}),
        (recurrent, {"code": "token"}),
        (polar, {}),
        (polar, {"code": "token"}),
    ],
)
@pytest.mark.parametrize("is_training", [False, True])
def test_padding_changes_nothing(make: Any, options: dict[str, Any], poison: float, is_training: bool) -> None:
    model, mask = make(**options).train(is_training), masks(7, 4, 1)
    valid = mask.bool()
    dirty = torch.where(valid[..., None], samples(), poison)
    clean, other = model(samples(), mask), model(dirty, mask)
    assert torch.equal(clean[valid], other[valid])
    assert clean[valid].isfinite().all()
    if model.autoregressive:
        everywhere = torch.ones(N, dtype=torch.bool)
        clean, other = model(samples(), mask, samples(), everywhere), model(dirty, mask, dirty, everywhere)
        assert torch.equal(clean[valid], other[valid])


@pytest.mark.parametrize("code", ["sequence", "token"])
def test_numbers_that_reach_the_decoder(code: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for make in (recurrent, polar):
            model = make(code=code)
            assert model.floats_per_chunk(N) == (D_LATENT if code == "sequence" else N * D_LATENT)
            assert model.compression() == pytest.approx(N * D / D_LATENT if code == "sequence" else D / D_LATENT)
    assert not caplog.records


def test_published_compression() -> None:
    assert configured().compression() == 937.5
    assert configured("code=token").compression() == 18.75


@pytest.mark.parametrize(("bidirectional", "width"), [(False, H), (True, 2 * H)])
def test_memory_is_said_to_be_no_compressor(bidirectional: bool, width: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = recurrent(memory=ATTENTION, bidirectional=bidirectional)
        model(samples(), masks(7, 7, 7))
    floats = N * width + D_LATENT
    assert model.floats_per_chunk(N) == floats
    assert model.compression() is None
    (record,) = caplog.records
    expected = f"Not a compressor: the decoder sees {floats} numbers of a sequence of 7 tokens, its code has 4."
    assert record.getMessage() == expected


def test_decoder_with_memory_hears_of_the_sequence_beside_its_code() -> None:
    model, mask = recurrent(memory=ATTENTION), masks(7, 4, 1)
    code, other = (model.encode(x, mask) for x in (samples(), samples(seed=9)))
    silent = [type(code)(torch.zeros_like(code.z), each.states, mask) for each in (code, other)]
    assert not torch.allclose(*(model.decode(each, mask) for each in silent))


@pytest.mark.parametrize("shape", ["sequence", "token"])
def test_batch_norm_is_by_valid_codes_alone(shape: str) -> None:
    torch.manual_seed(0)
    head, mask = BATCH_NORMED(n_features=3, spec=SPEC).train(), masks(7, 4, 1)
    nn.init.normal_(head.norm.weight)
    nn.init.normal_(head.norm.bias)
    code = torch.randn(3, D_LATENT) if shape == "sequence" else torch.randn(3, N, D_LATENT)
    valid = mask.bool() if shape == "token" else torch.ones(3, dtype=torch.bool)
    rows = code[valid].double().numpy()
    unit = (rows - rows.mean(0)) / (rows.var(0) + 1e-5) ** 0.5
    expected = torch.from_numpy(unit).float() * head.norm.weight + head.norm.bias
    found = head.normalised(code, mask)
    torch.testing.assert_close(found[valid], expected)
    assert (found[~valid] == 0).all()
    torch.testing.assert_close(head.norm.running_mean, torch.from_numpy(0.1 * rows.mean(0)).float())
    torch.testing.assert_close(head.norm.running_var, torch.from_numpy(0.9 + 0.1 * rows.var(0, ddof=1)).float())
    # In evaluation every code stands for itself.
    head.eval()
    torch.testing.assert_close(head.normalised(code, mask)[:1], head.normalised(code[:1], mask[:1]))


def test_single_code_is_normalised_by_the_batches_before() -> None:
    head = BATCH_NORMED(n_features=3, spec=SPEC)
    before = {name: buffer.clone() for name, buffer in head.named_buffers()}
    code = torch.randn(1, D_LATENT)
    torch.testing.assert_close(head.normalised(code, masks(3)), code / (1 + 1e-5) ** 0.5)
    assert all(torch.equal(buffer, before[name]) for name, buffer in head.named_buffers())


def test_codes_of_padded_tokens_are_zero_without_batch_norm_too() -> None:
    head, code = PLAIN(n_features=3, spec=SPEC), torch.full((1, N, D_LATENT), torch.nan)
    code[:, :2] = 1.0
    found = head.normalised(code, masks(2))
    assert torch.equal(found, code.nan_to_num())


def cnn(**_: Any) -> nn.Module:
    """A network without a head."""
    return nn.Sequential(nn.Flatten(), nn.Linear(N * D, D_LATENT))


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        (cnn(), recurrent(), "Sequential gives no code; set task_head=code"),
        (recurrent().encoder, recurrent(d_latent=6, head=partial(HEAD, d_latent=6)), "has 4 numbers, .* takes 6"),
        (recurrent().encoder, polar(code="token"), "takes one a token; set code=sequence, or pooling=none"),
        (polar(code="token").encoder, recurrent(), "takes one a sequence; set code=token, or pooling=mean"),
        (polar().encoder, recurrent(memory=ATTENTION), "looks at states .*, CVKAN has none; set model=recurrent, or m"),
    ],
)
def test_parts_that_do_not_fit_are_refused(encoder: nn.Module, decoder: Autoencoder, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Autoencoder(encoder, decoder.decoder)


def test_check_of_the_parts_leaves_the_encoder_as_it_was() -> None:
    for is_training in (True, False):
        encoder = recurrent().encoder.train(is_training)
        buffers = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
        Autoencoder(encoder, recurrent().decoder)
        assert encoder.training == encoder.head.training == is_training
        assert all(torch.equal(buffer, buffers[name]) for name, buffer in encoder.named_buffers())


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (Spec((N, D), "classes", 3), {}, "the data has 'classes'; set task_head=linear"),
        (SPEC, {"d_latent": 0}, "d_latent must be at least 1, got 0"),
    ],
)
def test_head_refuses_what_it_cannot_code(spec: Spec, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodeHead(n_features=3, spec=spec, **{"d_latent": D_LATENT, "batch_norm": True, **options})


def test_another_head_than_that_of_codes_is_refused() -> None:
    with pytest.raises(ValueError, match="gives no code; set task_head=code"):
        recurrent(head=LinearHead)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=recurrent", "memory=attention", "memory.n_heads=7"], "n_heads must divide d_hidden, got 7 and 128"),
        (["domain.d_latent=15"], "even number of numbers, got d_latent=15"),
        (["model=recurrent", "model.cell=rnn"], "cell must be one of vanilla, gru, lstm"),
        (
            ["memory=attention"],
            "AttentionMemory is for a decoder that takes steps.*set model=recurrent, or memory=none",
        ),
        (["experiment=poetry_research", "model=cvkan"], "AttentionMemory is for .*; set model=recurrent"),
        (["experiment=poetry_attention", "model=cvkan"], "AttentionMemory is for .*; set model=recurrent"),
    ],
)
def test_configured_mistakes_end_in_one_line(overrides: list[str], message: str) -> None:
    cfg = compose("train", overrides=["domain=poetry", *overrides])

    def parts() -> list[nn.Module]:
        return [build.build_model(cfg, POEMS), build._instantiate(cfg, "decoder")(spec=POEMS)]

    with pytest.raises((UserError, ValueError), match=message) as caught:
        parts()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("make", [recurrent, polar])
def test_a_code_can_tell_a_few_sequences_apart(make: Any) -> None:
    model, x, mask = make(head=PLAIN).train(), samples(4), masks(7, 7, 4, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(250):
        loss = ((model(x, mask) - x).square().mean(-1) * mask).sum() / mask.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.4  # one answer for all: 0.75
