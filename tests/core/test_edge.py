from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from cases import assert_same, gaussian, perturbed, planes_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cvkan.core.edge import PolarKANLinear
from cvkan.core.linear import ComplexLinear
from cvkan.tasks.base import parameter_groups

EPS = 1e-3
LOW, HIGH = -3.0, 2.0


def phi(layer: PolarKANLinear, i: int, j: int, z: Tensor) -> Tensor:
    """The edge function from its formula: abs, angle and powers of one complex number; 0 where pruned."""
    r = torch.sqrt(z.abs() ** 2 + EPS**2)
    u, s, h = z / r, torch.log(r), (HIGH - LOW) / (layer.n_knots - 1)
    value = torch.complex(layer.weight_re[j, i], layer.weight_im[j, i]) * z
    orders = [-1, *range(2, layer.n_harmonics + 1)] if layer.n_harmonics > 0 else []
    for k in range(layer.n_knots):
        c = torch.complex(layer.coefficients_re[j, k, i], layer.coefficients_im[j, k, i])
        value = value + c * u * torch.exp(-(((s - (LOW + k * h)) / h) ** 2))
    for m, order in enumerate(orders, start=layer.n_knots):
        e = torch.complex(layer.coefficients_re[j, m, i], layer.coefficients_im[j, m, i])
        value = value + e * (u.conj() if order == -1 else u**order)
    return value * layer.edge_mask[j, i]


def sum_over_edges(layer: PolarKANLinear, z: Tensor) -> Tensor:
    outputs = []
    for j in range(layer.d_out):
        total = sum(phi(layer, i, j, z[..., i]) for i in range(layer.d_in))
        if layer.bias is not None:
            total = total + torch.complex(layer.bias[j], layer.bias[layer.d_out + j])
        outputs.append(total)
    return torch.stack(outputs, dim=-1)


def make_layer(n_harmonics: int = 2, bias: bool = True, n_knots: int = 6, seed: int = 1) -> PolarKANLinear:
    """A float64 layer of 4 inputs and 3 outputs with nothing at zero."""
    torch.manual_seed(seed)
    return perturbed(PolarKANLinear(4, 3, n_knots=n_knots, n_harmonics=n_harmonics, bias=bias), seed)


@pytest.mark.parametrize("n_harmonics", [0, 1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_equals_the_sum_of_its_edge_functions(n_harmonics: int, bias: bool) -> None:
    layer = make_layer(n_harmonics, bias)
    assert_same(layer, lambda z: sum_over_edges(layer, z), gaussian(2, 5, 4, scale=1.5), layer)


@pytest.mark.parametrize("shape", [(4,), (7, 4), (2, 3, 5, 4)])
def test_any_leading_dimensions_are_kept(shape: tuple[int, ...]) -> None:
    layer = make_layer(n_knots=2)
    assert_same(layer, lambda z: sum_over_edges(layer, z), gaussian(*shape), layer)


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 1e2])
def test_layer_equals_the_sum_at_every_size_of_the_input(scale: float) -> None:
    layer = make_layer()
    z = gaussian(5, 4, scale=scale)
    torch.testing.assert_close(layer(z), sum_over_edges(layer, z), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_tensor_gives_the_complex_tensor_of_the_planes(dtype: torch.dtype) -> None:
    layer = make_layer().to(dtype.to_real())
    z = gaussian(2, 4).to(dtype)
    out = layer(z)
    assert out.dtype == dtype
    assert torch.equal(out, torch.complex(*layer(planes_of(z))))
    torch.testing.assert_close(out.to(torch.complex128), make_layer()(gaussian(2, 4)), rtol=2e-5, atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(angle=st.floats(-10, 10), seed=st.integers(0, 1000))
def test_without_phase_terms_and_bias_the_layer_commutes_with_rotations(angle: float, seed: int) -> None:
    layer = make_layer(n_harmonics=0, bias=False)
    z, turn = gaussian(3, 4, seed=seed, scale=2.0), torch.polar(*torch.tensor([1.0, angle], dtype=torch.float64))
    torch.testing.assert_close(layer(turn * z), turn * layer(z), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n_harmonics", [1, 2])
def test_phase_terms_break_the_rotation_symmetry(n_harmonics: int) -> None:
    layer, z = make_layer(n_harmonics, bias=False), gaussian(3, 4)
    assert (layer(1j * z) - 1j * layer(z)).abs().min() > 1e-2


def test_functions_are_linear_far_above_the_knots() -> None:
    layer, z = make_layer(n_harmonics=0, bias=False), 1e6 * torch.polar(*torch.tensor([[1.0], [0.4]]).double())
    z = z.expand(4)
    torch.testing.assert_close(layer(z), z @ torch.complex(layer.weight_re, layer.weight_im).T)


def test_values_and_gradients_at_zero_are_finite_and_bounded() -> None:
    layer = make_layer().float()
    z = torch.zeros(2, 4, dtype=torch.complex64, requires_grad=True)
    out = layer(z)
    torch.testing.assert_close(out, torch.complex(layer.bias[:3], layer.bias[3:]).expand(2, 3))
    out.abs().square().sum().backward()
    assert z.grad.isfinite().all()
    assert 0 < z.grad.abs().max() < 1e5  # the unit phase has the gradient 1/eps
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_start_keeps_the_mean_squared_magnitude_and_is_nearly_linear() -> None:
    torch.manual_seed(0)
    layer, z = PolarKANLinear(64, 128, gain=0.5), gaussian(200, 64).to(torch.complex64)
    out = layer(z)
    linear = z @ torch.complex(layer.weight_re, layer.weight_im).T
    assert out.abs().square().mean().item() == pytest.approx(0.25, rel=0.05)
    nonlinear = ((out - linear).abs().square().mean() / out.abs().square().mean()).item()
    assert 1e-3 < nonlinear < 1e-2  # of the power; 1 % is the bound of the docstring


def test_weight_decay_acts_on_the_linear_part_alone() -> None:
    layer = PolarKANLinear(3, 2)
    decay, rest = (group["params"] for group in parameter_groups(layer))
    assert {id(p) for p in decay} == {id(layer.weight_re), id(layer.weight_im)}
    assert {id(p) for p in rest} == {id(layer.coefficients_re), id(layer.coefficients_im), id(layer.bias)}


def test_autocast_computes_the_features_in_float32() -> None:
    torch.manual_seed(0)
    layer = PolarKANLinear(4, 3)
    z = (300 * gaussian(6, 4)).to(torch.complex64)  # |z|^2 exceeds the largest float16
    features = layer.features(tuple(plane.half() for plane in planes_of(z)))
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, layer.features(planes_of(z)), rtol=2e-3, atol=2e-3)
    with torch.autocast("cpu", torch.bfloat16):
        re, im = layer(planes_of(z))
    assert re.dtype == torch.bfloat16
    error = (torch.complex(re.float(), im.float()) - layer(z)).abs().max()
    assert error < 2e-2 * layer(z).abs().max()


def test_a_layer_in_half_precision_takes_planes_in_half_precision() -> None:
    torch.manual_seed(0)
    layer, z = PolarKANLinear(4, 3), gaussian(6, 4).to(torch.complex64)
    expected = layer(z)
    out = copy.deepcopy(layer).bfloat16()(tuple(plane.bfloat16() for plane in planes_of(z)))
    assert out[0].dtype == torch.bfloat16
    assert (torch.complex(*(plane.float() for plane in out)) - expected).abs().max() < 5e-2


@pytest.mark.filterwarnings("ignore")
def test_compiled_layer_has_the_values_and_gradients_of_the_eager_one() -> None:
    torch._dynamo.reset()
    layer = make_layer()
    layer.prune(0.4)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    for shape in ((2, 5, 4), (3, 7, 4)):
        results = []
        for function in (layer, compiled):
            planes = tuple(plane.requires_grad_() for plane in planes_of(gaussian(*shape)))
            re, im = function(planes)
            leaves = [*planes, *layer.parameters()]
            results.append([re, im, *torch.autograd.grad((re * im + re).sum(), leaves)])
        for eager, other in zip(*results, strict=True):
            torch.testing.assert_close(other, eager, rtol=1e-10, atol=1e-10)


def test_edge_function_and_coefficients_are_those_of_the_formula() -> None:
    layer = make_layer(n_harmonics=3)
    s, theta = torch.linspace(-4, 3, 8).double()[:, None], torch.linspace(-3, 3, 5).double()
    for i, j in ((0, 2), (3, 0)):
        expected = phi(layer, i, j, torch.polar(s.exp().expand(8, 5), theta.expand(8, 5)))
        torch.testing.assert_close(layer.edge_function(i, j, s, theta), expected, rtol=1e-10, atol=1e-10)
    found = layer.edge_coefficients(3, 0)
    assert list(found) == ["W", *(f"C_{k}" for k in range(1, 7)), "E_-1", "E_2", "E_3"]
    assert found["W"] == torch.complex(layer.weight_re[0, 3], layer.weight_im[0, 3]).item()
    assert found["C_2"] == torch.complex(layer.coefficients_re[0, 1, 3], layer.coefficients_im[0, 1, 3]).item()
    assert found["E_3"] == torch.complex(layer.coefficients_re[0, 8, 3], layer.coefficients_im[0, 8, 3]).item()


def brute_force_scores(layer: PolarKANLinear, z: Tensor) -> Tensor:
    """RMS of every edge function over the samples z (M, d_in), edge by edge."""
    rows = [[phi(layer, i, j, z[:, i]).abs().square().mean().sqrt() for i in range(4)] for j in range(3)]
    return torch.stack([torch.stack(row) for row in rows]).detach()


@pytest.mark.parametrize("n_harmonics", [0, 2])
def test_scores_over_samples_are_the_rms_of_the_edge_functions(
    n_harmonics: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, z = make_layer(n_harmonics), gaussian(5, 20, 4, scale=2.0)
    expected = brute_force_scores(layer, z.reshape(-1, 4))
    torch.testing.assert_close(layer.edge_scores(z).detach(), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(layer.edge_scores(planes_of(z)).detach(), expected, rtol=1e-10, atol=1e-12)
    monkeypatch.setattr("cvkan.core.edge.BLOCK", 300)  # several blocks, the last one not full
    torch.testing.assert_close(layer.edge_scores(z), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n_harmonics", [0, 1, 3])
def test_reference_scores_are_the_rms_over_uniform_log_magnitude_and_phase(n_harmonics: int) -> None:
    layer = make_layer(n_harmonics)
    s = LOW + (HIGH - LOW) * (torch.arange(4000).double() + 0.5) / 4000
    theta = torch.arange(16).double()[:, None] * (2 * math.pi / 16)
    grid = torch.polar(s.exp().expand(16, -1), theta.expand(-1, 4000)).reshape(-1, 1).expand(-1, 4)
    torch.testing.assert_close(layer.edge_scores(), brute_force_scores(layer, grid), rtol=1e-5, atol=0)


def test_scores_in_float32_keep_small_differences_of_large_terms() -> None:
    layer = PolarKANLinear(1, 1, n_knots=60, n_harmonics=0)  # bases so wide that their sum is constant
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.coefficients_re += 1e3 * torch.tensor([1.0, -1.0]).repeat(30)[None, :, None]
    z = torch.polar(torch.linspace(0.5, 2.0, 50), torch.zeros(50))[:, None]
    exact = copy.deepcopy(layer).double()
    expected = phi(exact, 0, 0, z[:, 0].to(torch.complex128)).abs().square().mean().sqrt().item()
    assert layer.edge_scores(z).item() == pytest.approx(expected, rel=1e-3)


def test_important_edges_are_sorted_with_shares_of_the_output_power() -> None:
    layer, z = make_layer(), gaussian(50, 4)
    layer.edge_mask[1, 2] = False
    scores = brute_force_scores(layer, z)
    found = layer.important_edges(z, top=100)
    assert len(found) == layer.n_edges == 11
    assert [edge.score for edge in found] == sorted((edge.score for edge in found), reverse=True)
    for i, j, score, share in found:
        assert score == pytest.approx(scores[j, i].item())
        assert share == pytest.approx((scores[j, i] ** 2 / scores[j].square().sum()).item())
    assert layer.important_edges(z, top=2) == found[:2]
    assert not {(2, 1)} & {(edge.i, edge.j) for edge in found}


def test_pruning_leaves_the_sum_of_the_other_edges_and_no_gradient() -> None:
    layer, z = make_layer(), gaussian(2, 5, 4)
    scores = brute_force_scores(layer, z.reshape(-1, 4))
    expected = scores >= 0.5 * scores.max()
    assert 0 < expected.sum() < 12
    assert layer.prune(0.5, z) == layer.n_edges == expected.sum()
    assert torch.equal(layer.edge_mask, expected)
    terms = torch.complex(layer.bias[:3], layer.bias[3:]).detach().expand(2, 5, 3).clone()
    unpruned = make_layer()
    for j, i in expected.nonzero().tolist():
        terms[..., j] += phi(unpruned, i, j, z[..., i]).detach()
    torch.testing.assert_close(layer(z), terms, rtol=1e-10, atol=1e-10)
    layer(z).abs().square().sum().backward()
    for parameter in (layer.weight_re, layer.weight_im):
        assert (parameter.grad[~expected] == 0).all()
        assert (parameter.grad[expected] != 0).all()
    for parameter in (layer.coefficients_re, layer.coefficients_im):
        assert (parameter.grad.transpose(1, 2)[~expected] == 0).all()
        assert (parameter.grad.transpose(1, 2)[expected] != 0).all()


def test_an_output_without_edges_is_exactly_its_bias_and_a_pruned_edge_is_exactly_zero() -> None:
    layer = make_layer()
    layer.edge_mask[1] = False
    out = layer(gaussian(5, 4))
    assert torch.equal(out[:, 1], torch.complex(layer.bias[1], layer.bias[4]).expand(5))
    assert (layer.edge_function(2, 1, torch.linspace(-3, 2, 5), torch.ones(())) == 0).all()
    assert set(layer.edge_coefficients(2, 1).values()) == {0j}
    assert torch.equal(layer.edge_scores()[1], torch.zeros(4, dtype=torch.float64))


def test_pruning_again_only_removes() -> None:
    layer, z = make_layer(), gaussian(50, 4)
    assert layer.prune(0.0, z) == 12
    masks = [layer.edge_mask.clone()]
    for threshold in (0.3, 0.7, 0.1, 1.0):
        layer.prune(threshold, z)
        masks.append(layer.edge_mask.clone())
        assert (masks[-1] <= masks[-2]).all()
    assert torch.equal(masks[3], masks[2])  # a lower threshold brings nothing back
    assert layer.n_edges == 1
    assert layer.edge_scores(z).max() == layer.edge_scores(z)[layer.edge_mask]
    layer.edge_mask.fill_(False)
    assert layer.prune(0.5, z) == 0


def test_state_dict_carries_the_mask() -> None:
    layer, z = make_layer(), gaussian(5, 4)
    layer.prune(0.5)
    assert 0 < layer.n_edges < 12
    other = make_layer(seed=7)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.edge_mask, layer.edge_mask)
    assert torch.equal(other(z), layer(z))


def test_scores_are_differentiable_also_for_pruned_and_zero_edges() -> None:
    layer, z = make_layer(), gaussian(30, 4)
    layer.edge_mask[0, 0] = False
    with torch.no_grad():
        for parameter in (layer.weight_re, layer.weight_im):
            parameter[1, 1] = 0
        for parameter in (layer.coefficients_re, layer.coefficients_im):
            parameter[1, :, 1] = 0
    layer.edge_scores(z).mean().backward()
    step = 1e-6
    before = layer.edge_scores(z).mean().item()
    with torch.no_grad():
        layer.coefficients_im[2, 3, 1] += step
    slope = (layer.edge_scores(z).mean().item() - before) / step
    assert layer.coefficients_im.grad[2, 3, 1].item() == pytest.approx(slope, rel=1e-4)
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)
    assert layer.weight_re.grad[0, 0] == 0


TARGETS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "z |z|": (lambda z: z * z.abs(), 0.01),
    "soft threshold, turned": (lambda z: 1j * z / z.abs() * (z.abs() - 1).clamp(min=0), 0.02),
    "phase by log magnitude": (lambda z: z * torch.polar(torch.ones_like(z.real), torch.log(z.abs())), 0.02),
    "conj of the phase": (lambda z: z.conj() / z.abs(), 1e-3),
    # conj(z) = r conj(u) has no feature of its own: the phase term fits the mean of r alone
    "conj z": (lambda z: z.conj(), 0.25),
    "u^2": (lambda z: (z / z.abs()) ** 2, 1e-3),
}


@pytest.mark.parametrize("name", TARGETS)
def test_training_recovers_univariate_functions_that_a_linear_layer_cannot(name: str) -> None:
    target, tolerance = TARGETS[name]
    z = gaussian(400, 1).to(torch.complex64)
    y = target(z)
    errors = {}
    for constructor in (ComplexLinear, PolarKANLinear):
        torch.manual_seed(0)
        layer = constructor(1, 1)
        optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn="strong_wolfe")

        def closure(layer: torch.nn.Module = layer, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = (layer(z) - y).abs().square().mean() / y.abs().square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        errors[constructor] = closure().item()
    assert errors[PolarKANLinear] < tolerance
    assert errors[PolarKANLinear] < 0.25 * errors[ComplexLinear]


def texts(figure: object) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_plot_shows_the_asked_edges_with_their_values() -> None:
    layer = make_layer()
    figure = layer.plot(edges=[(3, 1), (0, 2)])
    assert len(figure.subfigs) == 3
    row = figure.subfigs[1]
    magnitude, phase = row.axes[:2]
    s = torch.linspace(LOW - 0.5, HIGH + 0.5, 481).double()
    (curve,) = [line for line in magnitude.lines if line.get_linestyle() == "-"]
    expected = phi(layer, 3, 1, torch.polar(s.exp(), torch.zeros_like(s))).abs().detach()
    torch.testing.assert_close(torch.as_tensor(curve.get_ydata()), expected, rtol=1e-4, atol=1e-4)
    theta = torch.linspace(-math.pi, math.pi, 481).double()
    on_circle = torch.polar(torch.ones_like(theta), theta)
    expected = phi(layer, 3, 1, on_circle).detach()
    torch.testing.assert_close(torch.as_tensor(phase.lines[0].get_ydata()), expected.abs(), rtol=1e-4, atol=1e-4)
    turn = torch.deg2rad(torch.as_tensor(row.axes[-1].lines[0].get_ydata()))
    wanted = expected * on_circle.conj() / expected.abs()
    torch.testing.assert_close(torch.polar(torch.ones_like(turn), turn), wanted, rtol=1e-3, atol=1e-3)
    value = layer.edge_coefficients(3, 1)["W"]
    assert f"{abs(value):7.3f} {round(math.degrees(math.atan2(value.imag, value.real))):5d}°" in texts(row)
    assert f"score {layer.edge_scores()[1, 3].item():.3g}" in texts(row)


def test_plot_shows_the_most_important_edges_of_the_samples_and_their_range() -> None:
    layer, z = make_layer(), gaussian(200, 4, scale=0.1)
    figure = layer.plot(z=z, top=2)
    for row, edge in zip(figure.subfigs[1:], layer.important_edges(z, top=2), strict=True):
        assert f"z_{{{edge.i}}} \\to y_{{{edge.j}}}" in texts(row)
        (span,) = row.axes[0].patches
        s = torch.log(z[:, edge.i].abs().square() + EPS**2) / 2
        low, high = torch.quantile(s, torch.tensor([0.05, 0.95], dtype=s.dtype)).tolist()
        assert span.get_x() == pytest.approx(low, abs=0.05)
        assert span.get_x() + span.get_width() == pytest.approx(high, abs=0.05)


def test_plot_draws_pruned_edges_to_a_file(tmp_path: object) -> None:
    layer = PolarKANLinear(2, 2, n_harmonics=0)
    layer.edge_mask[0] = False
    figure = layer.plot(edges=[(0, 0), (1, 1)])
    figure.savefig(tmp_path / "edges.png", dpi=40)
    assert "(pruned)" in texts(figure.subfigs[1])
    assert "(pruned)" not in texts(figure.subfigs[2])
    assert (tmp_path / "edges.png").stat().st_size > 5000


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "sizes": (lambda: PolarKANLinear(0, 2), "d_in and d_out must be at least 1, got 0 and 2"),
    "knots": (lambda: PolarKANLinear(2, 2, n_knots=1), "at least 2 knots"),
    "range": (lambda: PolarKANLinear(2, 2, low=1.0, high=1.0), "low < high"),
    "harmonics": (lambda: PolarKANLinear(2, 2, n_harmonics=-1), "n_harmonics must be at least 0"),
    "channels": (lambda: PolarKANLinear(2, 2)(gaussian(5, 3)), r"expected 2 complex channels .* got \(5, 3\)"),
    "real": (lambda: PolarKANLinear(2, 2)(torch.ones(5, 2)), "expected a complex tensor"),
    "threshold": (lambda: PolarKANLinear(2, 2).prune(1.5), r"threshold must lie in \[0, 1\]"),
    "negative": (lambda: PolarKANLinear(2, 2).prune(-0.1), r"got -0\.1"),
    "nan threshold": (lambda: PolarKANLinear(2, 2).prune(math.nan), "got nan"),
    "nan samples": (lambda: PolarKANLinear(2, 2).prune(0.5, math.nan * gaussian(5, 2)), "scores are not finite"),
    "no samples": (lambda: PolarKANLinear(2, 2).edge_scores(gaussian(0, 2)), "at least one sample"),
    "score channels": (lambda: PolarKANLinear(2, 2).edge_scores(gaussian(5, 3)), "expected 2 complex channels"),
    "input": (lambda: PolarKANLinear(2, 3).edge_coefficients(2, 0), "no edge from input 2 to output 0"),
    "output": (lambda: PolarKANLinear(2, 3).edge_function(0, -1, *torch.ones(2, 1)), "2 inputs, 3 outputs"),
    "plot": (lambda: PolarKANLinear(2, 3).plot(edges=[(0, 3)]), "no edge from input 0 to output 3"),
    "empty plot": (lambda: PolarKANLinear(2, 3).plot(edges=[]), "no edge to plot"),
    "top": (lambda: PolarKANLinear(2, 2).important_edges(top=0), "top must be at least 1, got 0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_refused_in_one_line(name: str) -> None:
    mistake, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message) as caught:
        mistake()
    assert "\n" not in str(caught.value)
