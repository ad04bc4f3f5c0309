"""Optimizers by their formulas, and every optimizer under every schedule: they build, step, and resume bit for bit."""

from __future__ import annotations

import copy
import io
import sys
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cvkan import build
from cvkan.cli import resolvers
from cvkan.core.linear import ComplexLinear
from cvkan.core.univariate import PolynomialPsi
from cvkan.errors import UserError
from cvkan.optimizers import lion, muon
from cvkan.tasks.base import parameter_groups

CONF = Path(__file__).parents[2] / "conf"
OPTIMIZERS, SCHEDULERS = (sorted(p.stem for p in (CONF / group).glob("*.yaml")) for group in ("optimizer", "scheduler"))
MUON = {"momentum": 0.9, "nesterov": False, "ns_steps": 5, "betas": (0.9, 0.99)}
N_STEPS, N_EPOCH_STEPS = 13, 2  # an odd number: as many equal steps of the sign forth as back would end at the start


@pytest.fixture(scope="module", autouse=True)
def conf() -> Iterator[None]:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield


@cache
def chosen(override: str) -> DictConfig:
    return compose("train", overrides=[override])


def parameter(*shape: int, seed: int = 0) -> nn.Parameter:
    weight = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))
    weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1))
    return weight


class Network(nn.Module):
    """A matrix, a depthwise and an ordinary convolution, planes of a complex matrix, a coefficient table."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.depthwise = nn.Conv1d(3, 8, 3, padding=1), nn.Conv1d(8, 8, 3, padding=1, groups=8)
        self.linear, self.psi, self.head = ComplexLinear(4, 4), PolynomialPsi(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.depthwise(self.conv(x)).mean(-1)  # (B, 8)
        z = self.linear(torch.complex(h[:, :4], h[:, 4:]))  # (B, 4)
        r = z.abs()
        return self.head(r + self.psi(r.tanh()))


def run(optimizer: str, scheduler: str, stop: int = N_STEPS, state: bytes | None = None) -> tuple[list[Tensor], bytes]:
    """Weights after steps ``0`` or, with a state, from where it was taken, up to ``stop``; and the state there."""
    model = Network()
    make_optimizer: Callable[..., Optimizer] = instantiate(chosen(f"optimizer={optimizer}").optimizer)
    make_scheduler: Callable[..., LRScheduler] = instantiate(chosen(f"scheduler={scheduler}").scheduler)
    steps = make_optimizer(parameter_groups(model))
    schedule = make_scheduler(steps, total_steps=N_STEPS)
    start = 0
    if state is not None:
        # As a checkpoint is read: nothing but plain values may come out of it.
        saved = torch.load(io.BytesIO(state), weights_only=True)
        model.load_state_dict(saved["model"])
        steps.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["scheduler"])
        start = saved["step"]
    for step in range(start, stop):
        draw = torch.Generator().manual_seed(step)
        x, y = torch.randn(5, 3, 6, generator=draw), torch.randint(2, (5,), generator=draw)
        steps.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        steps.step()
        if not hasattr(schedule, "monitor"):
            schedule.step()
        elif (step + 1) % N_EPOCH_STEPS == 0:
            schedule.step(0.5)  # never better: the rate falls after the patience
    file = io.BytesIO()
    parts = {"model": model, "optimizer": steps, "scheduler": schedule}
    torch.save({name: part.state_dict() for name, part in parts.items()} | {"step": stop}, file)
    return [weight.detach() for weight in model.parameters()], file.getvalue()


@pytest.mark.parametrize(("optimizer", "scheduler"), list(product(OPTIMIZERS, SCHEDULERS)))
def test_every_optimizer_moves_all_weights_under_every_schedule_and_resumes_bit_for_bit(
    optimizer: str, scheduler: str
) -> None:
    before = [weight.detach() for weight in Network().parameters()]
    whole, _ = run(optimizer, scheduler)
    assert all(weight.isfinite().all() for weight in whole)
    assert all(not torch.equal(old, new) for old, new in zip(before, whole, strict=True))
    # Step 11 is behind the first fall of the plateau and behind restarts of the others.
    for stop in (3, 11):
        _, state = run(optimizer, scheduler, stop=stop)
        resumed, _ = run(optimizer, scheduler, state=state)
        assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_lion_moves_by_the_sign_of_its_interpolated_momentum() -> None:
    weight = parameter(3, 4)
    expected, momentum = weight.detach().double(), torch.zeros(3, 4, dtype=torch.float64)
    optimizer = lion([weight], lr=0.01, betas=(0.9, 0.8), weight_decay=0.5)
    for step in range(4):
        gradient = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        weight.grad = gradient.float()
        optimizer.step()
        direction = (0.9 * momentum + 0.1 * gradient).sign()
        expected = expected - 0.01 * (direction + 0.5 * expected)
        momentum = 0.8 * momentum + 0.2 * gradient
    torch.testing.assert_close(weight.detach().double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (4, 12), (12, 4), (6, 2, 3)])
def test_muon_steps_along_the_orthogonal_factor_with_the_size_of_adamw_steps(shape: tuple[int, ...]) -> None:
    weight = parameter(*shape)
    before, gradient = weight.detach().clone().flatten(1), weight.grad.double().flatten(1)
    muon([weight], lr=0.01, weight_decay=0.0, **MUON).step()
    step = (before - weight.detach().flatten(1)).double() / (0.01 * 0.2 * max(before.shape) ** 0.5)
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    # The iteration is made to end with singular values from about 0.7 to 1.2, not at 1, and runs in bfloat16.
    turned = left.T @ step @ right.T
    assert turned.diagonal().min() > 0.6
    assert turned.diagonal().max() < 1.3
    assert (turned - turned.diagonal().diag()).abs().max() < 0.1


def test_muon_gives_tables_biases_and_depthwise_kernels_to_adamw() -> None:
    model, twin = Network(), Network()
    groups = parameter_groups(model)
    ours = muon(groups, lr=0.01, weight_decay=0.1, **MUON)
    adamw = torch.optim.AdamW(parameter_groups(twin), lr=0.01, weight_decay=0.1, betas=MUON["betas"])
    for step in range(3):
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(step))
            b.grad = a.grad.clone()
        ours.step()
        adamw.step()
    same = set()
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        if torch.allclose(a, b, rtol=0, atol=1e-6):
            same.add(name)
    matrices = {"conv.weight", "linear.weight_re", "linear.weight_im", "head.weight"}
    assert same == {name for name, _ in model.named_parameters()} - matrices


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_muon_decays_matrices_and_leaves_the_exempt_group(weight_decay: float) -> None:
    model = nn.Linear(4, 4)
    before = copy.deepcopy(model)
    optimizer = muon(parameter_groups(model), lr=0.1, weight_decay=weight_decay, **MUON)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert "momentum_buffer" in optimizer.state[model.weight]  # a matrix also without decay
    torch.testing.assert_close(model.weight, before.weight * (1 - 0.1 * weight_decay))
    assert torch.equal(model.bias, before.bias)


@pytest.mark.parametrize("optimizer", ["lion", "muon"])
def test_missing_package_is_named_with_its_installation(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(UserError, match=r"pytorch-optimizer.*not installed \(optimizer\)\. Run: pip install"):
        build._optimization(chosen(f"optimizer={optimizer}"))


@pytest.mark.parametrize("override", ["optimizer.lr=-1", "optimizer.weight_decay=-1", "+optimizer.foo=1"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_wrong_options_are_the_users_error(optimizer: str, override: str) -> None:
    with pytest.raises(UserError, match=r"\(optimizer\)"):
        build._optimization(compose("train", overrides=[f"optimizer={optimizer}", override]))
