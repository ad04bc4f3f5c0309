from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from cvkan.errors import DataUnavailableError
from cvkan.models.baselines.convnet import ConvNet
from cvkan.models.baselines.vision import VisionNet, first_convolution, with_channels
from cvkan.models.heads import JointHead, LinearHead
from cvkan.radio.images import Histogram
from cvkan.spec import Spec

IQ = Spec((256,), "modulation_snr", 5, class_names=("a", "b", "c"), is_complex=True, snr_db=(0.0, 10.0))
PICTURE = Histogram(size=32, limit=3.0, reference=32)


def build(spec: Spec, architecture: str = "resnet18", **options: object) -> VisionNet:
    choices = {"sized": architecture.startswith("vit"), "pretrained": False, "image": PICTURE, "head": LinearHead}
    return VisionNet(spec, architecture=architecture, **{**choices, **options})


def frames(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 256, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("architecture", "published"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("vit_b_16", 86_567_656),
        ("vit_b_32", 88_224_232),
        ("swin_t", 28_288_354),
        ("swin_s", 49_606_258),
        ("swin_b", 87_768_224),
    ],
)
def test_architectures_have_their_published_size_and_take_pictures(architecture: str, published: int) -> None:
    def linear(n_features: int, spec: Spec) -> nn.Module:
        return nn.Linear(n_features, spec.n_outputs)  # the core's own knows no device without numbers

    with torch.device("meta"):
        whole = build(Spec((3, 224, 224), "classes", 1000), architecture, head=linear)
        grey = build(Spec((1, 64, 64), "classes", 7), architecture, head=linear)
        assert grey.eval()(torch.zeros(2, 1, 64, 64)).shape == (2, 7)
    assert sum(parameter.numel() for parameter in whole.parameters()) == published


def test_logits_are_those_of_torchvision() -> None:
    torch.manual_seed(0)
    reference = torchvision.models.resnet18(num_classes=4).eval()
    model = build(Spec((3, 32, 32), "classes", 4)).eval()
    weights = reference.state_dict()
    head = {name.removeprefix("fc."): weights.pop(name) for name in ("fc.weight", "fc.bias")}
    model.net.load_state_dict(weights)
    model.head.load_state_dict(head)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(x), reference(x))


def test_frames_and_their_stored_pictures_have_the_same_logits() -> None:
    drawn = build(IQ).eval()
    stored = build(replace(IQ, input_shape=(1, 32, 32), is_complex=False)).eval()
    stored.load_state_dict(drawn.state_dict())
    x = frames()
    torch.testing.assert_close(stored(PICTURE(x)), drawn(x))


def test_pixels_of_the_image_domain_arrive_as_they_are() -> None:
    radio, plain = (build(Spec((1, 32, 32), kind, 5)).eval() for kind in ("modulation_snr", "classes"))
    plain.load_state_dict(radio.state_dict())
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(radio(x), plain(x / 0.1))


def test_one_channel_of_a_pretrained_stem_does_what_three_do_with_a_grey_picture() -> None:
    torch.manual_seed(0)
    stem, grey = nn.Conv2d(3, 8, 7, stride=2, padding=3), torch.rand(2, 1, 20, 20)
    torch.testing.assert_close(with_channels(stem, 1, pretrained=True)(grey), stem(grey.expand(-1, 3, -1, -1)))
    assert with_channels(stem, 3, pretrained=True) is stem
    with pytest.raises(ValueError, match=r"take images of 1 or 3 channels, got 2; set model\.pretrained=false"):
        with_channels(stem, 2, pretrained=True)


def test_stem_of_another_number_of_channels_begins_as_that_of_torchvision() -> None:
    torch.manual_seed(0)
    _, stem = first_convolution(build(Spec((1, 32, 32), "classes", 4)).net)
    assert stem.weight.std().item() == pytest.approx((2 / (64 * 7 * 7)) ** 0.5, rel=0.05)  # kaiming, by fan-out
    stem = nn.Conv2d(3, 8, 7)
    made = with_channels(stem, 5, pretrained=False)
    assert torch.equal(made.weight, stem.weight[:, [0, 1, 2, 0, 1]])
    assert torch.equal(made.bias, stem.bias)


def test_joint_output_learns_through_the_whole_network() -> None:
    torch.manual_seed(0)
    model = build(IQ, head=partial(JointHead, n_task_features=None, snr_hidden=[], dropout=0.0))
    gradients = torch.autograd.grad(model(frames(4)).square().sum(), list(model.parameters()))
    assert all(g.isfinite().all() for g in gradients)
    assert gradients[0].abs().max() > 0


def test_weights_that_cannot_be_fetched_are_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        DataUnavailableError, match=r"weights of resnet18 cannot be fetched.*set model.pretrained=false"
    ):
        build(IQ, pretrained=True)
    assert not list(tmp_path.rglob("*.pth"))


def test_damaged_weights_are_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = torchvision.models.ResNet18_Weights.DEFAULT.url.rpartition("/")[2]
    file = tmp_path / "hub/checkpoints" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a download")
    with pytest.raises(DataUnavailableError, match=r"weights of resnet18 cannot be fetched"):
        build(IQ, pretrained=True)


@pytest.mark.parametrize(
    ("spec", "architecture", "options", "message"),
    [
        (IQ, "resnet19", {}, "torchvision has no classifier 'resnet19'"),
        (Spec((3, 32, 64), "classes", 2), "vit_b_16", {}, "takes square images, got 32 x 64"),
        (Spec((3, 40, 40), "classes", 2), "vit_b_16", {}, r"do not tile images of 40 x 40; set image\.size"),
        (IQ, "vit_b_16", {"pretrained": True}, "images of 224 x 224 pixels, got 32 x 32; set model.pretrained=false"),
        (Spec((16000,), "classes", 2), "resnet18", {}, "model=resnet18 classifies images .* got samples of shape"),
        (Spec((5, 3), "classes", 2, is_complex=True), "resnet18", {}, "model=resnet18 reads frames of complex I/Q"),
        (Spec((1, 8, 8), "token_mask", 1), "resnet18", {}, "model=resnet18 classifies images"),
    ],
)
def test_what_does_not_fit_is_refused(spec: Spec, architecture: str, options: dict[str, object], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build(spec, architecture, **options)


def test_convnet_draws_frames_too() -> None:
    sizes = {"d_model": 8, "n_layers": 1, "stem_stride": 2, "kernel_size": 3, "expansion": 2.0, "dropout": 0.0}
    model = ConvNet(IQ, **sizes, image=PICTURE, head=LinearHead).eval()
    pictures = replace(IQ, input_shape=(1, 32, 32), is_complex=False)
    stored = ConvNet(pictures, **sizes, image=PICTURE, head=LinearHead).eval()
    stored.load_state_dict(model.state_dict())
    torch.testing.assert_close(stored(PICTURE(frames())), model(frames()))
