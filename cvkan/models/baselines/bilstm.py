"""A bidirectional LSTM over words.

Source: Graves and Schmidhuber, "Framewise phoneme classification with bidirectional LSTM and other neural network
architectures", 2005; the mean over words in the place of the last states is our own choice, and the stronger one here.

Legend: B batch, N words, M features of a word, H hidden features of a direction, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cvkan.models.baselines.sentences import Words, check_positive, mean_of_valid
from cvkan.models.embedding import Embedding
from cvkan.spec import Spec


class BiLSTM(nn.Module):
    """LSTM layers in both directions -> mean over words -> dropout -> head.

    Args:
        spec: samples of ids (N,) with a vocabulary.
        d_model: features M of a word.
        d_hidden: width H of each direction.
        n_layers: layers.
        dropout: probability of dropping a feature between layers and before the head.
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
        d_hidden: int,
        n_layers: int,
        dropout: float,
        embedding: Callable[..., Embedding],
        head: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        check_positive(d_hidden=d_hidden, n_layers=n_layers)
        self.words = Words(spec, embedding, d_model, "model=bilstm")
        between = dropout if n_layers > 1 else 0.0  # torch warns of what a single layer cannot use
        self.lstm = nn.LSTM(d_model, d_hidden, n_layers, batch_first=True, dropout=between, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.head = head(n_features=2 * d_hidden, spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of ids (B, N); mask (B, N), 1 = valid, those of a sample before its padding."""
        features, valid = self.words(x, mask)
        lengths = valid.sum(dim=1).clamp(min=1).cpu()  # a packed sequence has one word at least
        packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.head(self.dropout(mean_of_valid(states, valid)))  # of (B, N, 2 H)
