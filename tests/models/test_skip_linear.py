"""The linear map beside the network: where it starts, and what training may change about it."""

from __future__ import annotations

import pytest
import torch

from cvkan.models.skip_linear import LinearSkip, LinearStart
from cvkan.spec import Spec

SPEC = Spec((6,), "forecast", 4)
QUANTILES = Spec((6,), "forecast", 12, quantiles=(0.1, 0.5, 0.9))
X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
LOGITS = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
WEIGHT = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))


def test_starts_as_the_last_value() -> None:
    skip = LinearSkip(SPEC, start="last", rate=0.0)
    torch.testing.assert_close(skip(torch.zeros_like(LOGITS), X), X[:, -1:].expand(-1, 4))


def test_takes_over_a_linear_forecast_if_it_was_asked_for() -> None:
    ridge, last = LinearSkip(SPEC, start="ridge", rate=0.5), LinearSkip(SPEC, start="last", rate=0.5)
    for skip in (ridge, last):
        assert isinstance(skip, LinearStart)
        skip.start_at(WEIGHT)
    silent = torch.zeros_like(LOGITS)
    torch.testing.assert_close(ridge(silent, X), torch.einsum("hl,bl->bh", WEIGHT, X))
    torch.testing.assert_close(last(silent, X), X[:, -1:].expand(-1, 4))


def test_all_quantiles_of_a_step_start_alike() -> None:
    skip = LinearSkip(QUANTILES, start="ridge", rate=0.5)
    skip.start_at(WEIGHT)
    by_step = skip(torch.zeros(5, 12), X).unflatten(1, (4, 3))  # (B, H, Q)
    torch.testing.assert_close(by_step, (X @ WEIGHT.T).unsqueeze(-1).expand(-1, -1, 3))


def test_what_the_network_says_is_added() -> None:
    skip = LinearSkip(SPEC, start="ridge", rate=0.0)
    skip.start_at(WEIGHT)
    torch.testing.assert_close(skip(LOGITS, X) - skip(torch.zeros_like(LOGITS), X), LOGITS)


def test_a_first_step_of_adam_moves_the_map_by_rate_times_the_learning_rate() -> None:
    skip = LinearSkip(SPEC, start="ridge", rate=0.1)
    skip.start_at(WEIGHT)
    optimizer = torch.optim.Adam(skip.parameters(), lr=1e-2)
    (skip(LOGITS, X) - 3).square().sum().backward()
    optimizer.step()
    moved = skip(torch.zeros_like(LOGITS), torch.eye(6)[:5]).T - WEIGHT[:, :5]  # columns of the map
    torch.testing.assert_close(moved.abs(), torch.full((4, 5), 1e-3), rtol=1e-3, atol=1e-6)


def test_a_fixed_map_has_no_weights_to_train_but_is_saved() -> None:
    skip = LinearSkip(SPEC, start="ridge", rate=0.0)
    skip.start_at(WEIGHT)
    assert not list(skip.parameters())
    again = LinearSkip(SPEC, start="ridge", rate=0.0)
    again.load_state_dict(skip.state_dict())
    torch.testing.assert_close(again(LOGITS, X), skip(LOGITS, X))


@pytest.mark.parametrize(
    ("spec", "start", "rate", "message"),
    [
        (SPEC, "first", 0.0, "skip.start=ridge"),
        (SPEC, "ridge", -1.0, "skip.rate=0"),
        (SPEC, "zero", 0.0, "skip=none"),
        (Spec((6,), "classes", 4), "ridge", 0.0, "skip=none"),
    ],
)
def test_wrong_arguments_are_refused(spec: Spec, start: str, rate: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearSkip(spec, start=start, rate=rate)
