"""mode=autoregressive: told the truth in training, all by itself in evaluation, and never told what is ahead."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvkan import build
from cvkan.analysis.forecasting import window_mean
from cvkan.analysis.polarization import polarization
from cvkan.cli import resolvers
from cvkan.core.local import CausalFilterAggregation, CausalMeanAggregation
from cvkan.domains.datamodule import DataModule
from cvkan.errors import UserError
from cvkan.spec import Batch
from cvkan.tasks.autoregression import AutoregressionTask

B, C, L, H, P = 5, 7, 48, 36, 12
SMALL = [
    *("domain=timeseries", "mode=autoregressive", f"domain.lookback={L}", f"domain.pred_len={H}"),
    *(
        f"embedding.patch_size={P}",
        "domain.cvkan.d_complex=8",
        "domain.cvkan.n_heads=2",
        "data.n_rows=700",
        "task_head.gain=1",
    ),
]
QUANTILES = ["domain.quantiles=[0.1,0.5,0.9]", "loss=pinball"]


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield


@pytest.fixture(scope="module")
def data() -> DataModule:
    made = build.build_data(compose("train", overrides=SMALL))
    made.setup()
    return made


def task_of(data: DataModule, *overrides: str) -> AutoregressionTask:
    """An untrained task whose answers are the network's alone, so that they are no simple forecast."""
    torch.manual_seed(0)
    loss = [] if overrides == tuple(QUANTILES) else ["loss=mse"]
    cfg = compose("train", overrides=[*SMALL, *loss, "skip=none", *overrides])
    if overrides == tuple(QUANTILES):
        data = build.build_data(cfg)
        data.setup()
    task = build.build_task(cfg, data)
    assert isinstance(task, AutoregressionTask)
    return task.eval()


@pytest.fixture(scope="module")
def task(data: DataModule) -> AutoregressionTask:
    return task_of(data)


@pytest.fixture(scope="module")
def batch(data: DataModule) -> Batch:
    return data.splits["test"].__getitems__(list(range(B)))


def taught(task: AutoregressionTask, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss and forecast as in training, but without dropout."""
    return task.compare(task.model(*task.model_input(batch)), batch)


def told_patch_by_patch(task: AutoregressionTask, batch: Batch) -> Tensor:
    """Each patch ahead by a pass of its own over the window and the truth before that patch."""
    x, y = batch["x"], batch["y"]
    mean, std = x.mean(dim=1, keepdim=True), (x.var(dim=1, keepdim=True, correction=0) + 1e-5).sqrt()
    patches = []
    for start in range(0, H, P):
        known = (torch.cat([x, y[:, :start]], dim=1) - mean) / std  # (B, L + start, C)
        answers = [task.forecaster.network(known[..., channel])[:, -1] for channel in range(C)]  # (B, P) each
        patches.append(torch.stack(answers, dim=-1) * std + mean)
    return torch.cat(patches, dim=1)


def test_training_foretells_each_patch_from_the_truth_before_it(task: AutoregressionTask, batch: Batch) -> None:
    loss, forecast = taught(task, batch)
    expected = told_patch_by_patch(task, batch)
    torch.testing.assert_close(forecast, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(loss, (expected - batch["y"]).square().mean(), rtol=1e-3, atol=1e-4)


def test_evaluation_goes_on_from_its_own_answers(task: AutoregressionTask, batch: Batch) -> None:
    own = {"x": batch["x"], "y": torch.zeros_like(batch["y"])}
    for start in range(0, H, P):  # each patch that was told stands where the truth would
        patch = slice(start, start + P)
        own["y"][:, patch] = told_patch_by_patch(task, own)[:, patch].detach()
    loss, forecast = task.loss_and_logits(batch)
    torch.testing.assert_close(forecast, own["y"], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(loss, (forecast - batch["y"]).square().mean())
    assert torch.equal(forecast, task.generate(batch["x"], H))


def test_training_mode_decides(task: AutoregressionTask, batch: Batch, data: DataModule) -> None:
    training = task_of(data, "model.network.dropout=0", "block.dropout=0").train()
    assert torch.equal(training.loss_and_logits(batch)[1], taught(training, batch)[1])
    assert not torch.equal(taught(task, batch)[1], task.loss_and_logits(batch)[1])


@pytest.mark.parametrize("normalization", ["window", "last", "none"])
def test_no_answer_has_heard_of_what_it_foretells(data: DataModule, batch: Batch, normalization: str) -> None:
    """Neither through the tokens nor through a mean or scale of what is ahead."""
    task = task_of(data, f"normalization={normalization}")
    later = batch["y"].clone()
    later[:, P] += 100.0  # the first sample of the second patch
    before, after = taught(task, batch)[1], taught(task, {"x": batch["x"], "y": later})[1]
    torch.testing.assert_close(before[:, : 2 * P], after[:, : 2 * P], rtol=0, atol=1e-5)
    assert not torch.allclose(before[:, 2 * P :], after[:, 2 * P :])


def test_evaluation_never_looks_at_the_truth(task: AutoregressionTask, batch: Batch) -> None:
    unknown = {"x": batch["x"], "y": torch.full_like(batch["y"], torch.nan)}
    assert torch.equal(task.loss_and_logits(unknown)[1], task.loss_and_logits(batch)[1])


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(0.5, 20), shift=st.floats(-10, 10), n_steps=st.integers(1, 2 * H))
def test_forecasts_keep_units(task: AutoregressionTask, batch: Batch, scale: float, shift: float, n_steps: int) -> None:
    x = batch["x"]
    expected = scale * task.generate(x, n_steps) + shift
    assert expected.shape == (B, n_steps, C)
    torch.testing.assert_close(task.generate(scale * x + shift, n_steps), expected, rtol=1e-2, atol=1e-2 * scale)


def test_quantiles_are_told_and_the_median_is_heard(data: DataModule, batch: Batch) -> None:
    task = task_of(data, *QUANTILES)
    loss, forecast = task.loss_and_logits(batch)
    assert forecast.shape == (B, H, C, 3)
    assert task.generate(batch["x"], H + 5).shape == (B, H + 5, C, 3)
    told = {"x": batch["x"], "y": forecast[..., 1]}
    torch.testing.assert_close(taught(task, told)[1], forecast, rtol=1e-3, atol=1e-4)
    assert loss.isfinite()


def test_an_untrained_network_is_the_ridge_regression_made_again_and_again(data: DataModule, batch: Batch) -> None:
    """Of the first patch ahead: then the window moves on by it."""
    task = task_of(data, "skip=linear", "task_head.gain=0")
    task.before_fit(data)
    weight = data.ridge(window_mean(L)).weight[:P]  # (P, L)
    series = batch["x"].transpose(1, 2)  # (B, C, L)
    for _ in range(H // P):
        series = torch.cat([series, series[..., -L:] @ weight.T], dim=-1)
    forecast = task.loss_and_logits(batch)[1]
    torch.testing.assert_close(forecast, series[..., L:].transpose(1, 2), rtol=1e-3, atol=1e-3)
    assert torch.equal(task.kept, torch.ones(H))


def test_quantiles_of_every_patch_start_as_those_of_the_first(data: DataModule, batch: Batch) -> None:
    line = task_of(data, "skip=linear", "task_head.gain=0")
    line.before_fit(data)
    cfg = compose("train", overrides=[*SMALL, *QUANTILES, "skip=linear", "task_head.gain=0"])
    asked = build.build_data(cfg)
    asked.setup()
    task = build.build_task(cfg, asked).eval()
    assert isinstance(task, AutoregressionTask)
    task.before_fit(asked)
    forecast = taught(task, batch)[1]  # (B, H, C, 3)
    scale = (batch["x"].var(dim=1, keepdim=True, correction=0) + 1e-5).sqrt().unsqueeze(-1)  # (B, 1, C, 1)
    apart = (forecast - taught(line, batch)[1].unsqueeze(-1)) / scale
    by_patch = apart.unflatten(1, (H // P, P))
    torch.testing.assert_close(by_patch, by_patch[:1, :1, :, :1].expand_as(by_patch), rtol=1e-3, atol=1e-3)
    assert (forecast.diff(dim=-1) > 0).all()
    inside = (forecast[..., 0] <= batch["y"]) & (batch["y"] <= forecast[..., 2])
    assert 0.5 < inside.float().mean() < 1


def test_every_weight_of_the_network_learns(data: DataModule, batch: Batch) -> None:
    task = task_of(data).train()
    loss, _ = task.loss_and_logits(batch)
    gradients = torch.autograd.grad(loss, list(task.model.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # there is no trainer
def test_regularizers_act_on_the_tokens_of_window_and_truth(data: DataModule, batch: Batch) -> None:
    task = task_of(data, "regularizer=sparsity", "regularizer.sparsity.weight=0.5").train()
    seen: list[Tensor] = []
    task.regularizers["sparsity"].register_forward_hook(lambda _, args, __: seen.append(args[0][0]))
    assert task.training_step(batch, 0).isfinite()
    assert seen[0].shape == (B * C, (L + H - P) // P, 8)


def test_polarization_is_seen_on_the_channels_of_window_and_truth(task: AutoregressionTask, batch: Batch) -> None:
    found = polarization(task, batch)
    assert found.x.shape == (B * C, L + H - P)
    assert found.gain.shape == (B * C, 2, (L + H - P) // P)  # of two layers


def test_mode_chooses_a_network_without_future_and_the_command_line_wins() -> None:
    cfg = compose("train", overrides=["domain=timeseries", "mode=autoregressive"])
    assert list(cfg.aggregation) == ["causal", "causal_filter"]
    assert cfg.embedding.stride == cfg.embedding.patch_size == cfg.model.patch_size
    cfg = compose("train", overrides=["domain=timeseries", "mode=autoregressive", "aggregation=causal", "skip=none"])
    assert list(cfg.aggregation) == ["causal"]
    assert cfg.skip["_target_"].endswith("NoSkip")
    assert list(compose("train", overrides=["domain=timeseries"]).aggregation) != ["causal"]


def test_network_of_the_mode_aggregates_what_was_chosen(task: AutoregressionTask) -> None:
    kinds = [type(part) for part in task.forecaster.network.backbone.blocks[0].aggregation.parts]
    assert kinds == [CausalMeanAggregation, CausalFilterAggregation]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=dlinear"], "DLinear tells all steps at once"),
        (["model=cvkan", "pooling=flatten", "skip=linear"], "CVKAN tells all steps at once"),
        (["aggregation=[magnitude,local]"], "Set aggregation="),
        (["pooling=mean"], "pooling=none"),
        (["embedding.patch_size=10"], "patches of 10 samples do not tile a window of 48 and 36 steps ahead"),
    ],
    ids=str,
)
def test_what_has_no_next_patch_is_refused(data: DataModule, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task_of(data, *overrides)


def test_data_without_a_linear_forecast_is_refused(data: DataModule, task: AutoregressionTask) -> None:
    class Bare(DataModule):
        spec = replace(data.spec)

    bare = Bare(batch_size=4, num_workers=0, seed=0, limit_train=None)
    with pytest.raises(ValueError, match="Bare has no linear forecast"):
        task.before_fit(bare)


@pytest.mark.slow
def test_a_run_beats_the_last_value_and_draws_its_forecasts(train_command: Callable[..., Any], tmp_path: Path) -> None:
    small = ["domain=timeseries", "mode=autoregressive", "data.n_rows=2000", "domain.cvkan.d_complex=8"]
    ended = train_command(*small, "trainer.max_epochs=2", "output_dir=run", cwd=tmp_path)
    assert ended.code == 0, ended.err
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["test/mse"] < 0.5 * metrics["baseline/last_value_mse"]
    assert len(metrics["per_horizon"]) == 96
    assert (tmp_path / "run/plots/forecast.png").is_file()
