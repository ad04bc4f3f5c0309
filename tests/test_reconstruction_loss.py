"""The loss of given-back vectors: values by numpy, what padding and temperature leave alone, finite gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor

from cvkan.reconstruction_loss import HybridCosine

CONF = Path(__file__).parents[1] / "conf/loss/hybrid_cosine.yaml"
LENGTHS = (5, 1, 3)


def hybrid(**options: float | str) -> HybridCosine:
    return instantiate(OmegaConf.load(CONF), **options)


def sequences(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors (3, 5, 4), others, and the mask of three sequences of different length."""
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, 3, 5, 4, generator=draw).unbind()
    mask = (torch.arange(5) < torch.tensor(LENGTHS)[:, None]).float()
    return x, 3 * y, mask


def by_hand(x: Tensor, y: Tensor, a: float, b: float, unit: bool = False) -> float:
    """Mean over the nine real tokens, one by one in float64."""
    losses = []
    for sample, length in enumerate(LENGTHS):
        for place in range(length):
            p, q = x[sample, place].numpy().astype(float), y[sample, place].numpy().astype(float)
            cosine = p @ q / np.sqrt((p @ p) * (q @ q))
            q = q / np.sqrt(q @ q) if unit else q
            losses.append(a * (1 - cosine) + b * np.mean((p - q) ** 2))
    return float(np.mean(losses))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"a": 0.9, "b": 0.1}),
        ({"cosine_weight": 1.0, "mse_weight": 0.0}, {"a": 1.0, "b": 0.0}),
        ({"cosine_weight": 0.0, "mse_weight": 1.0}, {"a": 0.0, "b": 1.0}),
        ({"temperature": 0.5}, {"a": 1.8, "b": 0.1}),
        ({"target_space": "unit"}, {"a": 0.9, "b": 0.1, "unit": True}),
    ],
)
def test_value_is_the_mean_over_all_real_tokens_of_the_batch(options: dict, expected: dict) -> None:
    x, y, mask = sequences()
    assert float(hybrid(**options)(x, y, mask)) == pytest.approx(by_hand(x, y, **expected), rel=1e-5)


@pytest.mark.parametrize("filling", [0.0, 7.0, float("inf"), float("nan")])
def test_padding_changes_neither_the_value_nor_a_gradient(filling: float) -> None:
    x, y, mask = sequences()
    padded = mask[..., None] == 0
    values, gradients = [], []
    for fill in (1.0, filling):
        output = x.masked_fill(padded, fill).requires_grad_()
        loss = hybrid()(output, y.masked_fill(padded, fill), mask)
        values.append(loss.detach())
        gradients.append(torch.autograd.grad(loss, output)[0])
    assert torch.equal(*values)
    assert torch.equal(*gradients)
    assert (gradients[1][padded.expand_as(x)] == 0).all()


@pytest.mark.parametrize("space", ["raw", "unit"])
@given(temperature=st.floats(0.01, 100))
def test_temperature_scales_the_gradient_of_the_cosine_and_leaves_the_minimum_at_0(
    space: str, temperature: float
) -> None:
    x, y, mask = sequences()
    loss = hybrid(temperature=temperature, target_space=space)
    assert float(loss(loss.in_space(y), y, mask)) == pytest.approx(0, abs=1e-6 * (1 + 1 / temperature))
    assert float(loss(x, y, mask)) > 0
    pure = {"cosine_weight": 1.0, "mse_weight": 0.0}
    cold, warm = (
        torch.autograd.grad(hybrid(temperature=t, **pure)(x.requires_grad_(), y, mask), x)[0] for t in (temperature, 1)
    )
    torch.testing.assert_close(cold * temperature, warm)


@pytest.mark.parametrize("space", ["raw", "unit"])
def test_vectors_of_zeros_have_finite_values_and_gradients(space: str) -> None:
    _, y, mask = sequences()
    for output, target in ((torch.zeros_like(y), y), (y, torch.zeros_like(y)), (torch.zeros_like(y),) * 2):
        output = output.clone().requires_grad_()
        loss = hybrid(target_space=space)(output, target, mask)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(output.grad).all()


def test_unit_space_gives_all_vectors_unit_length_but_those_of_zeros() -> None:
    _, y, _ = sequences()
    y[0, 0] = 0
    length = hybrid(target_space="unit").in_space(y).norm(dim=-1)
    assert length[0, 0] == 0
    torch.testing.assert_close(length.flatten()[1:], torch.ones(14))
    assert hybrid().in_space(y) is y


def test_half_precision_is_compared_in_float32() -> None:
    x, y, mask = sequences()
    loss = hybrid()(x.bfloat16(), y, mask)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(by_hand(x.bfloat16().float(), y, 0.9, 0.1), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cosine_weight": -1.0}, "cosine_weight and mse_weight must be 0 or more, not both 0, got -1.0 and 0.1; set"),
        ({"cosine_weight": 0.0, "mse_weight": 0.0}, "not both 0"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0; set"),
        ({"eps": 0.0}, "eps must be positive, got 0.0; set"),
        ({"target_space": "sphere"}, "target_space must be raw or unit, got 'sphere'; set target_space=raw"),
    ],
)
def test_wrong_arguments_are_refused(options: dict, message: str) -> None:
    values = {"cosine_weight": 0.9, "mse_weight": 0.1, "temperature": 1.0, "target_space": "raw", "eps": 1e-6}
    with pytest.raises(ValueError, match=message):
        HybridCosine(**{**values, **options})
