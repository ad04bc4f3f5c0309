"""A plain real-valued convolutional network, the twin that a complex image model is measured against.

Legend: B batch, C image channels, T samples, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from cvkan.models.constellation import ImageInput
from cvkan.radio.images import ConstellationImage
from cvkan.spec import Spec


class ConvNet(nn.Module):
    """The stem of ``conv_stem``, then residual depthwise-separable blocks, mean pooling, head.

    Each block: 7x7 depthwise convolution, batch norm, 1x1 up, GELU, 1x1 down (Liu et al., "A ConvNet for
    the 2020s", 2022, with batch norm). Same stem, same number of tokens as :class:`cvkan.models.embedding.ConvStem`.

    Args:
        spec: images (C, H, W), or frames of I/Q samples, one target a sample.
        d_model: channels.
        n_layers: blocks.
        stem_stride: stride of the second stem convolution.
        kernel_size: odd width of the depthwise filters.
        expansion: hidden width of a block, as a multiple of ``d_model``.
        dropout: probability of dropping a feature before the head.
        image: how I/Q frames are drawn.
        head: constructor of what makes logits of features, ``head(n_features, spec)``.

    Raises:
        ValueError: the samples are neither images nor I/Q frames, the data asks for one output a token, or a size is
            out of range.
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
        image: ConstellationImage,
        head: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        self.image = ImageInput(spec, image, "model=convnet")
        if kernel_size % 2 == 0 or kernel_size < 1 or stem_stride < 1:
            raise ValueError(
                f"kernel_size must be odd and positive, stem_stride positive, got {kernel_size} and {stem_stride}"
            )
        self.stem = nn.Sequential(
            nn.Conv2d(self.image.spec.input_shape[0], d_model, 3, padding=1, bias=False),
            nn.BatchNorm2d(d_model),
            nn.GELU(),
            nn.Conv2d(d_model, d_model, 3, stride=stem_stride, padding=1),
        )
        self.blocks = nn.Sequential(*(ConvBlock(d_model, kernel_size, expansion) for _ in range(n_layers)))
        self.dropout = nn.Dropout(dropout)
        self.head = head(n_features=d_model, spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) or frames (B, T)."""
        features = self.blocks(self.stem(self.image(x))).mean(dim=(2, 3))  # (B, d_model)
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
