from __future__ import annotations

import torch
from cases import gaussian, planes_of

from cvkan.analysis.polarization import token_magnitude, topk_recovery


def test_token_magnitude_is_the_mean_over_channels() -> None:
    z = gaussian(2, 5, 3)
    torch.testing.assert_close(token_magnitude(planes_of(z)), z.abs().mean(-1), rtol=1e-4, atol=1e-5)


def test_topk_recovery_counts_wanted_tokens_among_the_k_highest() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.8, 0.3], [0.1, 0.2, 0.3, 0.4], [4.0, 3.0, 2.0, 1.0]])
    wanted = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]])
    assert topk_recovery(scores, wanted).tolist() == [0.5, 1.0, 0.0]
