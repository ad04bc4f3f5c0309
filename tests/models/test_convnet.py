from __future__ import annotations

import pytest
import torch

from cvkan.models.baselines.convnet import ConvNet
from cvkan.models.embedding import ConvStem
from cvkan.models.heads import LinearHead
from cvkan.radio.images import Histogram
from cvkan.spec import Spec

SIZES = {
    **{"d_model": 8, "n_layers": 2, "stem_stride": 2, "kernel_size": 3, "expansion": 2.0, "dropout": 0.0},
    **{"image": Histogram(size=32, limit=3.0, reference=32), "head": LinearHead},
}
IMAGES = Spec((1, 8, 8), "classes", 10)


def test_logits_a_sample_with_gradients_everywhere() -> None:
    torch.manual_seed(0)
    model = ConvNet(IMAGES, **SIZES)
    logits = model(torch.randn(4, 1, 8, 8))
    assert logits.shape == (4, 10)
    gradients = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
    assert all(x.isfinite().all() and x.abs().max() > 0 for x in gradients[:-2])


def test_stem_gives_the_tokens_of_the_complex_stem() -> None:
    model, stem = ConvNet(IMAGES, **SIZES), ConvStem(IMAGES, 4, n_layers=2, max_tokens=16)
    assert model.stem(torch.randn(1, 1, 8, 8)).shape[-2:] == stem.grid


def test_blocks_are_residual() -> None:
    model = ConvNet(IMAGES, **SIZES)
    for block in model.blocks:
        torch.nn.init.zeros_(block.branch[-1].weight)
        torch.nn.init.zeros_(block.branch[-1].bias)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(model.blocks(model.stem(x)), model.stem(x))


def test_evaluation_ignores_other_samples() -> None:
    model = ConvNet(IMAGES, **SIZES).eval()
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


@pytest.mark.parametrize("spec", [Spec((16000,), "classes", 10), Spec((1, 8, 8), "token_mask", 1)])
def test_only_image_classes_are_taken(spec: Spec) -> None:
    with pytest.raises(ValueError, match="model=convnet classifies images"):
        ConvNet(spec, **SIZES)
