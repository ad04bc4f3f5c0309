"""The complex-valued network: embedding, polarizing backbone, readout, pooling, head.

Legend: B batch, N tokens, D complex channels, F real features, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from cvkan.core.backbone import Block, LayerTrace, PolarBackbone
from cvkan.core.linear import masked
from cvkan.core.norm import SampleRMSNorm
from cvkan.core.polar import Planes
from cvkan.core.pooling import Pooling, Readout
from cvkan.core.position import Position
from cvkan.models.embedding import Embedding
from cvkan.models.heads import LinearHead
from cvkan.models.skip import NoSkip, Skip
from cvkan.spec import Spec


class CVKAN(nn.Module):
    """sample -> complex tokens -> polarizing blocks -> real features -> pooled -> logits.

    Args:
        spec: what a sample and its target look like.
        d_complex: complex channels D.
        n_layers: polarizing blocks.
        n_heads: heads of the blocks and of the pooling.
        embedding: constructor, ``embedding(spec, d_complex)``.
        position: constructor of what tells tokens where they stand, ``position(d_complex, grid)``.
        block: constructor of a block, see :class:`cvkan.core.backbone.PolarBackbone`.
        pooling: constructor, ``pooling(d_complex, n_heads)``.
        readout: real features of a token.
        dropout: probability of dropping a feature before the head.
        head: constructor of what makes logits of features, ``head(n_features, spec)``.
        skip: constructor of what adds a simple model of the sample to them, ``skip(spec)``.

    Raises:
        ValueError: sizes that do not fit, or a pooling that does not fit the target.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        d_complex: int,
        n_layers: int,
        n_heads: int,
        embedding: Callable[..., Embedding],
        position: Callable[..., Position],
        block: Callable[..., Block],
        pooling: Callable[..., Pooling],
        readout: Readout,
        dropout: float,
        head: Callable[..., nn.Module] = LinearHead,
        skip: Callable[..., Skip] = NoSkip,
    ) -> None:
        super().__init__()
        if d_complex < 1:
            raise ValueError(f"d_complex must be at least 1, got {d_complex}")
        self.embedding = embedding(spec=spec, d_complex=d_complex)
        self.position = position(d_complex=d_complex, grid=self.embedding.grid)
        self.backbone = PolarBackbone(d_complex, n_layers, n_heads, self.embedding.grid, block)
        self.scale = SampleRMSNorm(causal=self.backbone.causal)
        self.readout = readout
        self.pooling = pooling(d_complex=d_complex, n_heads=n_heads)
        if spec.per_token is not None and self.pooling.pools == spec.per_token:
            raise ValueError(
                f"{type(self.pooling).__name__} gives one output a {'sample' if spec.per_token else 'token'}, the data "
                f"asks for one a {'token' if spec.per_token else 'sample'}; set pooling="
                f"{'none' if spec.per_token else 'mean, magnitude, attention or max'}"
            )
        self.dropout = nn.Dropout(dropout)
        self.n_features = self.pooling.n_features(self.readout.n_features(d_complex), self.embedding.grid)
        self.head = head(n_features=self.n_features, spec=spec)
        self.skip = skip(spec=spec)
        ranks = spec.target == "token_mask" and spec.n_outputs == 1 and self.readout.with_magnitude
        if ranks and isinstance(self.head, LinearHead):
            self.head.rank_by_magnitude(d_complex)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, return_tokens: bool = False
    ) -> Tensor | tuple[Tensor, Planes, Tensor | None]:
        """Logits (B, K), or (B, N, K) a token, of a batch (B, ...); mask (B, N), 1 = valid.

        With ``return_tokens`` also the planes (B, N, D) that were read out, and the mask of the tokens.
        """
        z, valid = self.tokens(x, mask)
        z = self.scale(self.backbone(z, valid), valid)
        features = self.pooling(z, self.readout(z), valid)  # (B, F) or (B, N, F)
        # Side by side, the tokens of a batch of short samples are fewer than the layout has: the missing ones are 0.
        n_missing = self.n_features - features.shape[-1]
        if n_missing < 0:
            raise ValueError(
                f"the tokens of a batch give {features.shape[-1]} features, the head takes {self.n_features}: samples "
                f"are longer than the layout {self.grid} of tokens; shorten them, or take a pooling of any length"
            )
        if n_missing > 0:
            features = nn.functional.pad(features, (0, n_missing))
        logits = self.skip(self.head(self.dropout(features)), x, mask)
        return (logits, z, valid) if return_tokens else logits

    def tokens(self, x: Tensor, mask: Tensor | None = None) -> tuple[Planes, Tensor | None]:
        """Planes (B, N, D) as they enter the first layer, and the mask of the tokens (B, N)."""
        z, mask = self.embedding(x, mask)
        return self.position(masked(z, mask)), mask

    def trace(self, x: Tensor, mask: Tensor | None = None) -> list[LayerTrace]:
        """Stream and token gains after every layer, for a batch (B, ...)."""
        return self.backbone.trace(*self.tokens(x, mask))

    @property
    def grid(self) -> tuple[int, ...]:
        """Layout of the tokens: (N,) or (rows, columns)."""
        return self.embedding.grid
