"""A small transformer encoder over words.

Source: Vaswani et al., "Attention is all you need", 2017, with layer norm before each branch.

Legend: B batch, N words, M width, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cvkan.models.baselines.sentences import Words, check_positive, mean_of_valid
from cvkan.models.embedding import Embedding
from cvkan.spec import Spec


class TextTransformer(nn.Module):
    """Words plus learned positions -> layers of attention -> mean over words -> dropout -> head.

    Args:
        spec: samples of ids (N,) with a vocabulary.
        d_model: features M of a word, and width of the layers.
        n_layers: layers.
        n_heads: heads of attention, a divisor of ``d_model``.
        expansion: hidden width of a layer's feed-forward part, as a multiple of ``d_model``.
        dropout: probability of dropping a branch's output, or a feature before the head.
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
        n_layers: int,
        n_heads: int,
        expansion: float,
        dropout: float,
        embedding: Callable[..., Embedding],
        head: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        d_hidden = round(expansion * d_model)
        check_positive(n_layers=n_layers, n_heads=n_heads)
        if d_hidden < 1 or d_model % n_heads:
            raise ValueError(
                f"n_heads must divide d_model and expansion be positive, got {n_heads}, {d_model} and {expansion}; "
                "set model.n_heads=4"
            )
        self.words = Words(spec, embedding, d_model, "model=text_transformer")
        self.position = nn.Parameter(0.02 * torch.randn(spec.input_shape[0], d_model))
        layer = nn.TransformerEncoderLayer(
            *(d_model, n_heads, d_hidden, dropout), activation="gelu", batch_first=True, norm_first=True
        )
        # Nested tensors are not for layers that normalise first.
        self.encoder = nn.TransformerEncoder(layer, n_layers, nn.LayerNorm(d_model), enable_nested_tensor=False)
        self.dropout = nn.Dropout(dropout)
        self.head = head(n_features=d_model, spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of ids (B, N), N at most the data's; mask (B, N), 1 = valid, one word a sample at least."""
        features, valid = self.words(x, mask)
        states = self.encoder(features + self.position[: x.shape[1]], src_key_padding_mask=~valid)  # (B, N, M)
        return self.head(self.dropout(mean_of_valid(states, valid)))
