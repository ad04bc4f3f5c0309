"""A plain real-valued convolutional network, the twin that a complex image model is measured against.

Legend: B batch, C image channels, K outputs.
"""

from __future__ import annotations

from torch import Tensor, nn

from cvkan.spec import Spec


class ConvNet(nn.Module):
    """The stem of ``conv_stem``, then residual depthwise-separable blocks, mean pooling, linear head.

    Each block: 7x7 depthwise convolution, batch norm, 1x1 up, GELU, 1x1 down (Liu et al., "A ConvNet for
    the 2020s", 2022, with batch norm). Same stem, same number of tokens as :class:`cvkan.models.embedding.ConvStem`.

    Args:
        spec: images (C, H, W), one label a sample.
        d_model: channels.
        n_layers: blocks.
        stem_stride: stride of the second stem convolution.
        kernel_size: odd width of the depthwise filters.
        expansion: hidden width of a block, as a multiple of ``d_model``.
        dropout: probability of dropping a feature before the head.

    Raises:
        ValueError: the samples are no images, the data asks for one output a token, or a size is out of range.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        d_model: int,
        n_layers: int,
        stem_stride: int,
        kernel_size: int,
        expansion: float,
        dropout: float,
    ) -> None:
        super().__init__()
        if len(spec.input_shape) != 3 or spec.per_token:
            raise ValueError(
                f"model=convnet classifies images (channels, height, width), got samples of shape "
                f"{spec.input_shape}; choose domain=image or another model"
            )
        if kernel_size % 2 == 0 or kernel_size < 1 or stem_stride < 1:
            raise ValueError(
                f"kernel_size must be odd and positive, stem_stride positive, got {kernel_size} and {stem_stride}"
            )
        self.stem = nn.Sequential(
            nn.Conv2d(spec.input_shape[0], d_model, 3, padding=1, bias=False),
            nn.BatchNorm2d(d_model),
            nn.GELU(),
            nn.Conv2d(d_model, d_model, 3, stride=stem_stride, padding=1),
        )
        self.blocks = nn.Sequential(*(ConvBlock(d_model, kernel_size, expansion) for _ in range(n_layers)))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(d_model, spec.n_outputs)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        features = self.blocks(self.stem(x)).mean(dim=(2, 3))  # (B, d_model)
        return self.head(self.dropout(features))


class ConvBlock(nn.Module):
    """x + down(GELU(up(norm(depthwise(x)))))."""

    def __init__(self, d_model: int, kernel_size: int, expansion: float) -> None:
        super().__init__()
        d_hidden = round(expansion * d_model)
        self.branch = nn.Sequential(
            nn.Conv2d(d_model, d_model, kernel_size, padding=kernel_size // 2, groups=d_model, bias=False),
            nn.BatchNorm2d(d_model),
            nn.Conv2d(d_model, d_hidden, 1),
            nn.GELU(),
            nn.Conv2d(d_hidden, d_model, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, d_model, H, W) to the same shape."""
        return x + self.branch(x)
