"""Generated tokens: the statistics that make the tasks what they are."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from cvkan.domains.synthetic import SyntheticEasy, SyntheticHard
from cvkan.errors import UserError

RUN = {"batch_size": 16, "num_workers": 0, "seed": 0, "limit_train": None, "data_seed": 0}
SIZES = {"n_train": 300, "n_val": 20, "n_test": 400, "d_input": 16}


def hard(**options: Any) -> SyntheticHard:
    data = SyntheticHard(**{**RUN, **SIZES, "n_tokens": 64, "n_hidden": 6, "phase_std": 0.5, **options})
    data.setup()
    return data


def easy(**options: Any) -> SyntheticEasy:
    data = SyntheticEasy(**{**RUN, **SIZES, "n_tokens": 16, "n_signal": 8, "phase_std": 0.3, **options})
    data.setup()
    return data


def test_hard_samples_hold_k_tokens_around_a_phase_vector_of_their_own() -> None:
    data = hard()
    x, y = data.splits["test"].tensors["x"], data.splits["test"].tensors["y"]
    assert (x.dtype, y.dtype, x.shape[1:], data.n_hidden) == (torch.complex64, torch.float32, (64, 16), 6)
    assert y.sum(1).tolist() == [6.0] * 400
    torch.testing.assert_close(x.abs(), torch.ones(400, 64, 16))
    wanted = x[y == 1].view(400, 6, 16)
    # E exp(i e) = exp(-std^2 / 2) = 0.882 for a Gaussian phase; pairs within a sample, so its square
    pairs = wanted.sum(1).abs().square().sub(6) / 30
    assert pairs.mean().item() == pytest.approx(0.882**2, abs=0.01)
    assert x.mean().abs().item() < 0.01  # no preferred phase over samples
    assert y.mean(0).std().item() < 0.03  # nor preferred places


def test_one_mean_recovers_about_three_quarters_of_the_hidden_tokens() -> None:
    data = hard(n_test=1000)
    x, y = data.splits["test"].tensors["x"], data.splits["test"].tensors["y"]
    centre = x.mean(1, keepdim=True)
    score = (x * (centre / centre.abs()).conj()).real.mean(-1)  # (S, N) mean cosine with the mean token
    found = y.gather(1, score.topk(6, dim=1).indices).mean().item()
    assert found == pytest.approx(0.74, abs=0.03)


def test_easy_classes_differ_by_the_mean_cosine() -> None:
    data = easy()
    x, y = data.splits["test"].tensors["x"], data.splits["test"].tensors["y"]
    assert (y.dtype, x.shape[1:], data.spec.n_outputs) == (torch.int64, (16, 16), 2)
    assert 0.4 < y.float().mean() < 0.6
    cosine = x.real.mean((1, 2))
    assert cosine[y == 1].mean().item() == pytest.approx(0.5 * 0.956, abs=0.01)
    assert cosine[y == 0].mean().item() == pytest.approx(0, abs=0.01)
    assert (cosine.gt(0.24).long() == y).all()


@pytest.mark.parametrize("make", [hard, easy])
def test_data_follow_the_data_seed_alone(make: Any) -> None:
    data = make()
    assert data.fingerprint() == make(seed=4).fingerprint()
    assert data.fingerprint() != make(data_seed=1).fingerprint()
    longer = make(n_train=310)
    assert torch.equal(longer.splits["test"].tensors["x"], data.splits["test"].tensors["x"])
    assert not torch.equal(data.splits["train"].tensors["x"][:20], data.splits["val"].tensors["x"])


def test_batches_stay_complex_through_the_loader() -> None:
    data = hard(limit_train=32)
    batches = list(data.train_dataloader())
    assert [(batch["x"].shape, batch["x"].dtype) for batch in batches] == [((16, 64, 16), torch.complex64)] * 2


@pytest.mark.parametrize(
    ("make", "options", "key"),
    [
        (hard, {"n_hidden": 64}, "n_hidden"),
        (hard, {"n_hidden": 0}, "n_hidden"),
        (hard, {"n_tokens": 0}, "n_tokens"),
        (hard, {"d_input": 0}, "d_input"),
        (hard, {"n_test": 0}, "n_test"),
        (hard, {"phase_std": -0.1}, "phase_std"),
        (hard, {"phase_std": float("nan")}, "phase_std"),
        (easy, {"n_signal": 17}, "n_signal"),
    ],
)
def test_bad_size_is_named(make: Any, options: dict, key: str) -> None:
    with pytest.raises(UserError, match=rf"data\.{key}"):
        make(**options)


@pytest.mark.parametrize("name", ["synthetic_hard", "synthetic_easy"])
def test_yaml_builds_its_source(name: str) -> None:
    text = (resources.files("cvkan.conf") / "data" / f"{name}.yaml").read_text()
    data = instantiate(OmegaConf.create({"seed": 3, "data": OmegaConf.create(text)}).data)
    assert (data.seed, data.spec.is_complex) == (3, True)
    assert data.spec.input_shape == (data.n_tokens, data.d_input)


def test_baselines_are_chance_one_mean_and_repeated_agreement() -> None:
    figures = hard().baselines()
    assert figures["baseline/chance_recovery"] == 6 / 64
    assert figures["baseline/mean_recovery"] == pytest.approx(0.74, abs=0.03)  # the closed form of docs/core.md
    assert figures["baseline/agreement_recovery"] == pytest.approx(0.96, abs=0.02)
