from __future__ import annotations

import pytest
import torch
from cases import gaussian, planes_of

from cvkan.analysis.polarization import gini, token_magnitude, topk_recovery


def test_token_magnitude_is_the_mean_over_channels() -> None:
    z = gaussian(2, 5, 3)
    torch.testing.assert_close(token_magnitude(planes_of(z)), z.abs().mean(-1), rtol=1e-4, atol=1e-5)


def test_topk_recovery_counts_wanted_tokens_among_the_k_highest() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.8, 0.3], [0.1, 0.2, 0.3, 0.4], [4.0, 3.0, 2.0, 1.0]])
    wanted = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]])
    assert topk_recovery(scores, wanted).tolist() == [0.5, 1.0, 0.0]


def test_gini_is_zero_for_equal_tokens_and_one_minus_one_over_n_for_a_single_loud_one() -> None:
    magnitude = torch.tensor([[2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 5.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    torch.testing.assert_close(gini(magnitude), torch.tensor([0.0, 0.75, 0.25]))


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_gini_does_not_depend_on_scale_or_order(scale: float) -> None:
    magnitude = gaussian(3, 8).abs()
    torch.testing.assert_close(gini(scale * magnitude.flip(1)), gini(magnitude))


def test_gini_of_silence_is_zero() -> None:
    assert gini(torch.zeros(1, 4)).item() == 0
