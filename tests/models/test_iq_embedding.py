from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from torch import Tensor
from torch.nn import functional as F

from cvkan.models.constellation import ConstellationEmbedding
from cvkan.models.embedding import ConvStem
from cvkan.models.iq import IQEmbedding, SymbolDictionary, filter_bank, lagged_product, phase_powers, root_raised_cosine
from cvkan.models.synchronisation import in_phase, on_time, upright
from cvkan.radio.constellations import constellation
from cvkan.radio.images import Histogram
from cvkan.spec import Spec

SPS = 8
IQ = Spec((160,), "classes", 5, is_complex=True)


def build(spec: Spec = IQ, d_complex: int = 6, **options: object) -> IQEmbedding:
    torch.manual_seed(0)
    choices = {
        **{"n_taps": 64, "hop": SPS, "n_bands": 8, "lags": [1], "powers": [2, 4], "n_radii": 6, "reach": 2.0},
        **{"estimate_timing": False, "estimate_phase": False, **options},
    }
    return IQEmbedding(spec, d_complex, **choices)


def tokens(embedding: IQEmbedding, x: Tensor, mask: Tensor | None = None) -> Tensor:
    return torch.stack(embedding.eval()(x, mask)[0])


def frames(name: str = "16QAM", n_symbols: int = 20, n: int = 3, delay: float = 0.0, seed: int = 0) -> Tensor:
    """Frames (n, 8 n_symbols) of root-raised-cosine pulses, symbol k at sample 8 (k + delay), without noise."""
    generator = torch.Generator().manual_seed(seed)
    points = constellation(name)
    symbols = points[torch.randint(len(points), (n, n_symbols + 32), generator=generator)]
    t = torch.arange(SPS * n_symbols, dtype=torch.float64) / SPS - delay
    pulses = root_raised_cosine(t - torch.arange(-16, n_symbols + 16).unsqueeze(1))  # (n_symbols + 32, T)
    return (symbols @ pulses.to(symbols.dtype)).to(torch.complex64)


def planes(x: Tensor) -> Tensor:
    return torch.stack([x.real, x.imag], dim=1)


# --- filters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, -1.0, 2.5])
def test_pulse_is_the_transform_of_the_root_of_a_raised_cosine(t: float) -> None:
    def root_spectrum(f: float) -> float:
        edge = (abs(f) - 0.375) / 0.25  # roll-off 0.25: flat to (1 - 0.25)/2, 0 from (1 + 0.25)/2
        return math.cos(math.pi / 2 * min(max(edge, 0.0), 1.0))

    expected, _ = quad(lambda f: 2 * root_spectrum(f) * math.cos(2 * math.pi * f * t), 0, 0.625, points=[0.375])
    assert root_raised_cosine(torch.tensor([t], dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-5)


def test_bank_has_the_signal_twice_and_the_other_bands_at_their_frequencies() -> None:
    taps = filter_bank(64, SPS, 8)
    assert taps.shape == (9, 64)
    torch.testing.assert_close(taps.abs().square().sum(1), torch.ones(9, dtype=torch.float64))
    power = np.abs(np.fft.fft(taps.numpy().conj(), 1024)) ** 2  # what passes at each frequency
    centre = np.angle(power @ np.exp(2j * np.pi * np.arange(1024) / 1024)) / (2 * np.pi)  # of its circle
    np.testing.assert_allclose((centre - np.array([0, 0, *range(1, 8)]) / 8 + 0.5) % 1, 0.5, atol=1e-3)
    bandwidth = (power > 0.5 * power.max(axis=1, keepdims=True)).mean(axis=1)
    np.testing.assert_allclose(bandwidth, 1 / SPS, rtol=0.2)


def test_bands_without_signal_hear_little_of_it() -> None:
    power = np.abs(np.fft.fft(filter_bank(64, SPS, 8).numpy().conj(), 1024)) ** 2
    signal = np.abs(np.fft.fftfreq(1024)) < 1.4 / 2 / SPS  # roll-off 0.4
    heard = power[:, signal].mean(axis=1) / power[0].max()
    assert heard[[0, 1]].min() > 0.5
    assert heard[4:7].max() < 1e-5  # -50 dB: the noise of a frame of 30 dB a sample is 1e-3


def test_filters_give_the_symbols_that_were_sent() -> None:
    """Start: token n holds symbol n, up to the ends of the pulse that 64 taps cut off."""
    embedding, x = build(), frames("QPSK", seed=1)
    windows = F.pad(planes(x), (32, 31)).unfold(2, 64, SPS)
    re, im = embedding.filters(windows.unbind(1))
    s = torch.complex(re[..., 0], im[..., 0])[:, 4:-4]
    s = s / s.abs().square().mean().sqrt()
    assert (s.real.abs() - 0.5**0.5).abs().max() < 0.1
    assert (s.imag.abs() - 0.5**0.5).abs().max() < 0.1


# --- the dictionary ------------------------------------------------------------------------------------------------


@given(powers=st.lists(st.integers(1, 40), min_size=1, max_size=5), angle=st.floats(-3.2, 3.2))
def test_powers_of_the_phase(powers: list[int], angle: float) -> None:
    u = torch.tensor(math.cos(angle), dtype=torch.float64), torch.tensor(math.sin(angle), dtype=torch.float64)
    found = [complex(re.item(), im.item()) for re, im in phase_powers(u, powers)]
    np.testing.assert_allclose(found, np.exp(1j * angle * np.array(powers)), atol=1e-12)


def test_dictionary_is_its_formula() -> None:
    dictionary = SymbolDictionary(5, [2, 3], 1.6, estimate_phase=False)
    s = torch.randn(2, 4, 1, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    radii = torch.arange(5) * 0.4
    rings = torch.exp(-(((s.abs()[..., None] - radii) / 0.4) ** 2))
    u = s / s.abs()
    turns = torch.stack([torch.ones_like(u.real), (u**2).real, (u**2).imag, (u**3).real, (u**3).imag], dim=-1)
    sides = sum(torch.exp(-(((part.abs()[..., None] - radii) / 0.4) ** 2)) for part in (s.real, s.imag))
    expected = torch.cat([(rings[..., None] * turns[..., None, :]).flatten(-2), sides], dim=-1)
    found = dictionary((s.real, s.imag), None)
    assert found.shape[-1] == dictionary.n_features
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)  # the floor of the magnitude is 1e-3


def test_lagged_products_ignore_phase_and_frequency_offset_turns_them_all_alike() -> None:
    s = torch.randn(2, 9, 1, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    n = torch.arange(9).view(-1, 1)

    def product(z: Tensor) -> Tensor:
        return torch.complex(*lagged_product((z.real, z.imag), 2))

    expected = s[:, 2:] * s[:, :-2].conj()
    torch.testing.assert_close(product(s)[:, 2:], expected / expected.abs().sqrt(), rtol=1e-4, atol=1e-4)
    assert (product(s)[:, :2] == 0).all()
    turned = product(s * torch.polar(torch.ones(()), 0.7 + 0.4 * n))
    torch.testing.assert_close(turned, product(s) * torch.polar(torch.ones(()), torch.tensor(0.8)))


# --- timing and phase ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["QPSK", "16QAM", "8PSK"])
def test_timing_is_found_and_taken_out(name: str) -> None:
    for delay in (-0.45, -0.2, 0.0, 0.33):
        late, exact = frames(name, 128, delay=delay), frames(name, 128)
        shifted = on_time(planes(late), SPS)[..., 80:-80]
        error = (shifted - planes(exact)[..., 80:-80]).square().sum(1).mean()
        assert error < 0.01 * exact.abs().square().mean()  # -20 dB


@pytest.mark.parametrize("name", ["QPSK", "16QAM", "64QAM", "OQPSK"])
@pytest.mark.parametrize("angle", [0.0, 0.5, 1.4, -2.0, 3.0])
def test_square_constellations_stand_upright_whatever_their_phase(name: str, angle: float) -> None:
    s = constellation(name).repeat(4).view(1, -1, 1) * complex(math.cos(angle), math.sin(angle))
    re, im = upright((s.real, s.imag), None)
    expected = {(round(x.real, 3), round(x.imag, 3)) for x in constellation(name).tolist()}
    found = {(round(a, 3), round(b, 3)) for a, b in zip(re.flatten().tolist(), im.flatten().tolist(), strict=True)}
    assert found == expected


def test_numbers_in_phase_have_a_real_mean_and_keep_their_angles() -> None:
    generator = torch.Generator().manual_seed(0)
    u = torch.polar(torch.ones(2, 30, 3), 1 + torch.rand(2, 30, 3, generator=generator))
    weight, mask = torch.rand(2, 30, 3, generator=generator), torch.arange(30).expand(2, -1) < 20
    u = u * mask.unsqueeze(-1)
    turned = torch.complex(*in_phase((u.real, u.imag), weight, mask))
    mean = (weight * turned).mean(1)
    assert (mean.real > 0.1).all()
    torch.testing.assert_close(mean.imag, torch.zeros(2, 3), rtol=0, atol=1e-5)
    relative = turned[:, 1:20] * turned[:, :1].conj()
    torch.testing.assert_close(relative, u[:, 1:20] * u[:, :1].conj(), rtol=1e-4, atol=1e-4)


# --- the whole -----------------------------------------------------------------------------------------------------


def test_tokens_count_hops_and_a_frame_delayed_by_a_hop_has_its_tokens_one_later() -> None:
    embedding = build(Spec((157,), "classes", 2, is_complex=True))
    assert embedding.grid == (20,)
    x = torch.zeros(2, 157, dtype=torch.complex64)
    x[:, 60:90] = torch.randn(2, 30, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    before, after = tokens(embedding, x), tokens(embedding, x.roll(SPS, dims=1))
    assert before.shape == (2, 2, 20, 6)
    torch.testing.assert_close(after[:, :, 3:], before[:, :, 2:-1])


@pytest.mark.parametrize("angle", [0.3, 1.0, -2.2])
def test_phase_of_the_carrier_changes_nothing_where_it_is_estimated(angle: float) -> None:
    x = frames("16QAM")
    turned = x * complex(math.cos(angle), math.sin(angle))
    blind = build(estimate_phase=True, estimate_timing=True)
    torch.testing.assert_close(tokens(blind, turned), tokens(blind, x), rtol=1e-3, atol=1e-4)
    aware = build()
    assert (tokens(aware, turned) - tokens(aware, x)).abs().max() > 0.05


def test_symbols_are_looked_up_at_any_power_and_the_level_is_kept() -> None:
    embedding, x = build(), frames()
    a, b = (embedding.features(planes(scale * x), None) for scale in (1.0, 3.0))
    torch.testing.assert_close(a[..., :-9], b[..., :-9], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(b[..., -9:-8] - a[..., -9:-8], torch.full((3, 20, 1), math.log(3)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("blind", [False, True])
def test_padded_samples_and_other_frames_change_nothing(blind: bool) -> None:
    embedding, x = build(estimate_timing=blind, estimate_phase=blind), frames()
    mask = torch.arange(160).expand(3, -1) < torch.tensor([[160], [100], [33]])
    dirty = torch.where(mask, x, complex(torch.nan, torch.inf))
    dirty[0] = frames(seed=5)[0]
    (re, im), valid = embedding.eval()(x, mask)
    (dirty_re, dirty_im), _ = embedding(dirty, mask)
    assert valid.sum(1).tolist() == [20, 13, 5]
    assert torch.equal(re[1:], dirty_re[1:])
    assert torch.equal(im[1:], dirty_im[1:])


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 1e4])
def test_tokens_and_gradients_are_finite_at_any_power_and_precision(scale: float, dtype: torch.dtype | None) -> None:
    embedding = build(estimate_timing=True, estimate_phase=True).train()
    x = scale * frames()
    x[0] = 0
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        re, im = embedding(x)[0]
    gradients = torch.autograd.grad((re.float() + im.float()).square().sum(), list(embedding.parameters()))
    assert all(tensor.isfinite().all() for tensor in (re, im, *gradients))


def test_filters_and_projection_learn() -> None:
    embedding = build().train()
    (re, im), _ = embedding(frames())
    assert all(g.abs().max() > 0 for g in torch.autograd.grad((re**4 + im).sum(), list(embedding.parameters())))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build(Spec((160,), "classes", 2)), "embedding=iq reads frames of complex I/Q samples"),
        (lambda: build(hop=161), r"hop must be 1 to 160, .* got 161, 64 and 8; set embedding\.hop"),
        (lambda: build(n_taps=0), "n_taps and n_bands positive"),
        (lambda: build(lags=[20]), r"lags must be 1 to 19 tokens, got \[20\]; set embedding\.lags"),
        (lambda: build(powers=[0]), r"powers at least 1, got 6, 2.0 and \[0\]; set embedding\.n_radii"),
        (lambda: build(n_radii=1), "n_radii must be at least 2"),
        (lambda: build(hop=1, estimate_timing=True), r"set embedding\.estimate_timing=false"),
    ],
)
def test_what_cannot_work_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --- the constellation's image -------------------------------------------------------------------------------------


def stem(spec: Spec, d_complex: int) -> ConvStem:
    return ConvStem(spec, d_complex, n_layers=2, max_tokens=64)


def test_constellation_tokens_are_those_of_the_image() -> None:
    torch.manual_seed(0)
    picture = Histogram(size=16, limit=3.0, reference=32)
    embedding = ConstellationEmbedding(IQ, 4, picture, stem).eval()
    assert embedding.grid == (8, 8)
    (re, im), mask = embedding(frames(), torch.ones(3, 160))
    expected, _ = embedding.tokens(picture(frames()))
    assert torch.equal(re, expected[0])
    assert torch.equal(im, expected[1])
    assert mask is None


def test_stored_constellations_are_not_drawn_again() -> None:
    pictures = Spec((1, 16, 16), "classes", 5)
    embedding = ConstellationEmbedding(pictures, 4, Histogram(size=32, limit=3.0, reference=32), stem).eval()
    x = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(torch.stack(embedding(x)[0]), torch.stack(embedding.tokens(x)[0]))
    with pytest.raises(ValueError, match=r"embedding=constellation classifies images .* or draws frames"):
        ConstellationEmbedding(Spec((7,), "classes", 5), 4, Histogram(size=32, limit=3.0, reference=32), stem)
