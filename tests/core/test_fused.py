"""Hand-written derivatives against finite differences, in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from cvkan.core.fused import Fourier, GainRotate, Mix, PolarCoordinates, Polynomial


def real(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def saved_elements(function: Callable[[], object]) -> int:
    """Elements of all tensors that autograd keeps for the backward pass."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.data_ptr()] = x.numel()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = function()
    assert result is not None
    return sum(kept.values())


@pytest.mark.parametrize("degree", [1, 2, 4])
def test_polynomial_derivatives(degree: int) -> None:
    assert gradcheck(Polynomial.apply, (real(2, 3, 4), real(degree, 4, seed=1)))


@pytest.mark.parametrize("n_harmonics", [1, 2, 3, 4])
def test_fourier_derivatives_off_and_on_the_circle(n_harmonics: int) -> None:
    cos, sin = real(2, 3, 4), real(2, 3, 4, seed=1)
    a, b = real(n_harmonics, 4, seed=2), real(n_harmonics, 4, seed=3)
    assert gradcheck(Fourier.apply, (cos, sin, a, b))
    angle = real(2, 3, 4)
    assert gradcheck(lambda x, a, b: Fourier.apply(x.cos(), x.sin(), a, b), (angle, a, b))


@pytest.mark.parametrize("scale", [1e-2, 1.0, 30.0])
def test_polar_coordinates_derivatives(scale: float) -> None:
    re, im = (scale * real(3, 4, seed=seed).detach() for seed in (0, 1))
    step = 1e-6 * scale
    inputs = (re.requires_grad_(), im.requires_grad_())
    assert gradcheck(lambda re, im: PolarCoordinates.apply(re, im, 1e-3), inputs, eps=step, atol=1e-5 / scale)


def test_polar_coordinates_at_zero_have_the_derivative_of_the_floor() -> None:
    re, im = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True).unbind()
    t, cos, sin = PolarCoordinates.apply(re, im, 1e-3)
    assert (t.item(), cos.item(), sin.item()) == (pytest.approx(-1 + 2e-6, abs=1e-11), 0.0, 0.0)
    assert torch.autograd.grad(cos, (re, im), retain_graph=True) == (torch.tensor([1000.0]), torch.tensor([0.0]))
    assert torch.autograd.grad(t, (re, im)) == (torch.tensor([0.0]), torch.tensor([0.0]))


def test_gain_rotate_derivatives() -> None:
    assert gradcheck(GainRotate.apply, tuple(real(2, 3, 4, seed=seed) for seed in range(4)))


@pytest.mark.parametrize("n_contexts", [1, 3])
def test_mix_derivatives_for_shared_and_own_contexts(n_contexts: int) -> None:
    v, a = [real(2, 3, 4, seed=seed) for seed in (0, 1)], [real(2, n_contexts, 4, seed=seed) for seed in (2, 3)]
    logits = [real(2, 3, 4, seed=seed) for seed in (4, 5)]
    assert gradcheck(lambda *inputs: Mix.apply(*inputs)[:2], (*v, *a, *logits))


def test_mix_gain_is_twice_the_sigmoid_and_carries_no_gradient() -> None:
    inputs = [real(1, 2, 3, seed=seed) for seed in range(6)]
    gain = Mix.apply(*inputs)[2]
    torch.testing.assert_close(gain, 2 * torch.sigmoid(inputs[4].detach()))
    assert not gain.requires_grad


def test_functions_leave_their_inputs_as_they_are() -> None:
    inputs = [real(2, 3, 4, seed=seed) for seed in range(6)]
    a, b = real(3, 4, seed=6), real(3, 4, seed=7)
    before = [x.clone() for x in (*inputs, a, b)]
    outputs = [
        Polynomial.apply(inputs[0], a),
        Fourier.apply(inputs[0], inputs[1], a, b),
        *PolarCoordinates.apply(inputs[0], inputs[1], 1e-3),
        *GainRotate.apply(*inputs[:4]),
        *Mix.apply(*inputs)[:2],
    ]
    sum(x.sum() for x in outputs).backward(retain_graph=True)
    first = [x.grad.clone() for x in inputs]
    for x in inputs:
        x.grad = None
    sum(x.sum() for x in outputs).backward()  # nothing that the first pass has saved was overwritten by it
    for x, gradient in zip(inputs, first, strict=True):
        assert torch.equal(x.grad, gradient)
    for x, old in zip((*inputs, a, b), before, strict=True):
        assert torch.equal(x, old)


def test_memory_kept_for_the_backward_pass_is_that_of_a_few_planes() -> None:
    plane = 5 * 7 * 4
    t, u = real(5, 7, 4), [real(5, 7, 4, seed=seed) for seed in (1, 2)]
    coefficients = [real(4, 4, seed=seed) for seed in (3, 4)]
    assert saved_elements(lambda: Polynomial.apply(t, coefficients[0])) == plane + 16
    assert saved_elements(lambda: Fourier.apply(*u, *coefficients)) == 2 * plane + 32
    assert saved_elements(lambda: PolarCoordinates.apply(*u, 1e-3)) == 3 * plane
    assert saved_elements(lambda: GainRotate.apply(*u, t, t)) == 4 * plane
    assert saved_elements(lambda: Mix.apply(*u, *u, t, t)) == 4 * plane


COMPILED = {
    "polynomial": lambda x: Polynomial.apply(x[0], x[1][0]),
    "linear polynomial": lambda x: Polynomial.apply(x[0], x[1][0, :1]),
    "fourier": lambda x: Fourier.apply(x[0], x[1], x[2][0], x[3][0]),
    "first harmonic": lambda x: Fourier.apply(x[0], x[1], x[2][0, :1], x[3][0, :1]),
    "polar coordinates": lambda x: PolarCoordinates.apply(x[0], x[1], 1e-3),
    "gain rotate": lambda x: GainRotate.apply(*x[:4]),
    "mix": lambda x: Mix.apply(*x)[:2],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_functions_have_the_same_gradients(name: str) -> None:
    # torch 2.11 loses the gradient of a Function whose output was changed in place, and says nothing
    function = COMPILED[name]
    torch._dynamo.reset()
    results = []
    for run in (function, torch.compile(function, fullgraph=True, backend="eager")):
        inputs = [real(2, 3, 4, seed=seed) for seed in range(6)]
        out = run(inputs)
        out = (out,) if isinstance(out, Tensor) else out
        total = sum((x * (i + 2)).sum() for i, x in enumerate(out))
        found = torch.autograd.grad(total, inputs, allow_unused=True)
        results.append([*out, *(x for x in found if x is not None)])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-12, atol=1e-12)
