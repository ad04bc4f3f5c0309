from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hydra import compose, initialize_config_module
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan import build
from cvkan.cli import resolvers
from cvkan.models.heads import JointHead, LinearHead
from cvkan.spec import Spec

M, S = 17, 26
RADIO = Spec(
    (1024,),
    "modulation_snr",
    M + S,
    class_names=tuple(f"m{i}" for i in range(M)),
    is_complex=True,
    snr_db=tuple(float(2 * i - 20) for i in range(S)),
)


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield


def joint(n_features: int = 24, **options: object) -> JointHead:
    torch.manual_seed(0)
    return JointHead(n_features, RADIO, **{"n_task_features": None, "snr_hidden": [], "dropout": 0.3, **options})


def n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("n_features", "expected"), [(512, 395_392), (768, 888_000)])
def test_both_branches_have_the_published_number_of_parameters(n_features: int, expected: int) -> None:
    head = joint(n_features)
    assert n_parameters(head.modulation) + n_parameters(head.snr) == expected
    heads = n_parameters(head.modulation_head) + n_parameters(head.snr_head)
    assert heads == (n_features // 4 + 1) * (M + S)


def linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def test_joint_head_is_its_formula() -> None:
    head, h = joint(), torch.randn(5, 24)
    for norm in (head.modulation.branch[2], head.snr.branch[2]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.weight)
    weights = head.state_dict()

    def branch(name: str, gate_act: object, act: object) -> Tensor:
        gate = torch.sigmoid(linear(weights, f"{name}.gate.2", gate_act(linear(weights, f"{name}.gate.0", h))))
        f = act(linear(weights, f"{name}.branch.0", h * gate))
        mean, variance = (weights[f"{name}.branch.2.running_{moment}"] for moment in ("mean", "var"))
        f = (f - mean) / (variance + 1e-5).sqrt() * weights[f"{name}.branch.2.weight"] + weights[
            f"{name}.branch.2.bias"
        ]
        return 0.7 * f + 0.3 * linear(weights, f"{name}.shortcut", h)

    modulation = linear(weights, "modulation_head", branch("modulation", torch.relu, F.gelu))
    snr = linear(weights, "snr_head.0", branch("snr", torch.tanh, torch.relu))
    torch.testing.assert_close(head.eval()(h), torch.cat([modulation, snr], dim=1))


def test_shortcut_is_the_identity_where_the_widths_agree() -> None:
    head, h = joint(24, n_task_features=24).eval(), torch.randn(3, 24)
    nn.init.zeros_(head.modulation.branch[2].weight)
    nn.init.zeros_(head.modulation.branch[2].bias)
    torch.testing.assert_close(head.modulation(h), 0.3 * h)


@pytest.mark.parametrize(
    ("snr_hidden", "sizes"),
    [([], [(128, S)]), ([64], [(128, 64), (64, S)]), ([256, 64], [(128, 256), (256, 64), (64, S)])],
)
def test_snr_heads_have_their_layers(snr_hidden: list[int], sizes: list[tuple[int, int]]) -> None:
    head = joint(512, snr_hidden=snr_hidden).snr_head
    assert [(m.in_features, m.out_features) for m in head if isinstance(m, nn.Linear)] == sizes
    assert sum(isinstance(m, nn.Dropout) for m in head) == sum(isinstance(m, nn.ReLU) for m in head) == len(snr_hidden)


def test_every_parameter_learns_from_both_losses() -> None:
    head = joint(snr_hidden=[8])
    logits = head(torch.randn(6, 24))
    modulation, snr = logits.split([M, S], dim=1)
    loss = F.cross_entropy(modulation, torch.arange(6)) + F.cross_entropy(snr, torch.arange(6))
    gradients = torch.autograd.grad(loss, list(head.parameters()))
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in gradients)


def test_evaluation_ignores_other_samples() -> None:
    head, h = joint().eval(), torch.randn(4, 24)
    torch.testing.assert_close(head(h)[2:3], head(h[2:3]))


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (Spec((8,), "classes", 3), {}, "data has targets of kind 'classes'; set task_head=linear"),
        (RADIO, {"n_features": 7}, "needs at least 8 features, it gets 7"),
        (RADIO, {"n_task_features": 0}, r"task_head\.n_task_features .* must be positive, got 0"),
        (RADIO, {"snr_hidden": [64, 0]}, r"task_head\.snr_hidden must be positive, got 128 and \[64, 0\]"),
    ],
)
def test_what_cannot_work_is_refused(spec: Spec, options: dict[str, object], message: str) -> None:
    arguments = {"n_features": 24, "n_task_features": None, "snr_hidden": [], "dropout": 0.0, **options}
    with pytest.raises(ValueError, match=message):
        JointHead(spec=spec, **arguments)


@pytest.mark.parametrize(("choice", "expected"), [("linear", LinearHead), ("joint", JointHead)])
@pytest.mark.parametrize("model", ["cvkan", "mcldnn"])
def test_a_choice_of_head_is_what_a_model_ends_with(model: str, choice: str, expected: type[nn.Module]) -> None:
    cfg = compose("train", overrides=[f"model={model}", "embedding=iq", "pooling=mean", f"task_head={choice}"])
    network = build.build_model(cfg, RADIO)
    assert type(network.head) is expected
    x = torch.randn(2, 1024, dtype=torch.complex64)
    assert network(x).shape == (2, M + S)


def test_untrained_ranking_is_by_mean_magnitude() -> None:
    head = LinearHead(6, Spec((4, 2), "token_mask", 1, is_complex=True))
    head.rank_by_magnitude(2)
    features = torch.randn(5, 6)
    torch.testing.assert_close(head(features)[:, 0], 4 * (features[:, :2].mean(1) - 1.35))


@pytest.mark.parametrize("gain", [0.0, 0.5])
def test_gain_scales_all_logits_at_the_start(gain: float) -> None:
    spec, x = Spec((8,), "forecast", 3), torch.randn(5, 6)
    torch.manual_seed(0)
    plain = LinearHead(6, spec)
    torch.manual_seed(0)
    torch.testing.assert_close(LinearHead(6, spec, gain)(x), gain * plain(x))


def test_a_negative_gain_is_refused() -> None:
    with pytest.raises(ValueError, match=r"task_head\.gain"):
        LinearHead(6, Spec((8,), "forecast", 3), -1.0)


def test_single_row_is_normalised_by_the_batches_before() -> None:
    head, h = joint(dropout=0.0), torch.randn(6, 24)
    head(h)
    before = {name: buffer.clone() for name, buffer in head.named_buffers()}
    alone = head(h[:1])
    assert all(torch.equal(buffer, before[name]) for name, buffer in head.named_buffers())
    torch.testing.assert_close(alone, head.eval()(h[:1]))
