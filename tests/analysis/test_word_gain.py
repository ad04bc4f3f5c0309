"""What a word does to the one after it."""

from __future__ import annotations

import pytest
import torch

from cvkan.analysis.polarization import Polarization
from cvkan.analysis.word_gain import gain_after, relative_gain

NOT, NEVER = 2, 3


def found(x: list[list[int]], gain: torch.Tensor) -> Polarization:
    """Ids (B, N), 0 = padded, and gains (B, L, N)."""
    ids = torch.tensor(x)
    mask, nothing = ids != 0, torch.zeros(gain.shape[:2])
    gain = gain * mask[:, None]
    return Polarization(ids, (ids.shape[1],), mask, gain, gain, nothing, nothing, nothing, None)


def test_relative_gain_has_mean_1_over_the_words_of_each_sentence() -> None:
    torch.manual_seed(0)
    relative = relative_gain(found([[5, 6, 7], [5, 0, 0]], torch.rand(2, 4, 3) + 0.1))
    torch.testing.assert_close(relative.nanmean(dim=-1), torch.ones(2, 4))
    assert relative[1, :, 1:].isnan().all()


def test_words_behind_others_are_compared_with_themselves_elsewhere() -> None:
    torch.manual_seed(0)
    batches = [
        found([[NOT, 5, 6, NEVER, 5], [6, NOT, 8, 0, 0]], torch.rand(2, 2, 5) + 0.1),
        found([[5, NOT, 6, 5], [9, 9, 7, NOT]], torch.rand(2, 2, 4) + 0.1),
    ]
    behind = gain_after(iter(batches), torch.tensor([NOT, NEVER]))
    assert behind.ids.tolist() == [5, 6]  # 8 stands nowhere else, 7 and 9 behind neither, the last NOT before nothing
    assert behind.n_after.tolist() == [2, 1]
    first, second = (relative_gain(batch) for batch in batches)
    after = {5: [first[0, :, 1], first[0, :, 4]], 6: [second[0, :, 2]]}
    elsewhere = {5: [second[0, :, 0], second[0, :, 3]], 6: [first[0, :, 2], first[1, :, 0]]}
    for place, word in enumerate((5, 6)):
        torch.testing.assert_close(behind.after[:, place], torch.stack(after[word]).mean(dim=0))
        torch.testing.assert_close(behind.elsewhere[:, place], torch.stack(elsewhere[word]).mean(dim=0))
    totals = [2 * each[:, 0] + each[:, 1] for each in (behind.after, behind.elsewhere)]
    torch.testing.assert_close(behind.ratio, totals[0] / totals[1])


@pytest.mark.parametrize("leading", [[], [9]])
def test_without_such_words_nothing_is_compared(leading: list[int]) -> None:
    behind = gain_after([found([[5, 6]], torch.ones(1, 3, 2))], torch.tensor(leading, dtype=torch.int64))
    assert behind.after.shape == (3, 0)
