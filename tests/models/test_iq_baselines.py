from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.models.baselines.cumulants import CumulantNet
from cvkan.models.baselines.mcldnn import MCLDNN
from cvkan.models.baselines.pet_cgdnn import PETCGDNN
from cvkan.models.baselines.resnet1d import ResNet1d
from cvkan.models.heads import LinearHead
from cvkan.radio.constellations import constellation
from cvkan.radio.cumulants import cumulants
from cvkan.spec import Spec


def frames_of(n_samples: int, n_outputs: int = 5) -> Spec:
    return Spec((n_samples,), "classes", n_outputs, is_complex=True)


def mcldnn(spec: Spec) -> nn.Module:
    return MCLDNN(spec, dropout=0.5, head=LinearHead)


def pet_cgdnn(spec: Spec) -> nn.Module:
    return PETCGDNN(spec, dropout=0.5, head=LinearHead)


def resnet1d(spec: Spec, n_stacks: int = 2, kernel_size: int = 3) -> nn.Module:
    sizes = {"n_stacks": n_stacks, "d_model": 32, "kernel_size": kernel_size, "dropout": 0.3}
    return ResNet1d(spec, **sizes, head=LinearHead)


Build = Callable[[Spec], nn.Module]
ALL = [mcldnn, pet_cgdnn, resnet1d, CumulantNet]
LEARNED = ALL[:3]


def samples(n: int = 4, length: int = 64) -> Tensor:
    return torch.randn(n, length, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("build", "n_samples", "n_classes", "published"),
    [
        (mcldnn, 128, 11, 406_199),
        (pet_cgdnn, 128, 11, 71_871),
        (lambda spec: resnet1d(spec, n_stacks=6), 1024, 24, 165_144),  # the layers as described, see the docstring
        (CumulantNet, 1024, 24, 10 * 24),
    ],
)
def test_networks_have_their_number_of_parameters(build: Build, n_samples: int, n_classes: int, published: int) -> None:
    model = build(frames_of(n_samples, n_classes))
    assert sum(parameter.numel() for parameter in model.parameters()) == published


@pytest.mark.parametrize("build", LEARNED)
def test_every_parameter_learns(build: Build) -> None:
    torch.manual_seed(0)
    model = build(frames_of(64))
    loss = F.cross_entropy(model(samples()), torch.tensor([0, 1, 2, 3]))
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in gradients)


@pytest.mark.parametrize("build", ALL)
def test_evaluation_ignores_other_frames(build: Build) -> None:
    model, x = build(frames_of(64)).eval(), samples()
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", LEARNED)
def test_padded_samples_may_hold_anything(build: Build) -> None:
    model, x = build(frames_of(64)).eval(), samples()
    mask = torch.arange(64).expand(4, -1) < torch.tensor([[64], [50], [64], [9]])
    dirty = torch.where(mask, x, complex(torch.nan, torch.inf))
    assert torch.equal(model(dirty, mask), model(torch.where(mask, x, 0), mask))
    assert not torch.equal(model(x, mask), model(x))


@pytest.mark.parametrize("build", LEARNED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_finite_logits(build: Build, dtype: torch.dtype) -> None:
    model = build(frames_of(64))
    with torch.autocast("cpu", dtype):
        assert model(samples()).isfinite().all()


def test_phase_taken_out_is_the_estimated_one() -> None:
    torch.manual_seed(0)
    model, x = pet_cgdnn(frames_of(64)).eval(), samples()
    planes = torch.stack([x.real, x.imag], dim=1)
    angle = planes.flatten(1) @ model.angle[2].weight.T + model.angle[2].bias
    turned = model.turned_back(planes)
    torch.testing.assert_close(torch.complex(turned[:, 0], turned[:, 1]), x * torch.exp(-1j * angle))


def test_mcldnn_keeps_the_time_axis_until_the_last_filter() -> None:
    """Filters are placed as Keras places them (``same``: 3 before, 4 behind; ``causal``: 7 before)."""
    model = mcldnn(frames_of(64)).eval()
    seen: dict[str, tuple[int, ...]] = {}
    for name in ("both", "in_phase", "apart", "joined"):
        module = model.get_submodule(name)
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: tuple(out.shape)}))
    model(samples(2))
    assert seen == {
        "both": (2, 50, 2, 64),
        "in_phase": (2, 50, 64),
        "apart": (2, 50, 2, 64),
        "joined": (2, 100, 1, 60),
    }


def test_residual_units_add_to_their_input() -> None:
    model, x = resnet1d(frames_of(64)), torch.randn(2, 2, 64)
    stack = model.stacks[0]
    for unit in stack.units:
        nn.init.zeros_(unit[2].weight)
        nn.init.zeros_(unit[2].bias)
    torch.testing.assert_close(stack(x), F.max_pool1d(stack.project(x), 2))


def test_cumulant_logits_are_linear_in_standardised_cumulants() -> None:
    model, x = CumulantNet(frames_of(64)).train(), samples(16)
    features = cumulants(x)
    standardised = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(model(x), model.head(standardised), rtol=1e-4, atol=1e-4)


def test_cumulants_tell_constellations_of_any_phase() -> None:
    torch.manual_seed(0)
    names = ["BPSK", "QPSK", "16QAM"]
    y = torch.arange(300) % 3
    points = [constellation(name).to(torch.complex64) for name in names]
    x = torch.stack([points[k][torch.randint(len(points[k]), (256,))] for k in y.tolist()])
    x = x * torch.polar(torch.ones(300, 1), 6 * torch.rand(300, 1)) + 0.2 * torch.randn_like(x)
    model = CumulantNet(frames_of(256, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x[:200]), y[:200]).backward()
        optimizer.step()
    assert (model.eval()(x[200:]).argmax(1) == y[200:]).float().mean() > 0.98


@pytest.mark.parametrize("build", ALL)
@pytest.mark.parametrize(
    "spec", [Spec((64,), "classes", 2), Spec((1, 8, 8), "classes", 2), Spec((64, 2), "classes", 2, is_complex=True)]
)
def test_only_frames_are_taken(build: Build, spec: Spec) -> None:
    with pytest.raises(ValueError, match=r"reads frames of complex I/Q samples \(n_samples,\), got samples of shape"):
        build(spec)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: mcldnn(frames_of(7)), "model=mcldnn needs frames of 8 samples or more, the data has 7"),
        (lambda: pet_cgdnn(frames_of(12)), "model=pet_cgdnn needs frames of 13 samples or more"),
        (lambda: resnet1d(frames_of(63), n_stacks=6), "model=resnet1d needs frames of 64 samples or more"),
        (lambda: resnet1d(frames_of(64), kernel_size=4), "kernel_size odd and positive, got 2 and 4"),
        (lambda: resnet1d(frames_of(64), n_stacks=0), "n_stacks must be positive"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
