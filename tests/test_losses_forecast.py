"""The pinball loss against scikit-learn, and what it is minimised by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_pinball_loss

from cvkan.losses_forecast import Pinball

LEVELS = (0.1, 0.5, 0.8)


def test_is_the_pinball_loss_of_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(0)
    y, forecast = torch.randn(6, 4, generator=draw), torch.randn(6, 4, 3, generator=draw)
    expected = [
        mean_pinball_loss(y.numpy().ravel(), forecast[..., q].numpy().ravel(), alpha=level)
        for q, level in enumerate(LEVELS)
    ]
    loss = Pinball(LEVELS)
    np.testing.assert_allclose(loss.by_level(forecast, y).numpy(), expected, rtol=1e-5)
    assert float(loss(forecast, y)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_is_least_at_the_quantiles_of_the_targets() -> None:
    y = torch.randn(4001, generator=torch.Generator().manual_seed(0)).exp()
    forecast = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([forecast], lr=0.02)
    loss = Pinball(LEVELS)
    for _ in range(400):
        optimizer.zero_grad()
        loss(forecast.expand(len(y), 3), y).backward()
        optimizer.step()
    np.testing.assert_allclose(forecast.detach().numpy(), np.quantile(y.numpy(), LEVELS), atol=0.05)


def test_the_median_alone_is_half_the_absolute_error() -> None:
    y, forecast = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    assert float(Pinball((0.5,))(forecast[:, None], y)) == pytest.approx(float((y - forecast).abs().mean()) / 2)


@pytest.mark.parametrize("levels", [(), (0.5, 0.1), (0.1, 0.9), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5)])
def test_levels_out_of_order_or_range_or_without_the_median_are_refused(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"domain\.quantiles"):
        Pinball(levels)


def test_one_number_a_level_is_needed() -> None:
    with pytest.raises(ValueError, match="one output a quantile"):
        Pinball(LEVELS)(torch.zeros(4, 2), torch.zeros(4))
