"""A small source-filter speech synthesiser: pulses and noise through moving formants, all clips at once.

A voiced sound is a train of glottal pulses through the resonances (formants) of the vocal tract, an
unvoiced one is noise in a band. Both sources are shaped by multiplying their short-time spectra by the
response of the tract at each frame, so that no filter runs sample by sample.

The ten words come in pairs that hold the same sounds in another order: the mean spectrum of a word tells the
pair, only the movement of the formants tells which of the two.

Legend: B clips, S sounds in a word, P kinds of sound, W words, T samples, M frames, F frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLE_RATE_HZ = 8000
DURATION_S = 1.0
N_SAMPLES = int(SAMPLE_RATE_HZ * DURATION_S)
N_FFT, HOP = 256, 64
# Formant bandwidths in Hz, within the ranges of Klatt (1980), table I.
BANDWIDTHS_HZ = (70.0, 90.0, 140.0, 220.0)

# Per sound: formants F1-F4 (Hz), voicing, noise level, noise centre and half width (Hz), duration (s).
# Vowels: men's mean F1-F3 of Peterson and Barney (1952), table II; F4 near the default of Klatt (1980).
# Consonants: formants after Klatt (1980), rounded; noise bands moved below the 4 kHz of an 8 kHz recording.
SOUNDS: dict[str, tuple[float, ...]] = {
    "i": (270, 2290, 3010, 3500, 0.7, 0.0, 2500, 900, 0.20),
    "e": (530, 1840, 2480, 3500, 0.9, 0.0, 2500, 900, 0.20),
    "a": (730, 1090, 2440, 3400, 1.0, 0.0, 2500, 900, 0.22),
    "o": (570, 840, 2410, 3300, 0.9, 0.0, 2500, 900, 0.20),
    "u": (300, 870, 2240, 3300, 0.7, 0.0, 2500, 900, 0.20),
    "m": (250, 1270, 2130, 3300, 0.35, 0.0, 2500, 900, 0.09),
    "n": (250, 1700, 2600, 3300, 0.35, 0.0, 2500, 900, 0.09),
    "l": (330, 1050, 2880, 3300, 0.5, 0.0, 2500, 900, 0.10),
    "s": (320, 1390, 2530, 3400, 0.0, 0.35, 3700, 450, 0.14),
    "f": (340, 1100, 2080, 3400, 0.0, 0.12, 2200, 1800, 0.12),
    "t": (400, 1600, 2600, 3400, 0.0, 0.55, 3200, 700, 0.035),
    "k": (300, 1990, 2850, 3400, 0.0, 0.55, 1800, 450, 0.045),
    "_": (400, 1600, 2600, 3400, 0.0, 0.0, 2500, 900, 0.05),  # the closure before a plosive
}
WORDS: dict[str, str] = {
    "ia": "ia",
    "ai": "ai",
    "suma": "suma",
    "amus": "amus",
    "eno": "eno",
    "one": "one",
    "take": "ta_ke",
    "kate": "ka_te",
    "life": "lif",
    "fil": "fil",
}


@dataclass(frozen=True)
class Speakers:
    """Constant traits of a set of speakers, one entry each: (n,), except ``accent``.

    Attributes:
        f0_hz: mean pitch, 85 to 270 Hz.
        tract: factor on all formants (a short tract raises them), 0.8 to 1.25; follows the pitch loosely.
        tempo: factor on all durations, 0.8 to 1.2.
        breath: level of noise in the voiced source, 0.02 to 0.25.
        tilt_db: slope of the voiced source in dB an octave, -12 to -5 (glottis and lips together).
        accent: (n, P, 4), factors on single formants, standard deviation 4 %.
    """

    f0_hz: Tensor
    tract: Tensor
    tempo: Tensor
    breath: Tensor
    tilt_db: Tensor
    accent: Tensor

    @classmethod
    def draw(cls, n: int, generator: torch.Generator) -> Speakers:
        """Draw ``n`` speakers."""
        pitch = torch.rand(n, generator=generator)
        tract_position = (0.6 * pitch + 0.4 * torch.rand(n, generator=generator)).clamp(0, 1)
        accent = 1 + 0.04 * torch.randn(n, len(SOUNDS), 4, generator=generator)
        return cls(
            f0_hz=85 * (270 / 85) ** pitch,
            tract=0.8 * (1.25 / 0.8) ** tract_position,
            tempo=_uniform((n,), 0.8, 1.2, generator),
            breath=_uniform((n,), 0.02, 0.25, generator),
            tilt_db=_uniform((n,), -12, -5, generator),
            accent=accent,
        )

    def take(self, rows: Tensor) -> Speakers:
        """The speakers of each clip: (B,) indices to (B,) traits."""
        return Speakers(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def synthesize(words: Tensor, voices: Speakers, snr_db: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Say one word a clip.

    Args:
        words: (B,) int64, indices into :data:`WORDS`.
        voices: the speaker of each clip, (B,) traits.
        snr_db: range of the ratio of speech to background noise, drawn uniformly a clip, in dB.
        generator: source of all randomness: tempo, onset, intonation, loudness, microphone, noise.

    Returns:
        (B, T) float32 waveforms at 8 kHz, peaks below 1.

    Source: G. Fant, Acoustic Theory of Speech Production (1960), the source-filter model; formant values from
        G. Peterson and H. Barney, JASA 24 (1952), and D. Klatt, JASA 67 (1980), cascade branch.
    """
    tracks = _tracks(words, voices, generator)
    f_hz = torch.linspace(0, SAMPLE_RATE_HZ / 2, N_FFT // 2 + 1)
    octaves = (f_hz / 500).clamp_min(0.1).log2()  # (F,), tilts turn about 500 Hz

    white = torch.randn(2, len(words), N_SAMPLES, generator=generator)
    voiced = _pulses(voices.f0_hz, generator) + voices.breath[:, None] * white[0]
    tilt = 10 ** (voices.tilt_db[:, None] * octaves / 20)  # (B, F)
    response = _formant_response(f_hz, tracks["formants_hz"]) * tilt[..., None]  # (B, F, M) complex
    band = ((f_hz[:, None] - tracks["centre_hz"][:, None]) / tracks["width_hz"][:, None]).square().mul(-0.5).exp()

    microphone = 10 ** (_uniform((len(words), 1), -3, 3, generator) * octaves / 20)  # (B, F)
    spectrum = _stft(voiced) * _unit_power(response) * tracks["voicing"][:, None]
    spectrum = spectrum + _stft(white[1]) * _unit_power(band) * tracks["noise"][:, None]
    window = torch.hann_window(N_FFT)
    speech = torch.istft(spectrum * microphone[..., None], N_FFT, HOP, window=window, length=N_SAMPLES)
    return _record(speech, snr_db, generator)


def _tracks(words: Tensor, voices: Speakers, generator: torch.Generator) -> dict[str, Tensor]:
    """Control curves over the frames: formants (B, 4, M), the others (B, M)."""
    kinds, used = _word_table()
    kinds, used = kinds[words], used[words]  # (B, S)
    sound = torch.tensor(list(SOUNDS.values()))[kinds]  # (B, S, 9)
    n, n_slots = kinds.shape

    stretch = voices.tempo[:, None] * _uniform((n, n_slots), 0.8, 1.2, generator)
    duration = sound[..., 8] * stretch * used
    duration = duration * (0.88 / duration.sum(1, keepdim=True)).clamp_max(1.0)
    onset = 0.04 + (0.92 - duration.sum(1, keepdim=True)) * torch.rand(n, 1, generator=generator)
    end = onset + duration.cumsum(1)
    begin = end - duration
    time = torch.arange(N_SAMPLES // HOP + 1) * (HOP / SAMPLE_RATE_HZ)  # (M,)

    def share(edges: Tensor, tau_s: float) -> Tensor:
        return torch.sigmoid((time - edges[..., None]) / tau_s)  # (B, S, M)

    # Before the first and after the last sound the tract stays where it is, so the shares always add to one.
    inf = torch.full((n, 1), math.inf)
    place = share(torch.cat([-inf, begin[:, 1:]], 1), 0.018) - share(torch.cat([end[:, :-1], inf], 1), 0.018)
    level = share(begin, 0.006) - share(end, 0.006)

    accent = torch.take_along_dim(voices.accent, kinds[..., None], 1)  # (B, S, 4)
    wobble = 1 + 0.03 * torch.randn(n, n_slots, 4, generator=generator)
    formants = sound[..., :4] * accent * wobble * voices.tract[:, None, None]
    place_of_noise = 1 + 0.5 * (voices.tract - 1)  # a fricative's cavity varies less than the whole tract
    return {
        "formants_hz": torch.einsum("bsm,bsf->bfm", place, formants).clamp(150, 3900),
        "centre_hz": torch.einsum("bsm,bs->bm", place, sound[..., 6]) * place_of_noise[:, None],
        "width_hz": torch.einsum("bsm,bs->bm", place, sound[..., 7]),
        "voicing": torch.einsum("bsm,bs->bm", level, sound[..., 4]),
        "noise": torch.einsum("bsm,bs->bm", level, sound[..., 5]),
    }


def _word_table() -> tuple[Tensor, Tensor]:
    """(W, S) kinds of sound, short words padded by their last sound, and (W, S) which places are used."""
    kinds = list(SOUNDS)
    n_slots = max(map(len, WORDS.values()))
    table = torch.tensor([[kinds.index(c) for c in word.ljust(n_slots, word[-1])] for word in WORDS.values()])
    lengths = torch.tensor([len(word) for word in WORDS.values()])
    return table, (torch.arange(n_slots) < lengths[:, None]).float()


def _pulses(f0_hz: Tensor, generator: torch.Generator) -> Tensor:
    """Band-limited pulse train of unit power with falling pitch, a random melody and 1 % jitter, (B, T).

    Its spectrum is flat: sum_k cos(k theta), k = 1..K, in closed form; the filter holds the glottal slope.
    """
    n = len(f0_hz)
    melody = torch.randn(n, 1, 4, generator=generator) * 0.12
    melody = melody + torch.linspace(0.1, -0.1, 4)  # octaves; pitch falls towards the end
    jitter = 0.015 * torch.randn(n, 1, 100, generator=generator)
    curves = [torch.nn.functional.interpolate(c, N_SAMPLES, mode="linear")[:, 0] for c in (melody, jitter)]
    f0 = f0_hz[:, None] * 2 ** (curves[0] + curves[1])  # (B, T)
    cycles = (f0.double() / SAMPLE_RATE_HZ).cumsum(1) % 1.0
    half = (math.pi * cycles).float()  # theta / 2 in [0, pi)
    n_harmonics = (3900 / f0.amax(1, keepdim=True)).floor()
    sine = half.sin()
    total = torch.where(
        sine.abs() > 1e-4,
        ((2 * n_harmonics + 1) * half).sin() / (2 * sine.clamp_min(1e-4)) - 0.5,
        n_harmonics,
    )
    return total / (n_harmonics / 2).sqrt()


def _formant_response(f_hz: Tensor, formants_hz: Tensor) -> Tensor:
    """Cascade of four second-order resonators, (B, F, M) complex64: prod 1 / (1 - (f/F)^2 + i f B / F^2)."""
    response = torch.ones((), dtype=torch.complex64)
    for k, bandwidth_hz in enumerate(BANDWIDTHS_HZ):
        centre = formants_hz[:, k, None].square()  # (B, 1, M)
        real = 1 - f_hz.square()[:, None] / centre
        response = response / torch.complex(real, f_hz[:, None] * bandwidth_hz / centre)
    return response


def _unit_power(response: Tensor) -> Tensor:
    """Scale each frame to unit mean power, so that the level tables alone set the loudness of a sound."""
    return response / response.abs().square().mean(1, keepdim=True).sqrt()


def _record(speech: Tensor, snr_db: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Add background noise between white and pink at a random ratio, and set a random loudness."""
    n = len(speech)
    spectrum = torch.fft.rfft(torch.randn(n, N_SAMPLES, generator=generator))
    slope = -0.5 * torch.rand(n, 1, generator=generator)
    noise = torch.fft.irfft(spectrum * torch.arange(spectrum.shape[1]).clamp_min(50) ** slope, N_SAMPLES)
    ratio_db = _uniform((n, 1), *snr_db, generator)
    gain = speech.square().mean(1, keepdim=True) / noise.square().mean(1, keepdim=True) * 10 ** (-ratio_db / 10)
    mixed = speech + gain.sqrt() * noise
    peak = 10 ** (_uniform((n, 1), -20, -1, generator) / 20)
    return mixed * (peak / mixed.abs().amax(1, keepdim=True))


def _stft(x: Tensor) -> Tensor:
    return torch.stft(x, N_FFT, HOP, window=torch.hann_window(N_FFT), return_complex=True)  # (B, F, M)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)
