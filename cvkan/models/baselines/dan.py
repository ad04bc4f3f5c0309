"""Deep averaging network: the mean of the words, then a few layers. It knows no order of words.

Source: Iyyer, Manjunatha, Boyd-Graber and Daumé, "Deep unordered composition rivals syntactic methods for text
classification", 2015.

Legend: B batch, N words, M features of a word, H hidden features, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from cvkan.core.linear import RealLinear
from cvkan.models.baselines.sentences import Words, check_positive, mean_of_valid
from cvkan.models.embedding import Embedding
from cvkan.spec import Spec


class DAN(nn.Module):
    """Mean over words -> ``n_layers`` times (linear, ReLU, dropout) -> head.

    The word dropout of the paper is part of the data (``data.word_dropout``).

    Args:
        spec: samples of ids (N,) with a vocabulary.
        d_model: features M of a word.
        d_hidden: width H of the layers.
        n_layers: layers behind the mean.
        dropout: probability of dropping a feature after each layer.
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
        self.words = Words(spec, embedding, d_model, "model=dan")
        layers: list[nn.Module] = []
        for i in range(n_layers):
            layers += [RealLinear(d_hidden if i else d_model, d_hidden), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
        self.head = head(n_features=d_hidden, spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of ids (B, N); mask (B, N), 1 = valid."""
        features, valid = self.words(x, mask)
        return self.head(self.layers(mean_of_valid(features, valid)))
