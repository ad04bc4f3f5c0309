from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import cycle, pairwise
from math import cos, sin
from typing import Any

import pytest
import torch
from autoencoders import ATTENTION, D_LATENT, SPEC, D, H, N, masks, polar, recurrent, samples, stepped
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cvkan.core.polar import as_complex
from cvkan.core.position import RotaryPosition
from cvkan.models.autoencoder import Code
from cvkan.models.memory import AttentionMemory, NoMemory
from cvkan.models.recurrent import CELLS
from cvkan.models.recurrent_decoder import borders
from cvkan.spec import Spec

COINS = {
    "free": torch.zeros(N, dtype=torch.bool),
    "all": torch.ones(N, dtype=torch.bool),
    "segments": torch.tensor([0, 1, 1, 0, 1, 0, 1]).bool(),
    "per_sample": torch.tensor([[0, 1, 1, 0, 1, 0, 1], [1, 1, 1, 0, 0, 1, 1], [0, 1, 1, 1, 0, 0, 1]]).bool(),
}
KINDS: list[dict[str, Any]] = [
    {"cell": "vanilla"},
    {"cell": "gru", "n_layers": 2},
    {"cell": "lstm", "n_layers": 2, "residual": True},
    {"cell": "lstm", "code": "token"},
    {"cell": "gru", "code": "token", "memory": ATTENTION},
    {"cell": "lstm", "memory": ATTENTION, "bidirectional": True},
]


@pytest.mark.parametrize("coins", COINS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_decoder_is_its_equations_step_by_step(kind: dict[str, Any], coins: str) -> None:
    model, x, mask = recurrent(**kind).double(), samples().double(), masks(7, 4, 1)
    code = model.encode(x, mask)
    z = torch.randn(code.z.shape, dtype=torch.float64)
    kept = model.decoder.memory.keep(code.states, mask)
    expected = stepped(model.decoder, z, x, COINS[coins].expand(3, N), kept)
    found = model.decode(replace(code, z=z), mask, x, COINS[coins])
    torch.testing.assert_close(found, expected)
    parameters = list(model.decoder.parameters())
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), parameters) for y in (found, expected)))
    if coins == "free":
        assert torch.equal(model.decode(replace(code, z=z), mask), found)


@given(coins=st.lists(st.booleans(), min_size=N, max_size=N))
def test_any_coins_give_what_steps_give(coins: list[bool]) -> None:
    model, x, told = recurrent(), samples(), torch.tensor(coins)
    z = torch.randn(3, D_LATENT, generator=torch.Generator().manual_seed(2))
    found = model.decode(Code(z), masks(7, 7, 7), x, told)
    torch.testing.assert_close(found, stepped(model.decoder, z, x, told.expand(3, N)))


@pytest.mark.parametrize("coins", COINS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_step_hears_of_the_vector_that_it_is_to_give(kind: dict[str, Any], coins: str) -> None:
    model, x, mask = recurrent(**kind), samples(), masks(7, 7, 7)
    code, told = model.encode(x, mask), COINS[coins].expand(3, N)
    before = model.decode(code, mask, x, told)
    for t in range(N):
        changed = x.clone()
        changed[:, t] += 1
        after = model.decode(code, mask, changed, told)
        assert torch.equal(after[:, : t + 1], before[:, : t + 1])
        if t + 1 < N:
            differs = (after[:, t + 1] != before[:, t + 1]).any(dim=-1)
            assert torch.equal(differs, told[:, t + 1])


@pytest.mark.parametrize(
    ("coins", "expected"),
    [("free", [0, 1, 2, 3, 4, 5, 6, 7]), ("all", [0, 7]), ("segments", [0, 3, 5, 7]), ("per_sample", [0, 3, 4, 5, 7])],
)
def test_steps_that_need_no_output_share_a_call(coins: str, expected: list[int]) -> None:
    assert borders(COINS[coins].expand(3, N)) == expected
    model, lengths = recurrent(), []
    step = model.decoder.step
    model.decoder.step = lambda x, *rest: (lengths.append(x.shape[1]), step(x, *rest))[1]
    model.decode(Code(torch.zeros(3, D_LATENT)), masks(7, 7, 7), samples(), COINS[coins])
    assert lengths == [end - begin for begin, end in pairwise(expected)]


def test_without_memory_nothing_but_the_code_reaches_the_decoder() -> None:
    model, mask = recurrent(), masks(7, 4, 1)
    code = model.encode(samples(), mask)
    assert code.states is None
    other = replace(model.encode(samples(seed=9), mask), z=code.z)
    assert torch.equal(model.decode(code, mask), model.decode(other, mask))
    assert torch.equal(model(samples(), mask), model.decode(Code(code.z), mask))
    assert not torch.equal(model.decode(code, mask), model.decode(Code(code.z + 1), mask))


def test_gold_and_coins_belong_together() -> None:
    model = recurrent()
    with pytest.raises(ValueError, match="gold and forced belong together"):
        model.decode(Code(torch.zeros(3, D_LATENT)), masks(7, 7, 7), samples())


def test_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    memory, theirs = AttentionMemory(H, H, n_heads=2), nn.MultiheadAttention(H, 2, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([memory.query.weight, memory.key.weight, memory.value.weight]))
        theirs.out_proj.weight.copy_(memory.out.weight)
    h, states, mask = torch.randn(3, 4, H), torch.randn(3, N, H), masks(7, 4, 1)
    places = [[trig(n / 10_000 ** (k // 2 * 2 / H)) for k, trig in zip(range(H), cycle((sin, cos)))] for n in range(N)]
    waves = torch.tensor(places)  # (N, H)
    found, _ = theirs(h + waves[2:6], states + waves, states, key_padding_mask=mask == 0)
    expected = torch.tanh(memory.merge(torch.cat([h, found], dim=-1)))
    torch.testing.assert_close(memory(h, memory.keep(states, mask), 2), expected)


@pytest.mark.parametrize("n_heads", [0, 4])
def test_heads_must_divide_the_hidden_units(n_heads: int) -> None:
    with pytest.raises(ValueError, match=f"n_heads must divide d_hidden, got {n_heads} and 6; set memory.n_heads"):
        recurrent(memory=partial(AttentionMemory, n_heads=n_heads))


def test_memory_needs_states() -> None:
    model = recurrent(memory=ATTENTION)
    with pytest.raises(ValueError, match="looks at states of the encoder, got none"):
        model.decode(Code(torch.zeros(3, D_LATENT)), masks(7, 7, 7))


@pytest.mark.parametrize("cell", CELLS)
def test_half_precision_goes_on_from_its_own_output(cell: str) -> None:
    model, x, mask = recurrent(cell=cell, memory=ATTENTION), samples(), masks(7, 7, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [model(x, mask), *(model(x, mask, x, told) for told in COINS.values())]
        found[-1].float().square().sum().backward()
    assert all(y.isfinite().all() for y in found)
    torch.testing.assert_close(found[0].float(), model(x, mask), rtol=0.1, atol=0.1)


def tokens(model: Any, z: Tensor, mask: Tensor) -> Tensor:
    """Complex tokens (B, N, 8) as they enter the blocks of a polar decoder."""
    seen: list[Any] = []
    hook = model.decoder.backbone.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0]))
    model.decode(Code(z), mask)
    hook.remove()
    return as_complex(seen[0])


@pytest.mark.parametrize("code", ["sequence", "token"])
def test_polar_tokens_are_the_complex_code_turned_by_place(code: str) -> None:
    model = polar(code=code, position=partial(RotaryPosition, base=100.0))
    z = torch.randn(3, D_LATENT) if code == "sequence" else torch.randn(3, N, D_LATENT)
    enter = model.decoder.enter
    weight = torch.complex(enter.weight_re, enter.weight_im)
    nn.init.normal_(enter.bias)
    bias = torch.complex(*enter.bias.chunk(2))
    complex_code = torch.complex(*z.chunk(2, dim=-1))
    spread = complex_code if code == "token" else complex_code[:, None].expand(-1, N, -1)
    angle = torch.arange(N)[:, None] * 100.0 ** (-torch.arange(8) / 8)
    expected = (spread @ weight.T + bias) * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(tokens(model, z, masks(7, 7, 7)), expected)


@pytest.mark.parametrize("code", ["sequence", "token"])
def test_polar_decoder_ignores_padding_and_other_samples(code: str) -> None:
    model, mask = polar(code=code), masks(7, 4, 1)
    z = torch.randn(3, D_LATENT) if code == "sequence" else torch.randn(3, N, D_LATENT)
    dirty = z.clone()
    dirty[0] += 1
    if code == "token":
        dirty = torch.where(mask.bool()[..., None], dirty, 1e30)
    valid = mask[1:].bool()
    clean, other = (model.decode(Code(codes), mask)[1:][valid] for codes in (z, dirty))
    assert torch.equal(clean, other)


def test_polar_decoder_is_not_told_the_length_of_a_sequence() -> None:
    model, z = polar(), torch.randn(3, D_LATENT)
    assert torch.equal(model.decode(Code(z), torch.ones(3, N)), model.decode(Code(z), masks(7, 4, 1)))
    assert model.decode(Code(z), torch.ones(3, 4)).shape[1] == 4


def test_polar_decoder_is_told_nothing() -> None:
    with pytest.raises(ValueError, match="takes no gold vectors"):
        polar()(samples(), masks(7, 7, 7), samples(), COINS["all"])


def test_polar_dropout_acts_in_training_only() -> None:
    model, mask = polar(dropout=0.5), masks(7, 7, 7)
    code = Code(torch.randn(3, D_LATENT))
    model.decoder.train()
    assert not torch.equal(model.decode(code, mask), model.decode(code, mask))
    model.decoder.eval()
    assert torch.equal(model.decode(code, mask), model.decode(code, mask))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (polar, {"d_latent": 5}, "even number of numbers, got d_latent=5; set domain.d_latent=6"),
        (polar, {"d_latent": 0}, "d_latent must be at least 1, got 0"),
        (polar, {"code": "word"}, "code must be sequence or token, got 'word'"),
        (recurrent, {"d_latent": 0}, "d_latent must be at least 1, got 0"),
    ],
)
def test_what_cannot_work_is_refused(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("spec", [Spec((N,), "vectors", D), Spec((N, D), "vectors", D, is_complex=True)])
def test_only_sequences_of_real_vectors_are_given_back(spec: Spec) -> None:
    decoder = type(recurrent().decoder)
    options = {"d_latent": 4, "code": "sequence", "cell": "gru", "d_hidden": H, "n_layers": 1, "dropout": 0.0}
    with pytest.raises(ValueError, match="gives back sequences of real vectors"):
        decoder(spec, **options, bidirectional=False, residual=False, memory=NoMemory)
    assert decoder(SPEC, **options, bidirectional=False, residual=False, memory=NoMemory).autoregressive
