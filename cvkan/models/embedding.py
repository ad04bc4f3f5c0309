"""From a sample to complex tokens.

An embedding is built as ``Embedding(spec, d_complex)`` from what a sample looks like, knows the layout of its
tokens (``grid``) before any data arrives, and maps ``(x, mask)`` to ``(planes (B, N, D), mask)``.

Legend: B batch, N tokens, D complex channels, C image channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cvkan.core.linear import ComplexLinear, complex_dropout, masked
from cvkan.core.polar import Planes, as_planes
from cvkan.models.words import WordTable, check_words
from cvkan.spec import Spec

Tokens = tuple[Planes, Tensor | None]


class Embedding(nn.Module):
    """Base of all embeddings.

    Attributes:
        grid: layout of the tokens, (N,) or (rows, columns).
    """

    grid: tuple[int, ...]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tokens:
        """Samples (B, ...) to planes (B, N, D) and the mask of the tokens (B, N)."""
        raise NotImplementedError


class IdentityEmbedding(Embedding):
    """Complex input (B, N, D) is its own tokens.

    Args:
        spec: samples of shape (N, D), complex.
        d_complex: must equal D.

    Raises:
        ValueError: the input is not complex tokens of ``d_complex`` channels.
    """

    def __init__(self, spec: Spec, d_complex: int) -> None:
        super().__init__()
        input_shape = spec.input_shape
        if not spec.is_complex or len(input_shape) != 2 or input_shape[1] != d_complex:
            raise ValueError(
                f"embedding=identity needs complex tokens (n_tokens, d_complex={d_complex}), got samples of shape "
                f"{tuple(input_shape)}; set model.d_complex to the channels of the data or choose another embedding"
            )
        self.grid = (input_shape[0],)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tokens:
        """Complex (B, N, D) to planes (B, N, D)."""
        return as_planes(x), mask


class LinearEmbedding(Embedding):
    """Each token's features by one linear map: z_n = W x_n + b.

    Args:
        spec: samples of shape (N, F), real or complex.
        d_complex: channels D.

    Raises:
        ValueError: the input is not a sequence of feature vectors.
    """

    def __init__(self, spec: Spec, d_complex: int) -> None:
        super().__init__()
        if len(spec.input_shape) != 2:
            raise ValueError(
                f"embedding=linear needs tokens (n_tokens, features), got samples of shape {spec.input_shape}; "
                "choose the embedding that fits the data"
            )
        n_tokens, n_features = spec.input_shape
        self.grid = (n_tokens,)
        self.is_complex = spec.is_complex
        self.project = ComplexLinear(n_features, d_complex)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tokens:
        """Features (B, N, F), real or complex, to planes (B, N, D)."""
        planes = as_planes(x if self.is_complex else (x, torch.zeros_like(x)))
        return self.project(masked(planes, mask)), mask


class TokenEmbedding(Embedding):
    """One learned complex vector a word of the vocabulary.

    Args:
        spec: samples of shape (N,), integer ids, with a ``vocabulary``.
        d_complex: channels D.
        dropout: probability of dropping a complex number of a token.
        std: standard deviation of a plane at the start. Few steps move the vectors of rare words: they say little for
            as long as they are small.
        vectors: file of word vectors to start from, see :class:`cvkan.models.words.WordTable`; None for none.

    Raises:
        ValueError: the input has no vocabulary, or ``std`` is not positive.
    """

    def __init__(
        self,
        spec: Spec,
        d_complex: int,
        dropout: float,
        std: float = math.sqrt(0.5),
        vectors: str | None = None,
    ) -> None:
        super().__init__()
        check_words(spec, "embedding=token")
        if not std > 0:
            raise ValueError(f"std must be positive, got {std}; set embedding.std=0.1")
        self.grid = (spec.input_shape[0],)
        self.d_complex, self.dropout = d_complex, dropout
        self.table = WordTable(spec.vocabulary, 2 * d_complex, std, vectors)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tokens:
        """Ids (B, N) to planes (B, N, D)."""
        re, im = self.table(x).split(self.d_complex, dim=-1)  # (B, N, D) each
        return complex_dropout((re, im), self.dropout, self.training), mask


class RFFTPatchEmbedding(Embedding):
    """Overlapping patches of a series, each by its spectrum: z_n = W rfft(x_n) + b.

    All channels of a series at one place make one token. A shift of the series turns the phases of its spectrum, which
    is what complex tokens are for. Source: patches as in Nie et al., "A time series is worth 64 words", 2023; the
    spectrum in their place is our own choice.

    Args:
        spec: samples of shape (T,) or (T, C), real.
        d_complex: channels D.
        patch_size: samples a patch.
        stride: samples from patch to patch; what is left at the end is cut off.

    Raises:
        ValueError: the input is no real series, or shorter than a patch.
    """

    def __init__(self, spec: Spec, d_complex: int, patch_size: int, stride: int) -> None:
        super().__init__()
        if spec.is_complex or len(spec.input_shape) not in (1, 2):
            raise ValueError(
                f"embedding=rfft_patch needs a real series (n_samples,) or (n_samples, channels), got samples of shape "
                f"{spec.input_shape}; choose the embedding that fits the data"
            )
        length, n_channels = (*spec.input_shape, 1)[:2]
        if not 1 <= patch_size <= length or stride < 1:
            raise ValueError(
                f"patches of {patch_size} samples with stride {stride} do not fit a series of {length}; "
                "set embedding.patch_size and embedding.stride"
            )
        self.patch_size, self.stride = patch_size, stride
        self.grid = ((length - patch_size) // stride + 1,)
        self.project = ComplexLinear(n_channels * (patch_size // 2 + 1), d_complex)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tokens:
        """Series (B, T) or (B, T, C) to planes (B, N, D); mask (B, T): a token with any valid sample is valid."""
        x = x.unsqueeze(-1) if x.dim() == 2 else x  # (B, T, C)
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x  # transforms know no half precision
        if mask is not None:
            x = x.masked_fill(~mask.bool().unsqueeze(-1), 0.0)
            mask = mask.bool().unfold(1, self.patch_size, self.stride).any(dim=-1)  # (B, N)
        patches = x.unfold(1, self.patch_size, self.stride)  # (B, N, C, P)
        spectrum = torch.fft.rfft(patches, norm="ortho").flatten(2)  # (B, N, C (P/2 + 1)), complex
        return self.project(as_planes(spectrum)), mask


class PatchEmbedding(Embedding):
    """Non-overlapping square patches, each by one complex linear map.

    Args:
        spec: samples of shape (C, H, W).
        d_complex: channels D.
        patch_size: edge of a patch, in pixels.

    Raises:
        ValueError: the input is no image, or its edges are no multiples of ``patch_size``.
    """

    def __init__(self, spec: Spec, d_complex: int, patch_size: int) -> None:
        super().__init__()
        channels, height, width = image_shape(spec, "patch")
        if height % patch_size or width % patch_size:
            raise ValueError(
                f"patches of {patch_size} pixels do not tile images of {height} x {width}; "
                "set embedding.patch_size to a common divisor of both edges"
            )
        self.grid = (height // patch_size, width // patch_size)
        self.project = nn.Conv2d(channels, 2 * d_complex, patch_size, stride=patch_size)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tokens:
        """Images (B, C, H, W) to planes (B, N, D), row by row."""
        return grid_to_planes(self.project(x)), mask


class ConvStem(Embedding):
    """3x3 convolutions down to at most ``max_tokens`` tokens; the last one gives the two planes.

    Convolution, batch norm and GELU, without GELU in the last layer: a ReLU on the planes would confine every
    phase to one quadrant. As many layers have stride 2 as ``max_tokens`` asks for, the last ones.

    Args:
        spec: samples of shape (C, H, W).
        d_complex: channels D.
        n_layers: convolutions.
        max_tokens: upper bound on the number of tokens N.

    Raises:
        ValueError: the input is no image, or ``n_layers`` is below 1 or too few for ``max_tokens``.
    """

    def __init__(self, spec: Spec, d_complex: int, n_layers: int, max_tokens: int) -> None:
        super().__init__()
        if n_layers < 1:
            raise ValueError(f"n_layers must be at least 1, got {n_layers}; set embedding.n_layers")
        channels, height, width = image_shape(spec, "conv_stem")
        n_strided = 0
        while height * width > max_tokens and n_strided <= n_layers:
            height, width, n_strided = (height + 1) // 2, (width + 1) // 2, n_strided + 1
        if n_strided > n_layers:
            raise ValueError(
                f"{n_layers} layers of stride 2 cannot bring images of {spec.input_shape} to {max_tokens} tokens; "
                "raise embedding.n_layers or embedding.max_tokens"
            )
        self.grid = (height, width)
        n_maps = 2 * d_complex
        layers: list[nn.Module] = []
        for i in range(n_layers):
            if i > 0:
                layers += [nn.BatchNorm2d(n_maps), nn.GELU()]
            stride = 2 if i >= n_layers - n_strided else 1
            layers.append(nn.Conv2d(n_maps if i else channels, n_maps, 3, stride=stride, padding=1, bias=False))
        self.layers = nn.Sequential(*layers)
        self.plane_norm = nn.BatchNorm2d(n_maps)
        nn.init.constant_(self.plane_norm.weight, math.sqrt(0.5))  # two planes: the rms of |z| starts at 1

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tokens:
        """Images (B, C, H, W) to planes (B, N, D), row by row."""
        return grid_to_planes(self.plane_norm(self.layers(x))), mask


def grid_to_planes(x: Tensor) -> Planes:
    """Feature maps (B, 2D, rows, columns) to planes (B, N, D): the first D maps are re, the last D im."""
    re, im = x.flatten(2).transpose(1, 2).chunk(2, dim=-1)  # (B, N, D) each
    return re, im


def image_shape(spec: Spec, embedding: str) -> tuple[int, int, int]:
    """(C, H, W), or a ``ValueError`` if the samples are no images."""
    if len(spec.input_shape) != 3:
        raise ValueError(
            f"embedding={embedding} needs images (channels, height, width), got samples of shape "
            f"{spec.input_shape}; choose the domain or the embedding that fits the data"
        )
    channels, height, width = spec.input_shape
    return channels, height, width
