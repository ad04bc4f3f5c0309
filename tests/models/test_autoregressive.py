"""Patch by patch: no token hears of what it foretells, and a forecast is what the network says of its own answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvkan import build
from cvkan.cli import resolvers
from cvkan.errors import UserError
from cvkan.models.autoregressive import NextPatchForecaster
from cvkan.spec import Spec

B, L, H, P = 3, 32, 24, 8
QUANTILES = (0.1, 0.5, 0.9)
CHOICES = (
    "model=autoregressive",
    "skip=none",
    "embedding=rfft_patch",
    "pooling=none",
    "aggregation=[causal,causal_filter]",
)
SIZES = (f"embedding.patch_size={P}", f"embedding.stride={P}", "domain.cvkan.d_complex=8", "domain.cvkan.n_heads=2")


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield


def spec_of(quantiles: tuple[float, ...] = (), **changes: Any) -> Spec:
    fields = {"input_shape": (L,), "target": "forecast", "n_outputs": H * max(1, len(quantiles))}
    return Spec(**{**fields, "quantiles": quantiles, "channels": ("a", "b"), **changes})


def forecaster(*overrides: str, spec: Spec | None = None) -> NextPatchForecaster:
    torch.manual_seed(0)
    model = build.build_model(compose("train", overrides=[*CHOICES, *SIZES, *overrides]), spec or spec_of())
    assert isinstance(model, NextPatchForecaster)
    return model.eval()


def series(n_samples: int = L + H - P) -> Tensor:
    return torch.randn(B, n_samples, generator=torch.Generator().manual_seed(1))


def by_hand(model: NextPatchForecaster, x: Tensor, n_patches: int) -> Tensor:
    """Points of ``n_patches``, each from the last token of the plain network on all that came before."""
    for _ in range(n_patches):
        answer = model.network(x)[:, -1].reshape(len(x), P, -1)  # (B, P, Q)
        x = torch.cat([x, answer[..., answer.shape[-1] // 2]], dim=1)
    return x[:, L:]


@pytest.mark.parametrize("quantiles", [(), QUANTILES])
def test_answers_are_those_behind_the_window(quantiles: tuple[float, ...]) -> None:
    model, q = forecaster(spec=spec_of(quantiles)), max(1, len(quantiles))
    x = series()
    tokens = model.network(x)
    assert tokens.shape == (B, (L + H - P) // P, P * q)
    expected = torch.stack([tokens[:, L // P - 1 + k // P].reshape(B, P, q)[:, k % P] for k in range(H)], dim=1)
    assert torch.equal(model(x), expected.flatten(1))
    assert model(x[:, :L]).shape == (B, P * q)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["aggregation=causal"],
        ["block=classic"],
        ["block=polar_edge"],
        ["centering=token"],
        ["norm=stream_rms"],
        *([f"position={name}"] for name in ("learned", "learned_polar", "rotary")),
        ["heads=factored"],
    ],
    ids=str,
)
def test_a_change_reaches_no_answer_before_it(overrides: list[str]) -> None:
    model, x = forecaster(*overrides), series()
    changed = x.clone()
    changed[:, L + P] += 5.0  # the first sample of the second patch behind the window: the third answer hears of it
    before, after = model(x), model(changed)
    torch.testing.assert_close(before[:, : 2 * P], after[:, : 2 * P], rtol=0, atol=1e-6)
    assert (before[:, 2 * P :] - after[:, 2 * P :]).abs().max() > 1e-3


def test_every_earlier_sample_is_heard() -> None:
    model = forecaster("aggregation=causal")
    x = series().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, -P:].square().sum(), x)
    assert (gradient.abs().amax(dim=0) > 0).all()


@pytest.mark.parametrize("quantiles", [(), QUANTILES])
def test_generating_is_asking_step_by_step(quantiles: tuple[float, ...]) -> None:
    model, q, x = forecaster(spec=spec_of(quantiles)), max(1, len(quantiles)), series(L)
    generated = model.generate(x, H)
    assert generated.shape == (B, H * q)
    points = generated.unflatten(1, (H, q))[..., q // 2]
    with torch.no_grad():
        torch.testing.assert_close(points, by_hand(model, x, H // P), rtol=1e-4, atol=1e-5)
        # Told its own answers as if they were true, the network gives them again, and the same quantiles.
        told = torch.cat([x, points[:, :-P]], dim=1)
        torch.testing.assert_close(model(told), generated, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def shared() -> NextPatchForecaster:
    return forecaster()


@settings(max_examples=12, deadline=None)
@given(n_steps=st.integers(1, 2 * H), longer=st.integers(0, H))
def test_a_longer_forecast_begins_as_a_shorter_one(shared: NextPatchForecaster, n_steps: int, longer: int) -> None:
    model, x = shared, series(L)
    short, long = model.generate(x, n_steps), model.generate(x, n_steps + longer)
    assert short.shape == (B, n_steps)
    assert torch.equal(short, long[:, :n_steps])


def test_beyond_the_horizon_the_last_samples_alone_are_heard() -> None:
    """With learned positions there is no token for more than the network was trained on."""
    model, x = forecaster("position=learned"), series(L)
    generated = model.generate(x, H + P)
    with torch.no_grad():
        heard = torch.cat([x, generated[:, :H]], dim=1)[:, -(L + H - P) :]
        torch.testing.assert_close(generated[:, -P:], model.network(heard)[:, -1], rtol=1e-4, atol=1e-5)


def test_generating_leaves_no_gradient_and_needs_none_of_the_other_windows() -> None:
    model, x = forecaster(), series(L)
    generated = model.generate(x, H)
    assert not generated.requires_grad
    torch.testing.assert_close(generated[1:2], model.generate(x[1:2], H), rtol=1e-4, atol=1e-5)


def test_tokens_and_layers_are_those_of_the_network() -> None:
    model, x = forecaster(), series()
    ahead, (re, _), mask = model(x, return_tokens=True)
    assert torch.equal(ahead, model(x))
    assert model.grid == (re.shape[1],) == ((L + H - P) // P,)
    assert mask is None
    trace = model.trace(x)
    assert len(trace) == len(model.network.backbone.blocks)
    assert torch.equal(trace[-1].z[0], model.network.backbone(model.tokens(x)[0])[0])


@pytest.mark.parametrize(
    ("overrides", "spec", "message"),
    [
        ([], spec_of(target="classes"), "for targets of kind 'forecast', the data has 'classes'"),
        ([], spec_of(input_shape=(L, 2)), "model=autoregressive reads real series"),
        ([], spec_of(input_shape=(L + 4,)), "patches of 8 samples do not tile a window of 36 and 24 steps ahead"),
        ([], spec_of(n_outputs=H + 4), "do not tile a window of 32 and 28 steps ahead"),
        ([], spec_of((0.1, 0.9)), r"not among the quantiles \[0.1, 0.9\]"),
        (
            ["aggregation=[magnitude,local]"],
            spec_of(),
            r"must not hear of it .*Set aggregation=\[causal,causal_filter\]",
        ),
        (["pooling=flatten"], spec_of(), "pooling=none"),
        (["embedding.stride=4"], spec_of(), r"has 6 patches of 8, the embedding makes tokens of layout \(11,\)"),
        (["norm=batch"], spec_of(), "norm=pre_rms"),
    ],
    ids=[
        *("target", "channels", "window", "horizon", "no median", "not causal", "pooled", "overlap", "batch norm"),
    ],
)
def test_what_does_not_fit_is_refused(overrides: list[str], spec: Spec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        forecaster(*overrides, spec=spec)


@pytest.mark.parametrize(("shape", "n_steps"), [((B, L - P), H), ((B, L, 2), H), ((B, L), 0)])
def test_only_windows_are_continued(shape: tuple[int, ...], n_steps: int) -> None:
    with pytest.raises(ValueError, match=r"expected windows \(B, 32\) and 1 step or more"):
        forecaster().generate(torch.zeros(shape), n_steps)
