"""Image augmentation against torchvision's pad-crop-flip and by its invariants."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pad as pad_image

from cvkan.domains.image.augment import ImageAugment
from cvkan.errors import UserError


def augment(x: torch.Tensor, seed: int = 0, **options: object) -> torch.Tensor:
    settings = {"pad": 0, "flip": 0.0, "padding": "zero", "cutout": 0, **options}
    torch.manual_seed(seed)
    return ImageAugment(**settings)({"x": x, "y": torch.zeros(len(x))})["x"]


def crops(image: torch.Tensor, pad: int, mode: str) -> list[torch.Tensor]:
    """All shifts of one image (C, H, W), and their mirror images, the slow way."""
    _, height, width = image.shape
    padded = pad_image(image[None], [pad] * 4, mode=mode)[0]
    shifted = [
        padded[:, top : top + height, left : left + width] for top in range(2 * pad + 1) for left in range(2 * pad + 1)
    ]
    return shifted + [image.flip(-1) for image in shifted]


@pytest.mark.parametrize(("padding", "mode"), [("zero", "constant"), ("reflect", "reflect")])
def test_every_result_is_a_padded_crop_of_its_own_image_and_all_crops_occur(padding: str, mode: str) -> None:
    image = torch.rand(3, 5, 7)
    wanted = torch.stack(crops(image, 2, mode))  # (50, 3, 5, 7)
    got = augment(image.expand(1000, -1, -1, -1), pad=2, flip=0.5, padding=padding)
    equal = (got[:, None] == wanted[None]).flatten(2).all(2)  # (1000, 50)
    assert equal.sum(1).tolist() == [1] * 1000
    assert equal.any(0).all()


def test_samples_keep_their_own_pixels_and_labels() -> None:
    x = torch.arange(1, 9, dtype=torch.float32).view(8, 1, 1, 1).expand(8, 2, 6, 6)
    batch = {"x": x, "y": torch.arange(8)}
    out = ImageAugment(pad=2, flip=0.5, padding="reflect", cutout=0)(batch)
    assert torch.equal(out["x"], x)
    assert torch.equal(out["y"], batch["y"])


def test_flip_probability_is_kept() -> None:
    x = torch.tensor([0.0, 1.0]).expand(4000, 1, 1, 2)
    assert augment(x, flip=0.25)[:, 0, 0, 0].mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(augment(x, flip=1.0), x.flip(-1))


def test_cutout_erases_one_square_and_uint8_stays_uint8() -> None:
    out = augment(torch.full((500, 2, 9, 9), 255, dtype=torch.uint8), cutout=3)
    erased = (out == 0).sum((1, 2, 3)) // 2
    assert out.dtype == torch.uint8
    assert erased.max() == 9
    assert set(erased.tolist()) == {4, 6, 9}  # a corner, an edge, the whole square
    assert torch.equal(out[:, 0], out[:, 1])


def test_result_is_a_function_of_the_global_seed() -> None:
    x = torch.rand(64, 3, 8, 8)
    assert torch.equal(augment(x, seed=1, pad=2, flip=0.5), augment(x, seed=1, pad=2, flip=0.5))
    assert not torch.equal(augment(x, seed=1, pad=2, flip=0.5), augment(x, seed=2, pad=2, flip=0.5))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"pad": -1}, "pad"),
        ({"flip": 1.5}, "flip"),
        ({"padding": "wrap"}, "padding"),
        ({"cutout": -2}, "cutout"),
    ],
)
def test_bad_option_is_named(options: dict, key: str) -> None:
    with pytest.raises(UserError, match=rf"data\.augment\.{key}"):
        augment(torch.rand(2, 1, 8, 8), **options)


def test_pad_as_large_as_the_image_is_refused() -> None:
    with pytest.raises(UserError, match="smaller than the image of 8x8"):
        augment(torch.rand(2, 1, 8, 8), pad=8)
