"""Windows in their own units, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkan.tasks.forecasting_frame import LastNormalization, NoNormalization, Normalization, WindowNormalization

N_STEPS, N_CHANNELS = 24, 3
ALL = [WindowNormalization(eps=1e-5), LastNormalization(), NoNormalization()]


def series(seed: int = 0, n: int = 4) -> torch.Tensor:
    """Windows (n, L, C) at places and scales of their own."""
    draw = torch.Generator().manual_seed(seed)
    scale, place = torch.rand(2, n, 1, N_CHANNELS, generator=draw) * 5 + 0.1
    return torch.randn(n, N_STEPS, N_CHANNELS, generator=draw) * scale + place


@pytest.mark.parametrize("normalization", ALL)
def test_what_was_normalised_and_led_back_is_what_it_was(normalization: Normalization) -> None:
    x, ahead = series(), series(1)[:, :7]
    frame = normalization(x)
    torch.testing.assert_close(frame.unfold(frame.fold(x)), x)
    torch.testing.assert_close(frame.unfold(frame.fold(ahead)), ahead)


def test_window_normalisation_is_that_of_numpy_one_channel_at_a_time() -> None:
    x = series()
    folded = WindowNormalization(eps=1e-5)(x).fold(x)
    array = x.double().numpy()
    expected = (array - array.mean(axis=1, keepdims=True)) / np.sqrt(array.var(axis=1, keepdims=True) + 1e-5)
    by_channel = [expected[b, :, c] for b in range(4) for c in range(N_CHANNELS)]  # channels of a window together
    np.testing.assert_allclose(folded.numpy(), np.stack(by_channel), rtol=1e-4, atol=1e-5)


def test_last_normalisation_ends_at_0_and_keeps_the_scale() -> None:
    x = series()
    folded = LastNormalization()(x).fold(x)
    assert torch.equal(folded[:, -1], torch.zeros(4 * N_CHANNELS))
    torch.testing.assert_close(folded.diff(dim=1), x.diff(dim=1).transpose(1, 2).flatten(0, 1))


def test_a_constant_window_stays_finite_and_comes_back() -> None:
    x = torch.full((2, N_STEPS, 1), 3.5)
    frame = WindowNormalization(eps=1e-5)(x)
    assert torch.equal(frame.fold(x), torch.zeros(2, N_STEPS))
    torch.testing.assert_close(frame.unfold(torch.zeros(2, 5)), torch.full((2, 5, 1), 3.5))


def test_quantiles_come_back_one_by_one() -> None:
    frame = WindowNormalization(eps=1e-5)(series())
    answers = torch.randn(4 * N_CHANNELS, 5, 2, generator=torch.Generator().manual_seed(3))
    together = frame.unfold(answers)
    assert together.shape == (4, 5, N_CHANNELS, 2)
    for q in range(2):
        torch.testing.assert_close(together[..., q], frame.unfold(answers[..., q]))


@given(share=st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5))
def test_each_step_keeps_its_share_of_the_level(share: list[float]) -> None:
    x, kept = series(), torch.tensor(share)
    frame = WindowNormalization(eps=1e-5)(x)
    silent = frame.unfold(torch.zeros(4 * N_CHANNELS, 5), kept)  # the network adds nothing
    torch.testing.assert_close(silent, kept[:, None] * x.mean(dim=1, keepdim=True))
    several = frame.unfold(torch.zeros(4 * N_CHANNELS, 5, 2), kept)
    torch.testing.assert_close(several, silent.unsqueeze(-1).expand(-1, -1, -1, 2))


def test_a_window_needs_room_for_its_scale() -> None:
    with pytest.raises(ValueError, match=r"normalization\.eps"):
        WindowNormalization(eps=0.0)
