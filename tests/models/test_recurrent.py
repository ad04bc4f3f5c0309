from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from autoencoders import HEAD, SPEC, D, H, N, masks, samples
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cvkan.models.heads import LinearHead
from cvkan.models.recurrent import CELLS, RecurrentEncoder, RecurrentStack, turned_round
from cvkan.spec import Spec

LENGTHS = (7, 4, 1)


def stack(cell: str, n_layers: int = 2, residual: bool = False, dropout: float = 0.0, **sizes: int) -> RecurrentStack:
    torch.manual_seed(0)
    sizes = {"d_input": D, "d_hidden": H, **sizes}
    return RecurrentStack(cell, n_layers=n_layers, residual=residual, dropout=dropout, **sizes)


def encoder(**options: Any) -> RecurrentEncoder:
    torch.manual_seed(0)
    shared = {"cell": "lstm", "d_hidden": H, "n_layers": 1, "code": "sequence", "dropout": 0.0, "head": HEAD}
    shared |= {"bidirectional": False, "residual": False, "spec": SPEC}
    return RecurrentEncoder(**{**shared, **options}).eval()


@pytest.mark.parametrize(("cell", "n_gates"), [("vanilla", 1), ("gru", 3), ("lstm", 4)])
def test_every_gate_starts_for_itself(cell: str, n_gates: int) -> None:
    d_input, d_hidden = 60, 40
    for layer in stack(cell, d_input=d_input, d_hidden=d_hidden).layers:
        weights = dict(layer.named_parameters())
        d_in = weights["weight_ih_l0"].shape[1]
        bound = math.sqrt(6 / (d_in + d_hidden))
        for gate in weights["weight_ih_l0"].split(d_hidden):
            assert 0.95 * bound < gate.abs().max() <= bound
            assert gate.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        gates = weights["weight_hh_l0"].split(d_hidden)
        assert len(gates) == n_gates
        for gate in gates:
            torch.testing.assert_close(gate @ gate.T, torch.eye(d_hidden), rtol=0, atol=1e-5)
        bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
        expected = torch.zeros(n_gates, d_hidden)
        if cell == "lstm":
            expected[1] = 1.0
        assert torch.equal(bias, expected.flatten())


@pytest.mark.parametrize(("cell", "layer"), [("vanilla", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_layers_are_those_of_torch(cell: str, layer: type[nn.RNNBase]) -> None:
    ours, theirs = stack(cell), layer(D, H, num_layers=2, batch_first=True)
    weights = {name.replace("_l0", f"_l{k}"): p for k in (0, 1) for name, p in ours.layers[k].named_parameters()}
    theirs.load_state_dict(weights)
    expected, last = theirs(samples())
    y, states = ours(samples())
    torch.testing.assert_close(y, expected)
    for part, wanted in zip(
        zip(*states, strict=True) if cell == "lstm" else [states], last if cell == "lstm" else [last], strict=True
    ):
        torch.testing.assert_close(torch.cat(part), wanted)


def test_residual_adds_the_input_from_the_second_layer_on() -> None:
    ours, x = stack("gru", residual=True), samples()
    first, _ = ours.layers[0](x)
    second, _ = ours.layers[1](first)
    torch.testing.assert_close(ours(x)[0], first + second)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("residual", [False, True])
def test_single_steps_are_the_fused_call_with_its_gradients(cell: str, residual: bool) -> None:
    ours, x = stack(cell, residual=residual).double(), samples().double()
    fused, last = ours(x)
    y, states = ours(x[:, :1])
    steps = [y]
    for t in range(1, N):
        y, states = ours(x[:, t : t + 1], states)
        steps.append(y)
    one_by_one = torch.cat(steps, dim=1)
    torch.testing.assert_close(one_by_one, fused)
    torch.testing.assert_close(states, last)
    gradients = [torch.autograd.grad(y.square().sum(), list(ours.parameters())) for y in (fused, one_by_one)]
    torch.testing.assert_close(*gradients)


def test_outputs_of_every_layer_are_dropped_in_training_only() -> None:
    ours = stack("gru", dropout=0.5)
    seen: list[Tensor] = []
    ours.layers[1].register_forward_hook(lambda module, arguments, output: seen.append(arguments[0]))
    y, _ = ours(samples())
    for dropped in (seen[0], y):
        assert 0.3 < (dropped == 0).float().mean() < 0.7
    assert (ours.eval()(samples())[0] != 0).all()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("code", ["sequence", "token"])
def test_encoder_is_a_packed_layer_of_torch(cell: str, bidirectional: bool, code: str) -> None:
    model = encoder(cell=cell, bidirectional=bidirectional, code=code, head=lambda **_: nn.Identity())
    layer = {"vanilla": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell](
        D, H, batch_first=True, bidirectional=bidirectional
    )
    weights = dict(model.ahead.layers[0].named_parameters())
    if model.back is not None:
        weights |= {f"{name}_reverse": p for name, p in model.back.layers[0].named_parameters()}
    layer.load_state_dict(weights)
    packed = pack_padded_sequence(samples(), torch.tensor(LENGTHS), batch_first=True)
    states, last = layer(packed)
    mask = masks(*LENGTHS)
    features, all_states = model(samples(), mask, return_states=True)
    expected, _ = pad_packed_sequence(states, batch_first=True)
    valid = mask.bool()
    torch.testing.assert_close(all_states[valid], expected[valid])
    if code == "token":
        torch.testing.assert_close(features[valid], expected[valid])
    else:
        last = last[0] if cell == "lstm" else last
        torch.testing.assert_close(features, torch.cat(list(last), dim=-1))


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, 1e30])
@pytest.mark.parametrize("code", ["sequence", "token"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing(bidirectional: bool, code: str, poison: float) -> None:
    model, mask = encoder(bidirectional=bidirectional, n_layers=2, code=code), masks(*LENGTHS)
    dirty = torch.where(mask.bool()[..., None], samples(), poison)
    for clean, other in zip(
        model(samples(), mask, return_states=True), model(dirty, mask, return_states=True), strict=True
    ):
        assert torch.equal(clean, other)
        assert clean.isfinite().all()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_code_of_a_sequence_does_not_know_how_much_padding_follows(bidirectional: bool) -> None:
    model, x = encoder(bidirectional=bidirectional, n_layers=2), samples()[:, :4]
    torch.testing.assert_close(model(samples(), masks(4, 4, 4)), model(x))


def test_turned_round_is_its_own_inverse_and_leaves_padding() -> None:
    x = torch.arange(10.0).view(2, 5, 1)
    length = torch.tensor([[3], [5]])
    turned = turned_round(x, length)
    assert turned[..., 0].tolist() == [[2, 1, 0, 3, 4], [9, 8, 7, 6, 5]]
    assert torch.equal(turned_round(turned, length), x)


@pytest.mark.parametrize(("target", "code"), [("classes", "sequence"), ("token_mask", "token")])
def test_any_task_can_use_it(target: str, code: str) -> None:
    model = encoder(spec=Spec((N, D), target, 3), code=code, head=LinearHead)
    assert model(samples()).shape == ((3, 3) if code == "sequence" else (3, N, 3))


@pytest.mark.parametrize("cell", CELLS)
def test_half_precision_keeps_recurrences_in_float32(cell: str) -> None:
    model, x = encoder(cell=cell, n_layers=2, bidirectional=True), samples()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes, states = model(x, return_states=True)
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, model(x, return_states=True)[1])
    assert codes.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "rnn"}, "cell must be one of vanilla, gru, lstm, got 'rnn'"),
        ({"d_hidden": 0}, "d_hidden and n_layers must be at least 1, got 0 and 1"),
        ({"n_layers": 0}, "d_hidden and n_layers must be at least 1, got 6 and 0"),
        ({"code": "word"}, "code must be sequence or token, got 'word'"),
        ({"spec": Spec((3, 8, 8), "vectors", 8)}, "reads sequences of real vectors"),
        ({"spec": Spec((7, 5), "vectors", 5, is_complex=True)}, "reads sequences of real vectors"),
        ({"spec": Spec((7, 5), "classes", 2), "code": "token"}, "code=token does not fit .* set model.code=sequence"),
        ({"spec": Spec((7, 5), "token_mask", 1)}, "code=sequence does not fit .* set model.code=token"),
        ({"dropout": 1.5}, "dropout probability"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder(**options)
