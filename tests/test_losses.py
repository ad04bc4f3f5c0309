"""Losses of several tasks: values by hand, the weights they learn, and gradients where a choice could lose them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from cvkan.losses import UWSO, Fixed, Kendall, MultiTaskLoss, SnrDistance, SoftmaxWeighted, floored

CONF = Path(__file__).parents[1] / "conf"


class Given(nn.Module):
    """A loss that is the mean of its logits, whatever the target."""

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return logits.mean()


def two(kind: Callable[..., MultiTaskLoss], **options: Any) -> MultiTaskLoss:
    return kind(losses={"modulation": Given(), "snr": Given()}, **options)


def value(loss: MultiTaskLoss, first: float, second: float) -> Tensor:
    """The loss where the two tasks have these losses."""
    logits = {"modulation": torch.full((4, 3), first), "snr": torch.full((4, 2), second)}
    return loss(logits, dict.fromkeys(logits, torch.zeros(4)))


def number(loss: MultiTaskLoss, first: float, second: float) -> float:
    return float(value(loss, first, second).detach())


def at(loss: MultiTaskLoss, *log_variance: float) -> MultiTaskLoss:
    loss.log_variance.data = torch.tensor(log_variance)
    return loss


def gradient_of_parts(loss: MultiTaskLoss, parts: Tensor) -> Tensor:
    parts = parts.clone().requires_grad_()
    return torch.autograd.grad(loss.combine(parts), parts)[0]


def kendall(**options: Any) -> MultiTaskLoss:
    return two(Kendall, **{"min_weight": 0.05, "limit": 2.0, **options})


def weighted(**options: Any) -> MultiTaskLoss:
    return two(SoftmaxWeighted, **{"min_weight": 0.05, "temperature": 1.5, **options})


def trained(loss: MultiTaskLoss, first: float, second: float) -> MultiTaskLoss:
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.02)
    for _ in range(600):
        optimizer.zero_grad()
        value(loss, first, second).backward()
        optimizer.step()
    return loss


def test_kendall_by_hand() -> None:
    expected = 0.5 * (math.exp(-0.3) * 1.7 + 0.3 + math.exp(0.8) * 0.6 - 0.8)
    assert number(at(kendall(), 0.3, -0.8), 1.7, 0.6) == pytest.approx(expected, rel=1e-6)
    assert number(kendall(), 1.7, 0.6) == pytest.approx(0.5 * (1.7 + 0.6))  # it starts at s = 0


def test_kendall_learns_the_logarithms_of_constant_losses() -> None:
    loss = trained(kendall(), 0.5, 2.0)
    assert loss.log_variance.tolist() == pytest.approx([-0.693, 0.693], abs=1e-3)
    assert number(loss, 0.5, 2.0) == pytest.approx(1.0, abs=1e-5)
    assert loss.shares(torch.tensor([0.5, 2.0])).tolist() == pytest.approx([0.8, 0.2], abs=1e-3)


def test_kendalls_floor_is_under_the_share_and_keeps_the_sum_of_the_weights() -> None:
    parts = torch.ones(2)
    floored_loss, free = at(kendall(), 2.0, -2.0), at(kendall(min_weight=0.0), 2.0, -2.0)
    assert float(free.shares(parts)[0]) < 0.02
    assert floored_loss.shares(parts).tolist() == pytest.approx([0.05, 0.95])
    # The gradient of the losses is their weights: those in use are those reported, and their sum is the old one.
    used, unfloored = (gradient_of_parts(loss, parts) for loss in (floored_loss, free))
    torch.testing.assert_close(used / used.sum(), floored_loss.shares(parts))
    torch.testing.assert_close(used.sum(), unfloored.sum())


def test_kendall_limits_the_log_variances() -> None:
    assert number(at(kendall(), 5.0, -5.0), 1.0, 1.0) == number(at(kendall(), 2.0, -2.0), 1.0, 1.0)


@pytest.mark.parametrize("beyond", [2.3, -2.3])
def test_a_log_variance_beyond_the_limit_finds_back_and_goes_no_further(beyond: float) -> None:
    loss = at(kendall(min_weight=0.0), beyond, beyond)
    back = 1.0  # s = 0 is best for it
    out = 100.0 if beyond > 0 else 0.001
    value(loss, back, out).backward()
    leads_back, leads_out = loss.log_variance.grad.tolist()
    assert leads_back * beyond > 0  # descent subtracts it
    assert leads_out == 0
    assert trained(loss, back, back).log_variance.tolist() == pytest.approx([0.0, 0.0], abs=1e-2)


def test_softmax_weighted_by_hand() -> None:
    s = np.array([0.4, -1.1])
    expected = softmax(-s / 1.5) @ [1.7, 0.6] + 0.5 * np.exp(s).sum() + 0.1 * np.square(s).sum()
    assert number(at(weighted(), *s), 1.7, 0.6) == pytest.approx(expected, rel=1e-6)


def test_softmax_weighted_keeps_its_floor_and_prefers_the_easier_task() -> None:
    parts = torch.ones(2)
    assert at(weighted(), 9.0, -9.0).shares(parts).tolist() == pytest.approx([0.05, 0.95])
    easy, hard = trained(weighted(), 0.5, 2.0).shares(parts)
    assert easy > 0.6
    assert hard >= 0.05


@given(
    st.lists(st.floats(1e-3, 1.0), min_size=1, max_size=6),
    st.floats(0, 0.99),
)
def test_the_floor_holds_and_leaves_shares_above_it_alone(raw: list[float], part: float) -> None:
    shares = torch.tensor(raw) / sum(raw)
    least = part / len(raw)
    kept = floored(shares, least)
    assert float(kept.sum()) == pytest.approx(1, abs=1e-5)
    assert float(kept.min()) >= least - 1e-6
    if float(shares.min()) >= least:
        torch.testing.assert_close(kept, shares, atol=1e-5, rtol=1e-4)


def test_uw_so_by_hand_and_its_weights_have_no_gradient() -> None:
    loss, parts = two(UWSO, temperature=0.7), torch.tensor([1.7, 0.6])
    expected = softmax(1 / (0.7 * np.array([1.7, 0.6])))
    assert float(loss.combine(parts)) == pytest.approx(expected @ [1.7, 0.6], rel=1e-6)
    assert gradient_of_parts(loss, parts).tolist() == pytest.approx(expected.tolist(), rel=1e-6)


@pytest.mark.parametrize("pair", [(0.0, 0.0), (0.0, 1.0), (1e-30, 1e-30)])
def test_uw_so_bears_losses_of_zero(pair: tuple[float, float]) -> None:
    assert torch.isfinite(value(two(UWSO, temperature=1.0), *pair))


def test_fixed_weights_follow_their_names() -> None:
    loss = two(Fixed, weights={"snr": 3.0, "modulation": 1.0})
    assert number(loss, 1.7, 0.6) == pytest.approx(1.7 + 3 * 0.6)
    assert loss.shares(torch.ones(2)).tolist() == [0.25, 0.75]
    assert not list(loss.parameters())


def test_distance_by_hand() -> None:
    rng = np.random.default_rng(0)
    logits, y, snr_db = rng.normal(size=(7, 5)), rng.integers(0, 5, 7), np.arange(-4.0, 6.0, 2.0)
    off = np.abs(snr_db[None] - snr_db[y][:, None]) / 2.0
    cross_entropy = -log_softmax(logits, axis=1)[np.arange(7), y]
    expected = (0.7 * cross_entropy + 0.5 * (softmax(logits, axis=1) * off).sum(axis=1)).mean()
    found = SnrDistance(alpha=0.7, beta=0.5)(torch.tensor(logits).float(), torch.tensor(y))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_the_distance_part_has_a_gradient_towards_the_true_level() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.0, 3.0]], requires_grad=True)
    SnrDistance(alpha=0.0, beta=1.0)(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] < 0 < logits.grad[0, 3]


def test_a_near_miss_costs_less_than_a_far_one() -> None:
    loss, y = SnrDistance(alpha=1.0, beta=0.5), torch.tensor([0])
    near, far = (8.0 * torch.eye(6)[k : k + 1] for k in (1, 5))
    assert float(loss(far, y) - loss(near, y)) == pytest.approx(0.5 * 4, rel=0.01)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: kendall(min_weight=0.5), "min_weight must lie between 0 and 1 / 2 tasks, got 0.5; set"),
        (lambda: kendall(limit=0.0), "limit must be positive, got 0.0; set"),
        (lambda: weighted(min_weight=-0.1), "min_weight must .* got -0.1; set"),
        (lambda: weighted(temperature=0.0), "temperature must be positive, got 0.0; set"),
        (lambda: two(UWSO, temperature=-1.0), "temperature must be positive, got -1.0; set"),
        (lambda: two(Fixed, weights={"modulation": 1.0}), "losses of .*; name the same tasks"),
        (lambda: two(Fixed, weights={"modulation": 0.0, "snr": 0.0}), "weights must .*; set"),
        (lambda: UWSO({}, temperature=1.0), "needs losses by name, got none; set"),
        (lambda: SnrDistance(alpha=0.0, beta=0.0), "alpha and beta must .* got 0.0 and 0.0; set"),
        (lambda: SnrDistance(alpha=1.0, beta=-0.5), "alpha and beta must .* got 1.0 and -0.5; set"),
    ],
)
def test_arguments_out_of_range_are_refused(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", ["kendall", "softmax_weighted", "uw_so", "fixed"])
@pytest.mark.parametrize("snr_loss", ["cross_entropy", "distance"])
def test_every_choice_of_the_config_is_a_loss_that_trains_both_heads(name: str, snr_loss: str) -> None:
    parts = {"loss": OmegaConf.load(CONF / f"loss/{name}.yaml")}
    parts["snr_loss"] = OmegaConf.load(CONF / f"snr_loss/{snr_loss}.yaml")
    loss = instantiate(OmegaConf.create(parts).loss, _convert_="all")
    draw = torch.Generator().manual_seed(0)
    logits = {"modulation": torch.randn(8, 3, generator=draw), "snr": torch.randn(8, 5, generator=draw)}
    for tensor in logits.values():
        tensor.requires_grad_()
    targets = {name: torch.randint(tensor.shape[1], (8,), generator=draw) for name, tensor in logits.items()}
    loss(logits, targets).backward()
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in logits.values())
    assert all(parameter.grad is not None for parameter in loss.parameters())
    plain = {key: nn.functional.cross_entropy(logits[key], targets[key]).item() for key in logits}
    found = dict(zip(loss.names, loss.parts(logits, targets).tolist(), strict=True))
    assert found["modulation"] == pytest.approx(plain["modulation"], rel=1e-6)
    assert (found["snr"] == pytest.approx(plain["snr"], rel=1e-6)) == (snr_loss == "cross_entropy")
