"""Digits: the split, the statistics, and that a linear model can read them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cvkan.domains.image.base import channel_statistics
from cvkan.domains.image.digits import Digits
from cvkan.domains.labels import stratified_split


def digits(**options: Any) -> Digits:
    settings = {
        "split_seed": 0,
        "batch_size": 64,
        "num_workers": 0,
        "seed": 0,
        "limit_train": None,
        **options,
    }
    data = Digits(**settings)
    data.setup()
    return data


def test_split_is_stratified_disjoint_and_independent_of_the_run_seed() -> None:
    data, other_run, other_split = digits(), digits(seed=7), digits(split_seed=1)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 1078,
        "val": 360,
        "test": 359,
    }
    for split in data.splits.values():
        share = split.tensors["y"].bincount() / len(split)
        assert (share - 0.1).abs().max() < 0.01
    assert data.fingerprint() == other_run.fingerprint()
    assert data.fingerprint() != other_split.fingerprint()


def test_batches_of_the_training_part_are_standardised() -> None:
    data = digits()
    x = data.preprocess({"x": data.splits["train"].tensors["x"]})["x"]
    assert (x.dtype, x.shape[1:]) == (torch.float32, data.spec.input_shape)
    assert x.mean().item() == pytest.approx(0, abs=1e-5)
    assert x.std().item() == pytest.approx(1, abs=1e-3)


def test_statistics_travel_with_the_checkpoint_and_beat_those_of_new_data() -> None:
    data, limited = digits(), digits(limit_train=50)
    assert data.mean != limited.mean
    limited.load_state_dict(data.state_dict())
    batch = {"x": data.splits["test"].tensors["x"]}
    assert torch.equal(limited.preprocess(batch)["x"], data.preprocess(batch)["x"])


def test_channel_statistics_agree_with_torch_and_never_vanish() -> None:
    images = torch.randint(0, 256, (40, 3, 5, 6), dtype=torch.uint8)
    images[:, 2] = 9
    mean, std = channel_statistics(images)
    scaled = images.double() / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist())
    assert std[:2] == pytest.approx(scaled.std((0, 2, 3), correction=0)[:2].tolist())
    assert std[2] == 1 / 255


def test_stratified_split_covers_all_rows_and_keeps_a_lone_image_for_training() -> None:
    labels = torch.tensor([0] * 10 + [1] * 100 + [3])
    parts = stratified_split(labels, {"train": 0.6, "val": 0.2, "test": 0.2}, seed=0)
    assert torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(111))
    assert {name: labels[rows].bincount(minlength=4).tolist() for name, rows in parts.items()} == {
        "train": [6, 60, 0, 1],
        "val": [2, 20, 0, 0],
        "test": [2, 20, 0, 0],
    }


def test_logistic_regression_reads_the_digits() -> None:
    from sklearn.linear_model import LogisticRegression

    data = digits()
    train, test = (data.preprocess(data.splits[name].tensors) for name in ("train", "test"))
    model = LogisticRegression(max_iter=100, C=0.1).fit(train["x"].flatten(1), train["y"])
    assert model.score(test["x"].flatten(1), test["y"]) > 0.94
