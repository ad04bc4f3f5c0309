"""Image networks of torchvision, for images and for pictures of constellations.

Legend: B batch, T samples, C channels, H height, W width, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from cvkan.errors import DataUnavailableError
from cvkan.models.constellation import ImageInput
from cvkan.radio.images import ConstellationImage
from cvkan.spec import Spec

PRETRAINED_SIZE = 224
# Typical rms of a constellation's pixels on the scale 0..1, of which most are black. A constant: statistics of an image
# would take the SNR out of it.
PIXEL_RMS = 0.1


class VisionNet(nn.Module):
    """An architecture of torchvision whose first convolution takes C channels and whose classifier is the head.

    With pretrained weights the first convolution of one channel holds the sum of its kernels for red, green and blue:
    it gives what the three would give for a grey image. Without, it begins with one of the three. Images of the image
    domain come standardised; those of constellations, 0..1, are divided by 0.1.

    Args:
        spec: images (C, H, W), or frames of I/Q samples, one target a sample.
        architecture: name of a classifier in torchvision, such as ``resnet18``.
        sized: the architecture is built for square images of one size, as vision transformers with learned
            positions are.
        pretrained: start from torchvision's ImageNet weights, fetched over the network once.
        image: how I/Q frames are drawn.
        head: constructor of what makes logits of features, ``head(n_features, spec)``.

    Raises:
        ValueError: the samples are neither images nor I/Q frames, or do not fit the architecture.
        DataUnavailableError: the weights cannot be fetched.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        architecture: str,
        sized: bool,
        pretrained: bool,
        image: ConstellationImage,
        head: Callable[..., nn.Module],
    ) -> None:
        super().__init__()
        if architecture not in models.list_models(module=models):
            raise ValueError(f"torchvision has no classifier {architecture!r}; choose another, such as resnet18")
        self.image = ImageInput(spec, image, f"model={architecture}")
        self.pixel_rms = PIXEL_RMS if spec.target == "modulation_snr" else 1.0
        n_channels, height, width = self.image.spec.input_shape
        if sized and height != width:
            raise ValueError(f"{architecture} takes square images, got {height} x {width}; choose another model")
        if sized and pretrained and height != PRETRAINED_SIZE:
            raise ValueError(
                f"the weights of {architecture} are for images of {PRETRAINED_SIZE} x {PRETRAINED_SIZE} pixels, got "
                f"{height} x {width}; set model.pretrained=false or image.size={PRETRAINED_SIZE}"
            )
        try:
            net = torchvision_net(architecture, pretrained, {"image_size": height} if sized else {})
        except AssertionError as error:  # torchvision's word for an image that its patches do not tile
            raise ValueError(
                f"the patches of {architecture} do not tile images of {height} x {width}; set image.size to a multiple "
                "of their edge, such as 224"
            ) from error
        stem_name, stem = first_convolution(net)
        net.set_submodule(stem_name, with_channels(stem, n_channels, pretrained))
        classifier_name, classifier = last_linear(net)
        net.set_submodule(classifier_name, nn.Identity())
        self.net = net
        self.head = head(n_features=classifier.in_features, spec=spec)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (B, K) of images (B, C, H, W) or frames (B, T)."""
        return self.head(self.net(self.image(x) / self.pixel_rms))


def torchvision_net(architecture: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    """The network as torchvision makes it.

    Raises:
        DataUnavailableError: the weights cannot be fetched, or arrive damaged.
    """
    if not pretrained:
        return models.get_model(architecture, weights=None, **options)
    try:
        return models.get_model(architecture, weights="DEFAULT", **options)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:  # no network: URLError, an OSError
        raise DataUnavailableError(
            f"the pretrained weights of {architecture} cannot be fetched or read: {str(error).partition(chr(10))[0]}",
            f"{torch.hub.get_dir()}/checkpoints",
            "Connect to the network, put the whole file there, or set model.pretrained=false.",
        ) from error


def first_convolution(net: nn.Module) -> tuple[str, nn.Conv2d]:
    """Name and module of the stem: torchvision registers modules in the order of their use."""
    return next((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))


def last_linear(net: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the classifier."""
    return [(name, module) for name, module in net.named_modules() if isinstance(module, nn.Linear)][-1]


def with_channels(stem: nn.Conv2d, n_channels: int, pretrained: bool) -> nn.Conv2d:
    """The stem for images of ``n_channels``, with the sum of the pretrained kernels where one is left of three.

    Without pretrained weights a channel has a kernel of torchvision's own initialisation, the first of the stem; those
    of more channels than the stem has begin anew with its first.

    Raises:
        ValueError: pretrained kernels for neither one channel nor three.
    """
    if n_channels == stem.in_channels:
        return stem
    made = nn.Conv2d(
        n_channels,
        stem.out_channels,
        stem.kernel_size,  # type: ignore[arg-type]
        stem.stride,  # type: ignore[arg-type]
        stem.padding,  # type: ignore[arg-type]
        bias=stem.bias is not None,
    )
    if pretrained:
        if n_channels != 1:
            raise ValueError(
                f"pretrained weights take images of 1 or 3 channels, got {n_channels}; set model.pretrained=false"
            )
        kernels = stem.weight.sum(dim=1, keepdim=True)  # (C_out, 1, kh, kw)
    else:
        kernels = stem.weight[:, torch.arange(n_channels, device=stem.weight.device) % stem.in_channels]
    with torch.no_grad():
        made.weight.copy_(kernels)  # (C_out, C, kh, kw)
        if stem.bias is not None and made.bias is not None:
            made.bias.copy_(stem.bias)
    return made
