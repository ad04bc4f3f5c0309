"""Mixed precision: finite wherever float32 is, near it, and half where half is enough."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from cases import N_TOKENS, D, ragged_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from options import N_CLASSES, Network, networks
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from cvkan.core.linear import ComplexLinear, real_linear
from cvkan.core.polar import polar_coordinates, squared_magnitude
from cvkan.core.pooling import AttentionPooling, MagnitudePooling, MeanPooling

Planes = tuple[Tensor, Tensor]

HALVES = (torch.bfloat16, torch.float16)
halves = st.sampled_from(HALVES)
few = settings(max_examples=40, deadline=None)
# What a token may hold: silence, the range of float16 and both sides of it.
SIZES = (0.0, 1e-12, 1e-6, 1e-3, 1.0, 100.0, 1e4)


def tokens(sizes: list[float] | None = None, n_batch: int = 3, seed: int = 0) -> Planes:
    """Planes (B, N, D), gaussian, each token times its own size."""
    generator = torch.Generator().manual_seed(seed)
    planes = torch.randn(2, n_batch, N_TOKENS, D, generator=generator)
    if sizes is not None:
        planes = planes * torch.tensor(sizes).view(1, n_batch, N_TOKENS, 1)
    re, im = planes.unbind()
    return re.contiguous(), im.contiguous()


def step(
    network: nn.Module, z: Planes, half: torch.dtype | None, scale: float = 1.0, mask: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradients of a loss times ``scale`` by input and parameters."""
    z = z[0].clone().requires_grad_(), z[1].clone().requires_grad_()
    network.zero_grad()
    with torch.autocast("cpu", dtype=half or torch.bfloat16, enabled=half is not None):
        logits = network(z, mask)
        loss = F.cross_entropy(logits.float(), torch.arange(len(logits)) % N_CLASSES)
    (scale * loss).backward()
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return logits.detach().float(), {**found, "re": z[0].grad, "im": z[1].grad}


@settings(max_examples=60, deadline=None)
@given(
    network=networks(depths=(1, 2, 6)),
    sizes=st.lists(st.sampled_from(SIZES), min_size=3 * N_TOKENS, max_size=3 * N_TOKENS),
    one_size=st.booleans(),
    case=st.sampled_from(((torch.bfloat16, 1.0), (torch.float16, 1.0), (torch.float16, 65536.0))),
    masking=st.booleans(),
)
def test_half_precision_is_finite_wherever_float32_is(
    network: Network, sizes: list[float], one_size: bool, case: tuple[torch.dtype, float], masking: bool
) -> None:
    half, scale = case
    z = tokens(sizes[:1] * len(sizes) if one_size else sizes)
    mask = ragged_mask() if masking else None
    _, exact = step(network, z, None, scale, mask)
    largest = max(float(gradient.abs().max()) for gradient in exact.values())
    logits, found = step(network, z, half, scale, mask)
    assert logits.isfinite().all()
    # Six layers multiply the slopes at silent tokens, 1/eps each: centred, they leave the range of float32 itself.
    if largest < 1e25:
        for name, gradient in found.items():
            assert gradient.isfinite().all(), name


# One layer: a context that cancels has a phase of rounding alone, and deeper layers build on it.
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    network=networks(depths=(1,), poolings=(MeanPooling, MagnitudePooling, AttentionPooling)),
    half=halves,
    seed=st.integers(0, 9),
)
def test_logits_stay_near_those_of_float32(network: Network, half: torch.dtype, seed: int) -> None:
    z = tokens(seed=seed)
    exact, found = step(network, z, None)[0], step(network, z, half)[0]
    assert (found - exact).abs().max() < {torch.bfloat16: 0.1, torch.float16: 0.0125}[half]


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    network=networks(),
    sizes=st.lists(st.sampled_from(SIZES), min_size=3 * N_TOKENS, max_size=3 * N_TOKENS),
    half=halves,
)
def test_a_few_steps_of_training_stay_finite(network: Network, sizes: list[float], half: torch.dtype) -> None:
    z = tokens(sizes)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", enabled=half == torch.float16)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for _ in range(4):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=half):
            loss = F.cross_entropy(network(z).float(), torch.arange(3))
        assert loss.isfinite()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == (65536.0 if half == torch.float16 else 1.0)  # no step was skipped
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


class HalfOperations(TorchDispatchMode):
    """Names of the operations that gave half-precision numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        results = out if isinstance(out, (tuple, list)) else [out]
        if any(isinstance(x, Tensor) and x.dtype in HALVES for x in results):
            self.names.add(func.overloadpacket.__name__)
        return out


PRODUCTS = {"mm", "addmm", "bmm", "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math"}
BETWEEN_PRODUCTS = {"gelu", "tanh", "add"}  # hidden layers of networks
MOVES = {
    *("_to_copy", "t", "view", "_unsafe_view", "transpose", "unsqueeze", "expand", "clone", "detach", "cat", "permute"),
    *("split", "slice", "select", "unbind", "masked_fill", "stack", "split_with_sizes", "alias", "constant_pad_nd"),
    *("index_select", "empty_like", "copy_", "zeros_like", "as_strided", "squeeze", "unfold", "where", "scalar_tensor"),
}


@few
@given(network=networks(depths=(1,)), half=halves, masking=st.booleans())
def test_only_products_and_what_is_between_them_run_in_half_precision(
    network: Network, half: torch.dtype, masking: bool
) -> None:
    z = tokens()
    with torch.autocast("cpu", dtype=half), HalfOperations() as seen:
        network(z, ragged_mask() if masking else None)
    assert seen.names - MOVES - BETWEEN_PRODUCTS <= PRODUCTS
    assert seen.names & PRODUCTS  # the products do run in half


@settings(max_examples=50, deadline=None)
@given(exponents=st.lists(st.integers(-15, 15), min_size=5, max_size=5), by_gradient=st.integers(-10, 10))
def test_float16_products_hold_any_magnitude(exponents: list[int], by_gradient: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 8, generator=generator) * torch.tensor([10.0**e for e in exponents])[:, None]
    weight, bias = torch.randn(3, 8, generator=generator), torch.zeros(3)
    cotangent = (
        torch.randn(5, 3, generator=generator)
        * 10.0**by_gradient
        / torch.tensor([10.0**e for e in exponents]).unsqueeze(1)
    )
    results = []
    for half in (True, False):
        leaves = [leaf.clone().requires_grad_() for leaf in (x, weight, bias)]
        with torch.autocast("cpu", dtype=torch.float16, enabled=half):
            y = real_linear(*leaves)
        results.append((y, *torch.autograd.grad(y, leaves[:2], cotangent)))
    assert results[0][0].dtype == torch.float32
    for got, exact in zip(*results, strict=True):
        size = exact.abs().amax() if got is results[0][2] else exact.abs().amax(dim=-1, keepdim=True)
        assert ((got - exact).abs() <= 0.01 * size).all()


def test_row_of_zeros_is_mapped_to_the_bias_and_has_gradients() -> None:
    layer = ComplexLinear(3, 2)
    nn.init.constant_(layer.bias, 0.5)
    re, im = (torch.zeros(4, 3, requires_grad=True) for _ in range(2))
    with torch.autocast("cpu", dtype=torch.float16):
        out = torch.cat(layer((re, im)))
    assert torch.equal(out, torch.full((8, 2), 0.5))
    out.sum().backward()
    expected = (layer.weight_re + layer.weight_im).sum(dim=0)  # d/d re of re P + re Q
    torch.testing.assert_close(re.grad, expected.expand(4, 3), rtol=2e-3, atol=2e-3)


def test_float16_product_keeps_what_is_not_finite() -> None:
    x = torch.tensor([[1.0, float("inf")], [1.0, 2.0]])
    with torch.autocast("cpu", dtype=torch.float16):
        y = real_linear(x, torch.ones(1, 2))
    assert y.isfinite().squeeze(1).tolist() == [False, True]  # a loss scaler must see it


def half_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(function(x).float().sum(), x)[0]


# The formulas of the original, on planes (..., 2): what a port to half precision would compute.
ORIGINAL: dict[str, Callable[[Tensor], Tensor]] = {
    "unit phase": lambda x: x / (magnitude(x) + 1e-6),
    "log-magnitude": lambda x: torch.log(magnitude(x) + 1e-6),
    "normalize": lambda x: F.normalize(x, dim=-1),
}


def magnitude(x: Tensor) -> Tensor:
    return (x * x).sum(dim=-1, keepdim=True).sqrt()


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("unit phase", (0.0, 1e-5, 1e-4, 1e-3)), ("log-magnitude", (0.0, 1e-5, 1e-4, 1e-3)), ("normalize", (0.0, 1e-5))],
)
def test_formulas_of_the_original_break_in_float16_and_ours_do_not(name: str, sizes: tuple[float, ...]) -> None:
    for size in sizes:
        x = torch.full((1, 2), size, dtype=torch.float16)
        assert not half_gradient(ORIGINAL[name], x).isfinite().all(), size
        for ours in (lambda x: polar_coordinates(x.unbind(-1))[0], lambda x: polar_coordinates(x.unbind(-1))[1][0]):
            assert half_gradient(ours, x).isfinite().all(), size


def test_squares_in_float16_overflow_from_magnitude_256_on() -> None:
    x = torch.tensor([[256.0, 0.0], [255.0, 0.0]], dtype=torch.float16)
    assert magnitude(x).isinf().squeeze().tolist() == [True, False]
    assert squared_magnitude(x.unbind(-1)).isfinite().all()


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_complex_half_types_lack_what_the_original_needs() -> None:
    ones = torch.ones(2)
    with pytest.raises(RuntimeError, match="BFloat16"):
        torch.complex(ones.bfloat16(), ones.bfloat16())
    z = torch.complex(ones.half(), ones.half())
    for function in (torch.angle, torch.exp, torch.log, torch.sum, lambda z: z / 2.0, lambda z: z[None] @ z[:, None]):
        with pytest.raises(NotImplementedError, match="ComplexHalf"):
            function(z)


def test_gradient_of_the_angle_is_nan_at_small_numbers_in_float32_too() -> None:
    z = torch.tensor([1e-20 + 1e-20j, 1e-18 + 1e-18j], requires_grad=True)
    (gradient,) = torch.autograd.grad(torch.angle(z).sum(), z)
    assert torch.isnan(torch.view_as_real(gradient)).any(dim=-1).tolist() == [True, False]
    planes = torch.view_as_real(z.detach())
    assert half_gradient(lambda x: polar_coordinates(x.unbind(-1))[1][1], planes).isfinite().all()
