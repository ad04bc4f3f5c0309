"""TextCNN: filters over a few words each, and the strongest answer of each filter.

Source: Kim, "Convolutional neural networks for sentence classification", 2014.

Legend: B batch, N words, M features of a word, F filters of a width, W widths, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.models.baselines.sentences import Words, check_positive
from cvkan.models.embedding import Embedding
from cvkan.spec import Spec


class TextCNN(nn.Module):
    """Convolutions of several widths -> ReLU -> greatest value over the places -> dropout -> head.

    A filter of width w sees w - 1 places of padding before the first word and behind the last one, so that a sentence
    shorter than it has places too; those of padding alone do not count. It has no constraint on the norm of the head's
    weights; weight decay does that here.

    Args:
        spec: samples of ids (N,) with a vocabulary.
        d_model: features M of a word.
        n_filters: filters F of each width.
        widths: words W that the filters see.
        dropout: probability of dropping a feature before the head.
        embedding: constructor, ``embedding(spec, d_complex)``.
        head: constructor of what makes logits of features, ``head(n_features, spec)``.

    Raises:
        ValueError: the samples are no words, or a size is out of range.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        d_model: int,
        n_filters: int,
        widths: Sequence[int],
        dropout: float,
        embedding: Callable[..., Embedding],
        head: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"widths must be positive numbers of words, got {list(widths)}; set model.widths=[3,4,5]")
        check_positive(n_filters=n_filters)
        self.words = Words(spec, embedding, d_model, "model=textcnn")
        self.filters = nn.ModuleList(nn.Conv1d(d_model, n_filters, width, padding=width - 1) for width in widths)
        self.dropout = nn.Dropout(dropout)
        self.head = head(n_features=n_filters * len(widths), spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of ids (B, N); mask (B, N), 1 = valid."""
        features, valid = self.words(x, mask)
        maps = features.transpose(1, 2)  # (B, M, N)
        strongest = [self.strongest(F.relu(conv(maps)), valid) for conv in self.filters]
        return self.head(self.dropout(torch.cat(strongest, dim=1)))

    @staticmethod
    def strongest(answers: Tensor, valid: Tensor) -> Tensor:
        """Greatest of the answers (B, F, N + w - 1), none below 0, at places that see a valid word (B, N): (B, F)."""
        beyond = answers.shape[-1] - valid.shape[1]  # w - 1
        seen = F.max_pool1d(F.pad(valid.float(), (beyond, beyond)), beyond + 1, stride=1)  # (B, N + w - 1)
        return (answers * seen.unsqueeze(1)).amax(dim=-1)
