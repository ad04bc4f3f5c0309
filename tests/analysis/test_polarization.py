"""Measures of polarization against their definitions, and what the layers of a network did to its tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hydra import compose, initialize_config_module
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cvkan import build
from cvkan.analysis.polarization import (
    FIGURES,
    Polarization,
    Traceable,
    coherence,
    entropy,
    gini,
    polarization,
    token_magnitude,
    token_spread,
    topk_recovery,
)
from cvkan.cli import resolvers
from cvkan.core.backbone import LayerTrace

N = 12


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def planes_of(z: Tensor) -> tuple[Tensor, Tensor]:
    return z.real.clone(), z.imag.clone()


def lengths_mask(*lengths: int, n_tokens: int = N) -> Tensor:
    return torch.arange(n_tokens) < torch.tensor(lengths)[:, None]


# --- measures -------------------------------------------------------------------------------------------------------


def test_token_magnitude_is_the_mean_over_channels() -> None:
    z = gaussian(2, 5, 3)
    torch.testing.assert_close(token_magnitude(planes_of(z)), z.abs().mean(-1), rtol=1e-4, atol=1e-5)


def test_topk_recovery_counts_wanted_tokens_among_the_k_highest() -> None:
    scores = torch.tensor([[0.9, 0.1, 0.8, 0.3], [0.1, 0.2, 0.3, 0.4], [4.0, 3.0, 2.0, 1.0]])
    wanted = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]])
    assert topk_recovery(scores, wanted).tolist() == [0.5, 1.0, 0.0]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_equal_tokens_have_no_inequality(scale: float) -> None:
    x = torch.full((1, N), scale)
    assert gini(x).item() == pytest.approx(0.0, abs=1e-6)
    assert entropy(x).item() == pytest.approx(1.0, abs=1e-6)
    assert token_spread(x).item() == pytest.approx(0.0, abs=1e-6 * scale)


@pytest.mark.parametrize("n", [2, 5, 100])
def test_one_token_with_everything_is_most_unequal(n: int) -> None:
    x = torch.eye(n)[:1] * 3.0
    assert gini(x).item() == pytest.approx((n - 1) / n)
    assert entropy(x).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("n", [2, 5])
def test_entropy_of_a_part_of_equal_tokens_is_the_log_of_their_number(n: int) -> None:
    x = (torch.arange(10) < n).double()
    assert entropy(x).item() == pytest.approx(math.log(n) / math.log(10))
    assert gini(x).item() == pytest.approx(1 - n / 10)


@pytest.mark.parametrize("x", [torch.zeros(1, N), torch.ones(1, N)])
def test_nothing_is_unequal_without_magnitude_or_with_one_token(x: Tensor) -> None:
    mask = lengths_mask(1) if x.any() else None
    for figures in (gini(x, mask), 1 - entropy(x, mask), token_spread(x, mask)):
        assert figures.tolist() == [0.0]
    none = torch.zeros(1, N, dtype=torch.bool)
    assert gini(x, none).tolist() == [0.0]
    assert entropy(x, none).tolist() == [1.0]
    assert token_spread(x, none).tolist() == [0.0]
    assert coherence(x[..., None] * (1 + 1j), none).tolist() == [0.0]


values = st.lists(st.floats(0.0, 100.0), min_size=2, max_size=N).filter(lambda found: sum(found) > 1e-3)


@settings(max_examples=60, deadline=None)
@given(found=values, scale=st.floats(1e-2, 1e2), seed=st.integers(0, 99))
def test_inequality_is_what_its_definition_says_whatever_scale_and_order(
    found: list[float], scale: float, seed: int
) -> None:
    n, total = len(found), sum(found)
    pairs = sum(abs(a - b) for a in found for b in found)
    shares = [a / total for a in found if a / total > 0]
    expected = [pairs / (2 * n * total), -sum(p * math.log(p) for p in shares) / math.log(n)]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for x in (torch.tensor(found, dtype=torch.float64), scale * torch.tensor(found, dtype=torch.float64)[order]):
        assert [gini(x).item(), entropy(x).item()] == pytest.approx(expected, abs=1e-12)
        assert token_spread(x).item() == pytest.approx(x.numpy().std(), rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    n_valid=st.integers(1, N),
    seed=st.integers(0, 999),
    poison=st.sampled_from([math.nan, math.inf, -1e30, 0.0, 7.0]),
)
def test_padded_tokens_change_nothing(n_valid: int, seed: int, poison: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.randperm(N, generator=generator)[None] < n_valid
    x = torch.rand(1, N, dtype=torch.float64, generator=generator)
    z = gaussian(1, N, 3, seed=seed)
    for figure in (gini, entropy, token_spread):
        expected = figure(x[mask][None])
        torch.testing.assert_close(figure(x.masked_fill(~mask, poison), mask), expected)
    dirty = tuple(plane.masked_fill(~mask[..., None], poison) for plane in planes_of(z))
    torch.testing.assert_close(coherence(dirty, mask), coherence(z[mask][None]))


def test_coherence_is_the_mean_resultant_length_of_each_channel() -> None:
    z = gaussian(3, N, 4)
    expected = torch.tensor([[abs((row / row.abs()).sum().item()) / N for row in sample.T] for sample in z]).mean(1)
    torch.testing.assert_close(coherence(planes_of(z)), expected.double(), rtol=1e-4, atol=1e-4)
    other_magnitudes = z / z.abs() * (1 + gaussian(3, N, 4, seed=1).abs())
    torch.testing.assert_close(coherence(other_magnitudes), coherence(z), rtol=1e-4, atol=1e-4)


def test_coherence_is_one_in_phase_zero_in_balance_and_small_at_random() -> None:
    phases = 2 * math.pi * torch.rand(4, 1, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    in_phase = torch.polar(torch.full((4, N, 5), 2.0, dtype=torch.float64), phases.expand(4, N, 5))
    torch.testing.assert_close(coherence(in_phase), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-5)
    turns = 2 * math.pi * torch.arange(N, dtype=torch.float64) / N
    balanced = torch.polar(torch.ones(N, dtype=torch.float64), turns)[:, None]
    assert coherence(balanced).item() == pytest.approx(0.0, abs=1e-12)
    n = 400
    at_random = torch.polar(
        torch.ones(()), 2 * math.pi * torch.rand(50, n, 8, generator=torch.Generator().manual_seed(1))
    )
    assert coherence(at_random).mean().item() == pytest.approx(math.sqrt(math.pi / 4 / n), rel=0.1)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_in_float32(half: torch.dtype) -> None:
    z = gaussian(2, N, 3).to(torch.complex64)
    planes = tuple(plane.to(half) for plane in planes_of(z))
    wide = torch.complex(planes[0].float(), planes[1].float())
    assert torch.equal(coherence(planes), coherence(wide))
    x = z.abs()[..., 0].to(half)
    assert torch.equal(gini(x), gini(x.float()))
    assert torch.equal(entropy(x), entropy(x.float()))


# --- networks -------------------------------------------------------------------------------------------------------


class Doubling(nn.Module):
    """Two layers that give every second token the gain 1.5 and the others 0.5; an embedding that drops zeros."""

    grid = (N,)

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm1d(1).eval()

    def trace(self, x: Tensor, mask: Tensor | None = None) -> list[LayerTrace]:
        z, layers = planes_of(x), []
        for _ in range(2):
            gain = (0.5 + torch.arange(N) % 2)[None, :, None].expand(x.shape)
            assert not torch.is_grad_enabled()
            z = (self.dropout(gain * z[0]), gain * z[1])
            layers.append(LayerTrace(z, gain))
        return layers


class DoublingTokens(Doubling):
    def tokens(self, x: Tensor, mask: Tensor | None = None) -> tuple[tuple[Tensor, Tensor], Tensor]:
        return planes_of(x), x.abs().sum(dim=-1) > 0


class Around(nn.Module):
    """What a task is to polarization(): something with a ``model``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def unit_tokens(n_samples: int = 3) -> Tensor:
    z = gaussian(n_samples, N, 4).to(torch.complex64)
    return z / z.abs()


@pytest.mark.parametrize("wrap", [lambda model: model, Around])
@pytest.mark.parametrize("as_dict", [True, False])
def test_polarization_of_known_gains(wrap: Callable[[nn.Module], nn.Module], as_dict: bool) -> None:
    x = unit_tokens()
    found = polarization(wrap(Doubling()), {"x": x, "y": torch.zeros(3)} if as_dict else x)
    gain = 0.5 + torch.arange(N) % 2
    assert found.entry is None
    assert found.grid == (N,)
    assert found.mask.all()
    assert torch.equal(found.x, x)
    torch.testing.assert_close(found.gain, gain.expand(3, 2, N))
    torch.testing.assert_close(found.magnitude[:, 0], gain.expand(3, N), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.magnitude[:, 1], (gain**2).expand(3, N), rtol=1e-4, atol=1e-4)
    # Half the tokens with share 3/4, then 9/10.
    torch.testing.assert_close(found.gini, torch.tensor([0.25, 0.4]).expand(3, 2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.coherence[:, 1], coherence(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.gain_spread, torch.full((3, 2), 0.5))


def test_summary_has_one_row_of_means_a_layer() -> None:
    found = polarization(Doubling(), unit_tokens())
    rows = found.summary()
    assert [row["layer"] for row in rows] == [1, 2]
    for name in FIGURES:
        assert [row[name] for row in rows] == pytest.approx(getattr(found, name).mean(dim=0).tolist())


def test_mask_of_the_embedding_counts_and_padding_is_blank() -> None:
    x = unit_tokens(2) * lengths_mask(N, 4)[..., None]
    found = polarization(DoublingTokens(), x)
    assert found.mask.sum(dim=1).tolist() == [N, 4]
    assert not found.gain[1, :, 4:].any()
    assert not found.magnitude[1, :, 4:].any()
    torch.testing.assert_close(found.gini[1], found.gini[0], rtol=1e-4, atol=1e-4)  # also half of the tokens each
    torch.testing.assert_close(found.gain_spread[1], torch.full((2,), 0.5))
    assert found.entry is not None
    torch.testing.assert_close(found.entry.gini, torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.entry.coherence[1], coherence(x[1, :4]), rtol=1e-4, atol=1e-4)


def test_mask_of_the_batch_counts_where_the_network_makes_none() -> None:
    x, mask = unit_tokens(2), lengths_mask(N, 4)
    found = polarization(Doubling(), {"x": x.masked_fill(~mask[..., None], complex(math.nan, 0)), "mask": mask})
    assert torch.equal(found.mask, mask)
    torch.testing.assert_close(found.gini[1], found.gini[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.coherence[1, 1], coherence(x[1, :4]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", [True, False])
def test_every_module_keeps_its_mode_and_no_number_is_drawn(training: bool) -> None:
    model = Doubling()
    model.train(training)
    model.frozen.eval()
    before = torch.random.get_rng_state()
    first, again = polarization(model, unit_tokens()), polarization(model, unit_tokens())
    assert torch.equal(first.magnitude, again.magnitude)
    assert [module.training for module in model.modules()] == [training, training, False]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_models_and_masks_that_do_not_fit_are_refused_in_one_line() -> None:
    for model in (nn.Linear(2, 2), Around(nn.Linear(2, 2))):
        with pytest.raises(ValueError, match=rf"got {type(model).__name__} without layers[^\n]*; pass a CVKAN[^\n]*$"):
            polarization(model, unit_tokens())
    with pytest.raises(ValueError, match=r"mask has shape \(3, 5\), the tokens of the model \(3, 12\); [^\n]*$"):
        polarization(Doubling(), {"x": unit_tokens(), "mask": torch.ones(3, 5)})


@pytest.fixture(scope="module")
def network() -> nn.Module:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        cfg = compose("train", ["domain=synthetic", "model.n_layers=3"])
    torch.manual_seed(0)
    return build.build_model(cfg, build.build_data(cfg).spec).eval()


def test_polarization_of_cvkan_is_that_of_its_tokens_and_layers(network: nn.Module) -> None:
    assert isinstance(network, Traceable)
    x = gaussian(3, 64, 16).to(torch.complex64)
    mask = lengths_mask(64, 20, 1, n_tokens=64)
    found = polarization(network, {"x": x, "mask": mask})
    with torch.no_grad():
        layers = network.trace(x, mask)
    assert found.gain.shape == found.magnitude.shape == (3, 3, 64)
    for index, layer in enumerate(layers):
        torch.testing.assert_close(found.gain[:, index], layer.gain.mean(dim=-1) * mask)
        torch.testing.assert_close(found.gini[:, index], gini(token_magnitude(layer.z), mask))
        torch.testing.assert_close(found.entropy[:, index], entropy(token_magnitude(layer.z), mask))
        torch.testing.assert_close(found.coherence[:, index], coherence(layer.z, mask))
    assert found.entry is not None
    torch.testing.assert_close(found.entry.magnitude, token_magnitude(planes_of(x)) * mask)


# --- pictures -------------------------------------------------------------------------------------------------------


def a_polarization(x: Tensor, grid: tuple[int, ...], n_layers: int = 2, mask: Tensor | None = None) -> Polarization:
    n_samples, n_tokens = len(x), math.prod(grid)
    gain = torch.rand(n_samples, n_layers, n_tokens, generator=torch.Generator().manual_seed(0)) * 2
    mask = torch.ones(n_samples, n_tokens, dtype=torch.bool) if mask is None else mask
    return Polarization(
        x, grid, mask, gain, gain, gini(gain, mask[:, None]), entropy(gain, mask[:, None]), gain[..., 0], None
    )


def shown(axis: object) -> Tensor:
    (image,) = axis.images  # type: ignore[attr-defined]
    return torch.as_tensor(image.get_array())


def test_maps_of_an_image_cover_it_and_outline_it() -> None:
    x = torch.zeros(2, 1, 8, 12)
    x[:, :, 2:6, 3:9] = 1.0
    found = a_polarization(x, (4, 6))
    figure = found.plot(titles=["a", "b"])
    maps = [axis for axis in figure.axes if axis.get_title().startswith("layer")]
    assert [axis.get_title() for axis in maps] == ["layer 1", "layer 2"]
    for axis in maps:
        assert axis.images[0].get_extent() == [-0.5, 11.5, 7.5, -0.5]  # all pixels
        (outline,) = axis.collections
        (path,) = outline.get_paths()
        assert path.get_extents().extents == pytest.approx([2.5, 1.5, 8.5, 5.5], abs=0.1)  # the bright rectangle
    brighter_red = shown(maps[0])[..., 0] > shown(maps[0])[..., 2]
    relative = found.gain[0, 0].reshape(4, 6) / found.gain[0, 0].mean()
    assert torch.equal(brighter_red, relative > 1)


def test_time_of_a_waveform_is_in_seconds_and_padding_is_grey() -> None:
    mask = lengths_mask(10, 4, n_tokens=10)
    figure = a_polarization(torch.randn(2, 800), (10,), 3, mask).plot(sample_rate_hz=400)
    strips = [axis for axis in figure.axes if axis.images]
    assert [axis.get_xlim() for axis in strips] == [(0.0, 2.0)] * 2
    assert strips[0].get_xlabel() == "time / s"
    grey = (shown(strips[1])[..., :3] == 0.8).all(dim=-1)
    assert torch.equal(grey, ~mask[1].expand(3, -1))


def test_wanted_tokens_are_marked_above_them() -> None:
    from cvkan import plots

    wanted = torch.zeros(1, N)
    wanted[0, [2, 7]] = 1
    figure = plots.polarization(a_polarization(unit_tokens(1), (N,)), wanted=wanted)
    (marks,) = [line for axis in figure.axes for line in axis.lines if line.get_marker() == "v"]
    assert list(marks.get_xdata()) == [2.0, 7.0]


@pytest.mark.parametrize(
    ("x", "grid"),
    [
        (torch.arange(15).reshape(3, 5), (5,)),  # token ids
        (torch.randn(1, 96, 7), (12,)),  # several channels
        (torch.randn(5, 3, 4, 4), (16,)),  # an image as a sequence
        (torch.zeros(2, 3, 4, 4), (2, 2)),  # nothing to outline
        (torch.randn(2, 64), (4, 4)),  # tokens of a waveform in rows and columns
    ],
)
@pytest.mark.filterwarnings("error")
def test_other_inputs_are_drawn_too(x: Tensor, grid: tuple[int, ...], tmp_path) -> None:
    figure = a_polarization(x, grid).plot(n_samples=3)
    figure.savefig(tmp_path / "drawn.png", dpi=20)  # without a warning, too
    assert any(axis.images or axis.lines for axis in figure.axes)


def test_layers_are_drawn_as_mean_over_samples_from_the_entering_tokens_on() -> None:
    found = polarization(DoublingTokens(), unit_tokens())
    panels = {axis.get_title(): axis.lines[0] for axis in found.plot_layers().axes}
    drawn, spread = panels["Gini of magnitudes"], panels["spread of token gains"]
    assert list(drawn.get_xdata()) == [0, 1, 2]
    assert list(drawn.get_ydata()) == pytest.approx([0.0, 0.25, 0.4], abs=1e-3)
    assert list(spread.get_xdata()) == [1, 2]
    assert list(spread.get_ydata()) == pytest.approx([0.5, 0.5])
