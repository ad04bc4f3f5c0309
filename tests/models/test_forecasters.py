"""The real-valued rivals of a forecaster: what each computes, by another way of computing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan import build
from cvkan.models.baselines.dlinear import DLinear
from cvkan.models.baselines.lstm_forecaster import LSTMForecaster
from cvkan.models.baselines.patchtst import PatchTST
from cvkan.models.baselines.tcn import TCN, TCNBlock, reach
from cvkan.models.heads import LinearHead
from cvkan.spec import Spec

CONF = Path(__file__).parents[2] / "conf/model"
B, L, H = 6, 40, 12
NAMES = ("dlinear", "patchtst", "lstm", "tcn")


def windows_of(n_samples: int = L, n_steps: int = H, quantiles: tuple[float, ...] = ()) -> Spec:
    return Spec((n_samples,), "forecast", n_steps * max(1, len(quantiles)), channels=("a", "b"), quantiles=quantiles)


def dlinear(spec: Spec, kernel_size: int = 7) -> DLinear:
    return DLinear(spec, kernel_size=kernel_size, head=LinearHead)


def patchtst(spec: Spec, **sizes: float) -> PatchTST:
    defaults = {"d_model": 16, "n_layers": 2, "n_heads": 4, "expansion": 2, "dropout": 0.1}
    defaults |= {"patch_size": 8, "stride": 4}
    return PatchTST(spec, **{**defaults, **sizes}, head=LinearHead)


def lstm(spec: Spec, n_layers: int = 1) -> LSTMForecaster:
    return LSTMForecaster(spec, d_hidden=16, n_layers=n_layers, dropout=0.1, head=LinearHead)


def tcn(spec: Spec, n_layers: int | None = None, kernel_size: int = 3) -> TCN:
    return TCN(spec, d_model=12, n_layers=n_layers, kernel_size=kernel_size, dropout=0.1, head=LinearHead)


Build = Callable[[Spec], nn.Module]
ALL = [dlinear, patchtst, lstm, tcn]


def samples(n: int = B, length: int = L) -> Tensor:
    return torch.randn(n, length, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dlinear", 96 * (2 * 96 + 1)),
        # Head of 12 tokens; patches and positions; two layers of attention, feed-forward and two norms; the last norm.
        ("patchtst", 96 * (12 * 32 + 1) + 32 * 17 + 12 * 32 + 2 * (4 * 32 * 33 + 64 * 33 + 32 * 65 + 4 * 32) + 2 * 32),
        ("lstm", 96 * 65 + 4 * 64 * (1 + 64 + 2)),
        # Six blocks of two filters of three samples and a length for each output; one shortcut from one channel.
        ("tcn", 96 * 33 + 32 * (3 + 2) + 11 * 32 * (3 * 32 + 2) + 2 * 32 - 32 * (3 * 32 + 2) * 2),
    ],
)
def test_defaults_have_the_parameters_of_their_layers(name: str, expected: int) -> None:
    model = from_yaml(name, windows_of(96, 96))
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def from_yaml(name: str, spec: Spec) -> nn.Module:
    section = OmegaConf.load(CONF / f"{name}.yaml")
    del section["compile"], section["head"]
    return instantiate(section, _partial_=True)(spec=spec, head=LinearHead)


@pytest.mark.parametrize("build", ALL)
def test_a_window_has_one_answer_for_each_step_and_quantile(build: Build) -> None:
    x = samples()
    assert build(windows_of())(x).shape == (B, H)
    assert build(windows_of(quantiles=(0.1, 0.5, 0.9)))(x).shape == (B, H * 3)


@pytest.mark.parametrize("build", ALL)
def test_every_parameter_learns(build: Build) -> None:
    torch.manual_seed(0)
    model = build(windows_of())
    gradients = torch.autograd.grad(model(samples()).square().sum(), list(model.parameters()))
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in gradients)


@pytest.mark.parametrize("build", ALL)
def test_evaluation_ignores_other_windows(build: Build) -> None:
    model, x = build(windows_of()).eval(), samples()
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", ALL)
def test_padded_samples_may_hold_anything(build: Build) -> None:
    model, x = build(windows_of()).eval(), samples(3)
    mask = torch.arange(L) < torch.tensor([[L], [30], [9]])
    dirty = torch.where(mask, x, torch.nan)
    assert torch.equal(model(dirty, mask), model(torch.where(mask, x, 0.0)))
    assert not torch.equal(model(x, mask), model(x))


@pytest.mark.parametrize("build", ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_finite_answers(build: Build, dtype: torch.dtype) -> None:
    model = build(windows_of())
    with torch.autocast("cpu", dtype):
        assert model(samples()).isfinite().all()


@pytest.mark.parametrize("build", ALL)
def test_waves_of_any_phase_are_continued(build: Build) -> None:
    torch.manual_seed(0)
    time, phase = torch.arange(L + H), 2 * torch.pi * torch.rand(256, 1)
    waves = torch.sin(2 * torch.pi * time / 10 + phase)
    x, y = waves[:, :L], waves[:, L:]
    model = build(windows_of())
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        F.mse_loss(model(x[:192]), y[:192]).backward()
        optimizer.step()
    with torch.no_grad():
        assert F.mse_loss(model.eval()(x[192:]), y[192:]) < 0.05  # zero has 0.5, the last value 1


def test_dlinear_is_two_linear_maps_of_trend_and_remainder() -> None:
    torch.manual_seed(0)
    model, x = dlinear(windows_of(), kernel_size=7), samples()
    season, trend = nn.Linear(L, H), nn.Linear(L, H)
    with torch.no_grad():
        model.head.weight.copy_(torch.cat([trend.weight, season.weight], dim=1))
        model.head.bias.copy_(trend.bias + season.bias)
    extended = np.pad(x.numpy(), ((0, 0), (3, 3)), mode="edge")
    average = np.stack([np.convolve(row, np.ones(7) / 7, mode="valid") for row in extended])
    average = torch.as_tensor(average, dtype=torch.float32)
    torch.testing.assert_close(model(x), trend(average) + season(x - average), rtol=1e-4, atol=1e-5)


def test_patches_cover_the_window_and_copies_of_its_last_sample() -> None:
    model, x = patchtst(windows_of(41), patch_size=8, stride=4), samples(2, 41)
    seen: list[Tensor] = []
    model.project.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    model(x)
    starts = range(0, 41 + 4 - 8 + 1, 4)
    expected = torch.stack([x[:, [min(s + k, 40) for k in range(8)]] for s in starts], dim=1)
    assert torch.equal(seen[0], expected)


def test_attention_hears_where_a_patch_stood() -> None:
    """Without positions a change of the order of tokens would only change the order of what comes out."""
    torch.manual_seed(0)
    model = patchtst(windows_of(), stride=8).eval()
    patches = samples(1).unflatten(1, (5, 8))
    tokens = [model.encoder(model.project(p) + model.position[:5]) for p in (patches, patches.flip(1))]
    assert (tokens[0] - tokens[1].flip(1)).abs().max() > 1e-3


@pytest.mark.parametrize("n_layers", [1, 2])
def test_lstm_is_that_of_torch(n_layers: int) -> None:
    model, x = lstm(windows_of(), n_layers).eval(), samples()
    theirs = nn.LSTM(1, 16, num_layers=n_layers, batch_first=True)
    layers = model.stack.layers
    weights = {name.replace("_l0", f"_l{k}"): p for k in range(n_layers) for name, p in layers[k].named_parameters()}
    theirs.load_state_dict(weights)
    _, (last, _) = theirs(x.unsqueeze(-1))
    torch.testing.assert_close(model(x), model.head(last[-1]))


def test_block_of_the_tcn_is_two_dilated_convolutions_and_the_input() -> None:
    torch.manual_seed(0)
    block = TCNBlock(2, 3, kernel_size=2, dilation=4, dropout=0.5).eval()
    x = torch.randn(1, 2, 20)

    def convolved(signal: np.ndarray, convolution: nn.Module) -> np.ndarray:
        weight, bias = convolution.weight.detach().numpy(), convolution.bias.detach().numpy()
        earlier = np.pad(signal, ((0, 0), (4, 0)))[:, :20]
        past = np.einsum("oi,it->ot", weight[..., 0], earlier) + np.einsum("oi,it->ot", weight[..., 1], signal)
        return np.maximum(past + bias[:, None], 0)

    y = convolved(convolved(x[0].numpy(), block.convolutions[0]), block.convolutions[1])
    y = np.maximum(y + block.shortcut(x)[0].detach().numpy(), 0)
    np.testing.assert_allclose(block(x)[0].detach().numpy(), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n_layers", "kernel_size"), [(1, 3), (2, 3), (3, 2), (2, 5)])
def test_reach_of_the_tcn_is_what_its_answer_depends_on(n_layers: int, kernel_size: int) -> None:
    torch.manual_seed(0)
    model = tcn(windows_of(), n_layers, kernel_size).eval()
    x = samples().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    heard = gradient.abs().amax(dim=0).nonzero().flatten()
    assert L - heard[0] == reach(n_layers, kernel_size)


@pytest.mark.parametrize("n_samples", [1, 5, 6, 29, 30, 96, 336])
def test_layers_of_the_tcn_suffice_for_the_window_and_are_no_more(n_samples: int) -> None:
    n_layers = len(tcn(windows_of(n_samples)).blocks)
    assert reach(n_layers, 3) >= n_samples
    assert n_layers == 1 or reach(n_layers - 1, 3) < n_samples


def test_features_of_the_tcn_do_not_depend_on_later_samples() -> None:
    model, x = tcn(windows_of()).eval(), samples()
    later = x.clone()
    later[:, 25:] = 9.0
    before, after = model.blocks(x.unsqueeze(1)), model.blocks(later.unsqueeze(1))
    assert torch.equal(before[..., :25], after[..., :25])
    assert not torch.equal(before[..., 25], after[..., 25])


@pytest.mark.parametrize("build", ALL)
@pytest.mark.parametrize(
    "spec",
    [
        Spec((L,), "classes", 2, is_complex=True),
        Spec((L, 3), "forecast", H),
        Spec((L,), "classes", 2, vocabulary=("", "<unk>", "word")),
        Spec((L,), "token_mask", 1),
    ],
    ids=["complex", "several channels", "words", "an answer a sample"],
)
def test_only_real_series_with_one_answer_are_taken(build: Build, spec: Spec) -> None:
    with pytest.raises(ValueError, match=r"reads real series \(n_samples,\) and gives one answer to each"):
        build(spec)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: dlinear(windows_of(), kernel_size=6), "kernel_size must be odd"),
        (lambda: patchtst(windows_of(7)), "model=patchtst needs series of 8 samples or more, the data has 7"),
        (lambda: patchtst(windows_of(), n_heads=3), "n_heads must divide d_model"),
        (lambda: patchtst(windows_of(), stride=0), "stride, .* must be positive"),
        (lambda: patchtst(windows_of(), expansion=0.01), "expansion must be positive"),
        (lambda: lstm(windows_of(), n_layers=0), "n_layers must be at least 1"),
        (lambda: tcn(windows_of(), n_layers=0), "n_layers must be positive"),
        (lambda: tcn(windows_of(), kernel_size=1), "kernel_size at least 2"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.slow
@pytest.mark.parametrize("build_one", [dlinear, patchtst, tcn])
def test_compiled_networks_answer_alike_in_training_and_evaluation(build_one: Build) -> None:
    torch.compiler.reset()
    eager, compiled = build_one(windows_of()).eval(), build_one(windows_of()).eval()
    compiled.load_state_dict(eager.state_dict())
    build.compile_in_place(compiled, backend="aot_eager")
    for n in (4, 7):
        x = samples(n)
        torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-5)
        with torch.no_grad():  # torch has fused layers of its own for this case
            torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-5)
    torch.compiler.reset()
