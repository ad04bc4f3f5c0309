"""The STFT embedding against its formula in complex128, and its promises."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torchaudio.functional import melscale_fbanks

from cvkan.domains.audio.embedding import LEVEL_FLOOR, STFTEmbedding
from cvkan.errors import UserError
from cvkan.spec import Spec

SETTINGS = {
    "win_s": 0.03,
    "hop_s": 0.01,
    "n_fft": None,
    "n_mels": 40,
    "channels": [8, 16],
    "time_strides": [2, 2],
    "dropout": 0.1,
    "time_masks": 1,
    "time_mask_s": 0.1,
    "freq_masks": 1,
    "freq_mask_bands": 6,
}


def embedding(n_samples: int = 4000, d_complex: int = 6, sample_rate_hz: int = 8000, **changes) -> STFTEmbedding:
    torch.manual_seed(0)
    spec = Spec(input_shape=(n_samples,), target="classes", n_outputs=2, sample_rate_hz=sample_rate_hz)
    return STFTEmbedding(spec, d_complex, **{**SETTINGS, **changes})


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_features_follow_the_formula_computed_frame_by_frame() -> None:
    net = embedding().eval()
    x = noise(2, 4000).cumsum(1) * 0.01
    found = net.features(x)  # (B, 3, S, M)
    n_fft, hop, win = 256, 80, 240
    mel = melscale_fbanks(129, 0.0, 4000.0, 40, 8000).double()
    window = torch.zeros(n_fft, dtype=torch.float64)
    window[8:248] = torch.hann_window(win, dtype=torch.float64)
    padded = torch.nn.functional.pad(x.double(), (n_fft // 2, n_fft // 2))
    frames = torch.stack([padded[:, s * hop : s * hop + n_fft] * window for s in range(51)], 1)
    spectrum = torch.fft.rfft(frames)  # (B, S, F) complex128
    power = spectrum.abs().square() @ mel
    mean = power.mean((1, 2), keepdim=True)
    level = (power / mean + LEVEL_FLOOR).log() / math.sqrt(1 + 1e-5)  # fresh running statistics: mean 0, var 1
    centre_bin = (torch.arange(129, dtype=torch.float64)[:, None] * mel).sum(0) / mel.sum(0)
    turn = torch.exp(-2j * math.pi * centre_bin * hop / n_fft)
    for s in (1, 2, 17, 50):
        advance = (spectrum[:, s] * spectrum[:, s - 1].conj()) @ mel.to(torch.complex128) * turn
        floored = (power[:, s] / mean[:, 0] + LEVEL_FLOOR) * (power[:, s - 1] / mean[:, 0] + LEVEL_FLOOR)
        z = level[:, s] * advance / mean[:, 0] / floored.sqrt()
        torch.testing.assert_close(found[:, 0, s].double(), z.real, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(found[:, 1, s].double(), z.imag, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(found[:, 2].double(), level, atol=1e-3, rtol=1e-3)
    assert found[:, :2, 0].abs().max() == 0


def test_phase_of_a_tone_tells_its_frequency_within_the_band() -> None:
    net = embedding().eval()
    time = torch.arange(4000) / 8000
    angles = []
    for frequency_hz in (990.0, 1000.0, 1010.0):
        re, im, level = net.features(torch.sin(2 * math.pi * frequency_hz * time)[None])[0, :, 10]  # (M,) each
        band = 17
        assert math.hypot(re[band], im[band]) / abs(level[band]) == pytest.approx(1, abs=0.01)
        angles.append(math.atan2(im[band] / level[band], re[band] / level[band]))
    assert angles[1] - angles[0] == pytest.approx(2 * math.pi * 10 * 0.01, abs=0.02)
    assert angles[2] - angles[1] == pytest.approx(2 * math.pi * 10 * 0.01, abs=0.02)


def test_tokens_do_not_depend_on_loudness() -> None:
    net = embedding().eval()
    x = noise(3, 4000)
    (re, im), _ = net(x)
    (re_soft, im_soft), _ = net(x * 0.01)
    torch.testing.assert_close(re_soft, re, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(im_soft, im, atol=1e-3, rtol=1e-3)


def test_silence_and_padding_give_finite_tokens_and_gradients() -> None:
    net = embedding()
    x = torch.zeros(4, 4000)
    x[0, :900] = noise(900)
    x.requires_grad_()
    (re, im), mask = net(x)
    (re.square().sum() + im.sum()).backward()
    assert mask is None
    for tensor in (re, im, x.grad, *(p.grad for p in net.parameters())):
        assert tensor.isfinite().all()


@pytest.mark.parametrize(
    ("n_samples", "rate_hz", "strides", "grid"),
    [
        (8000, 8000, [2, 1], (51,)),
        (8000, 8000, [2, 2], (26,)),
        (16000, 16000, [2, 2], (26,)),
        (4010, 8000, [1, 1], (51,)),
    ],
)
def test_grid_is_the_number_of_tokens(n_samples: int, rate_hz: int, strides: list[int], grid: tuple[int]) -> None:
    net = embedding(n_samples, sample_rate_hz=rate_hz, time_strides=strides)
    (re, im), _ = net(noise(2, n_samples))
    assert net.grid == grid
    assert re.shape == im.shape == (2, *grid, 6)
    assert re.dtype == im.dtype == torch.float32


def test_planes_fill_all_quadrants_at_unit_size() -> None:
    (re, im), _ = embedding(freq_masks=0, time_masks=0)(noise(16, 4000).cumsum(1))
    assert (re.square() + im.square()).mean().sqrt().item() == pytest.approx(1, abs=0.05)
    for quadrant in ((re > 0) & (im > 0), (re < 0) & (im > 0), (re < 0) & (im < 0), (re > 0) & (im < 0)):
        assert quadrant.float().mean() > 0.15


def test_masked_samples_change_nothing_and_their_tokens_are_marked() -> None:
    net = embedding().eval()
    x, other = noise(2, 4000), noise(2, 4000, seed=2)
    mask = torch.ones(2, 4000)
    mask[1, 2000:] = 0
    (re, _), tokens = net(x, mask)
    (re_other, _), _ = net(torch.where(mask.bool(), x, other), mask)
    assert torch.equal(re, re_other)
    assert tokens.shape == (2, 13)
    assert tokens[0].sum() == 13
    assert tokens[1].tolist() == [1.0] * 7 + [0.0] * 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_whatever_the_padding_holds_stays_out(dtype: torch.dtype) -> None:
    net = embedding().eval()
    x = noise(2, 4000)
    mask = torch.ones(2, 4000, dtype=dtype)
    mask[1, 2000:] = 0
    (re, im), _ = net(x, mask)
    x[1, 2000:3000], x[1, 3000:] = torch.nan, torch.inf
    (re_padded, im_padded), _ = net(x, mask)
    assert torch.equal(re, re_padded)
    assert torch.equal(im, im_padded)


def test_specaugment_hides_spans_for_each_clip_in_training_only() -> None:
    net = embedding(time_masks=2, freq_masks=1, dropout=0.0)
    level = torch.ones(200, 51, 40)
    hidden = net.hide(level) == 0
    whole_frames, whole_bands = hidden.all(2).sum(1), hidden.all(1).sum(1)
    assert whole_frames.max() > 10
    assert whole_frames.max() <= 20
    assert 0 < whole_bands.max() <= 6
    assert whole_frames.unique().numel() > 5
    net.eval()
    x = noise(2, 4000)
    assert torch.equal(net(x)[0][0], net(x)[0][0])


def test_bfloat16_autocast_keeps_tokens_close() -> None:
    net = embedding().eval()
    x = noise(4, 4000)
    (re, _), _ = net(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (re_half, im_half), _ = net(x)
    assert re_half.dtype == im_half.dtype == torch.float32
    assert (re_half - re).abs().mean() < 0.02 * re.abs().mean()


def test_wrong_input_is_refused() -> None:
    with pytest.raises(UserError, match="embedding=stft needs a waveform"):
        STFTEmbedding(Spec(input_shape=(3, 32, 32), target="classes", n_outputs=2), 8, **SETTINGS)
    with pytest.raises(UserError, match="hop 400"):
        embedding(hop_s=0.05)
    with pytest.raises(UserError, match="n_mels 200"):
        embedding(n_mels=200)
    with pytest.raises(ValueError, match=r"x must be \(B, 4000\)"):
        embedding()(noise(2, 3999))


def test_torchaudio_is_imported_inside_functions_only() -> None:
    package = Path(__file__).parents[2] / "cvkan" / "domains" / "audio"
    for file in package.glob("*.py"):
        lines = file.read_text().split("TYPE_CHECKING:\n    from torchaudio")
        assert "\nimport torchaudio" not in "".join(lines), file
        assert "\nfrom torchaudio" not in "".join(lines), file
