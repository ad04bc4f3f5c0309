"""The token selection task: padded tokens take no part in loss or metrics."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from cvkan import Spec, TokenSelectionTask

N_TOKENS, N_VALID = 8, 5


class FirstChannel(nn.Module):
    """Each token's logit is the real part of its first channel."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x[..., :1].real  # (B, N, 1)


@pytest.fixture
def task() -> TokenSelectionTask:
    spec = Spec(input_shape=(N_TOKENS, 2), target="token_mask", n_outputs=1, is_complex=True)
    schedule = partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: 1.0)
    task = TokenSelectionTask(spec, FirstChannel(), nn.BCEWithLogitsLoss(), torch.optim.SGD, schedule, None)
    task.log = lambda *args, **kwargs: None  # type: ignore[method-assign]  # there is no trainer to log to
    return task


def test_padded_tokens_change_neither_loss_nor_metrics(task: TokenSelectionTask) -> None:
    x = torch.zeros(1, N_TOKENS, 2, dtype=torch.complex64)
    x[0, :N_VALID, 0] = torch.tensor([3.0, 1.0, 2.0, -1.0, -2.0]).to(x.dtype)
    x[0, N_VALID:] = 100.0  # what stands in the padding would win
    y = torch.zeros(1, N_TOKENS)
    y[0, [0, 2]] = 1
    y[0, N_VALID:] = 1
    mask = torch.arange(N_TOKENS)[None] < N_VALID
    padded, cut = {"x": x, "y": y, "mask": mask}, {"x": x[:, :N_VALID], "y": y[:, :N_VALID]}

    loss, logits = task.loss_and_logits(padded)
    torch.testing.assert_close(loss, task.loss_and_logits(cut)[0])
    task.update_metrics("val", padded, logits)
    assert task.val_recovery.compute() == 1.0
    assert task.val_auc.compute() == 1.0
