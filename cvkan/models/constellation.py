"""Networks for images, given I/Q frames: the picture of the constellation is drawn first, on the model's device.

Legend: B batch, T samples, C channels, H height, W width, N tokens, D complex channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn

from cvkan.models.embedding import Embedding, Tokens
from cvkan.models.iq import iq_length
from cvkan.radio.images import ConstellationImage
from cvkan.spec import Spec


class ImageInput(nn.Module):
    """Images (B, C, H, W) of samples: I/Q frames are drawn, images stay what they are.

    Args:
        spec: frames of I/Q samples (T,), or images (C, H, W); one target a sample.
        image: how I/Q frames are drawn; unused where the samples are images.
        user: what needs the images, for the message.

    Attributes:
        spec: of the images.

    Raises:
        ValueError: the samples are neither.
    """

    def __init__(self, spec: Spec, image: ConstellationImage, user: str) -> None:
        super().__init__()
        if spec.is_complex:
            iq_length(spec, user)
            self.spec = replace(spec, input_shape=(image.n_channels, image.size, image.size), is_complex=False)
            self.draw: nn.Module = image
            return
        if len(spec.input_shape) != 3 or spec.per_token:
            raise ValueError(
                f"{user} classifies images (channels, height, width) or draws frames of I/Q samples, got samples of "
                f"shape {spec.input_shape}; choose domain=image, domain=radio or another model"
            )
        self.spec, self.draw = spec, nn.Identity()

    @property
    def drawing(self) -> dict[str, object] | None:
        """Settings of the images that are drawn, in plain values; None where samples are images."""
        return self.draw.settings() if isinstance(self.draw, ConstellationImage) else None

    def forward(self, x: Tensor) -> Tensor:
        """Samples (B, ...) to images (B, C, H, W)."""
        return self.draw(x)


class ConstellationEmbedding(Embedding):
    """The picture of the constellation as tokens: an image, then an embedding of images.

    Args:
        spec: frames of I/Q samples (T,), or images (C, H, W).
        d_complex: channels D.
        image: how frames are drawn.
        tokens: constructor of the embedding of images, ``tokens(spec, d_complex)``.

    Raises:
        ValueError: the samples are neither frames nor images, or the images do not suit ``tokens``.
    """

    def __init__(self, spec: Spec, d_complex: int, image: ConstellationImage, tokens: Callable[..., Embedding]) -> None:
        super().__init__()
        self.image = ImageInput(spec, image, "embedding=constellation")
        self.tokens = tokens(spec=self.image.spec, d_complex=d_complex)
        self.grid = self.tokens.grid

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tokens:
        """Samples (B, ...) to planes (B, N, D), row by row. An image has no padding: there is no mask of its tokens."""
        return self.tokens(self.image(x))
