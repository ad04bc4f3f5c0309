"""A waveform as complex tokens: level and phase advance of the short-time spectrum, then convolutions.

Legend: B clips, T samples, F frequency bins, M mel bands, S frames, C channels, N tokens, D complex channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cvkan.errors import UserError
from cvkan.models.embedding import Embedding
from cvkan.spec import Spec

# Mean band power that is taken for silence: below the rounding noise of 16-bit samples.
SILENCE = 1e-9
LEVEL_FLOOR = 1e-4  # relative to the clip's mean band power: sound 40 dB below it counts as silence


class STFTEmbedding(Embedding):
    """Waveform to complex tokens, one a step of time.

    For each frame s and mel band m, with X the short-time Fourier transform, w_mf the mel filter and
    omega_m hop the advance of a steady tone at the centre of the band:

        level   L_sm = log(P_sm / mean_sm(P) + 1e-4),  P_sm = sum_f w_mf |X_sf|^2,  standardised for each band
        advance A_sm = sum_f w_mf X_sf conj(X_(s-1)f) exp(-i omega_m hop) / sqrt(P_sm P_(s-1)m),  |A| <= 1

    The convolutions see (L Re A, L Im A, L). |A| is near 1 in a steady voiced sound and near 0 in noise; the
    phase of A is the frequency inside the band. A tone turns all the bins that it reaches alike, so that they
    add up in a band; turned back by each bin's own centre they would not. Phases of X itself depend on where
    the window starts, and averages of them cancel. Dividing by the clip's mean power makes the tokens
    independent of loudness.

    Args:
        spec: one waveform (T,) with its sampling rate.
        d_complex: complex channels D.
        win_s: length of the (Hann) window, s.
        hop_s: step from frame to frame, s.
        n_fft: length of the transform; None takes the power of two at or above the window.
        n_mels: mel bands.
        channels: channels of the two convolution layers.
        time_strides: steps of the two layers along time; a token stands for hop_s times both.
        dropout: share of features dropped before the last layer.
        time_masks: SpecAugment: spans of time hidden in training, each at most ``time_mask_s`` long.
        time_mask_s: longest hidden span, s.
        freq_masks: SpecAugment: groups of bands hidden in training, each at most ``freq_mask_bands`` wide.
        freq_mask_bands: widest hidden group.

    Attributes:
        grid: (N,), the layout of the tokens.

    Raises:
        UserError: the input is not a waveform, or an option is out of range.

    Source: own choice. Mel filters as in torchaudio; phase advance from the phase vocoder (Flanagan and
        Golden, 1966); SpecAugment from Park et al., arXiv:1904.08779.
    """

    window: Tensor
    power_weight: Tensor
    advance_weight: Tensor

    def __init__(
        self,
        spec: Spec,
        d_complex: int,
        *,
        win_s: float,
        hop_s: float,
        n_fft: int | None,
        n_mels: int,
        channels: tuple[int, int],
        time_strides: tuple[int, int],
        dropout: float,
        time_masks: int,
        time_mask_s: float,
        freq_masks: int,
        freq_mask_bands: int,
    ) -> None:
        super().__init__()
        sample_rate_hz = spec.sample_rate_hz
        if len(spec.input_shape) != 1 or sample_rate_hz is None:
            raise UserError(
                f"embedding=stft needs a waveform of known sampling rate, got samples of shape {spec.input_shape}",
                "embedding",
                "Choose the embedding of this kind of data.",
            )
        self.n_samples = spec.input_shape[0]
        win, self.hop = round(win_s * sample_rate_hz), round(hop_s * sample_rate_hz)
        self.n_fft = 2 ** math.ceil(math.log2(max(win, 2))) if n_fft is None else n_fft
        if not 1 <= self.hop <= win <= self.n_fft or self.n_samples <= self.n_fft // 2:
            raise UserError(
                f"hop {self.hop}, window {win}, n_fft {self.n_fft} do not fit {self.n_samples} samples",
                "embedding.hop_s, embedding.win_s, embedding.n_fft",
                "Needed: hop <= window <= n_fft < 2 x clip.",
            )
        if not 4 <= n_mels <= self.n_fft // 2 or not 0 <= freq_mask_bands <= n_mels:
            raise UserError(
                f"n_mels {n_mels} with n_fft {self.n_fft}, freq_mask_bands {freq_mask_bands}",
                "embedding.n_mels",
                "Needed: 4 <= n_mels <= n_fft / 2, freq_mask_bands <= n_mels.",
            )
        from torchaudio.functional import melscale_fbanks

        n_bins = self.n_fft // 2 + 1
        mel = melscale_fbanks(n_bins, 0.0, sample_rate_hz / 2, n_mels, sample_rate_hz)  # (F, M)
        # Bands between two bins have no weight; their centre does not matter then.
        centre_bin = torch.arange(n_bins, dtype=mel.dtype) @ mel / mel.sum(0).clamp_min(1e-9)  # (M,)
        turn = centre_bin * (2 * math.pi * self.hop / self.n_fft)
        cos, sin = mel * turn.cos(), mel * turn.sin()  # (F, M)
        # For spectra whose real and imaginary parts alternate, as in memory: rows re_0, im_0, re_1, ...
        advance_weight = torch.stack([torch.cat([cos, -sin], 1), torch.cat([sin, cos], 1)], 1)  # (F, 2, 2M)
        self.register_buffer("window", torch.hann_window(win), persistent=False)
        self.register_buffer("power_weight", mel.repeat_interleave(2, 0), persistent=False)  # (2F, M)
        self.register_buffer("advance_weight", advance_weight.flatten(0, 1), persistent=False)  # (2F, 2M)

        # Without weights of its own nothing before the convolutions needs a backward pass.
        self.level_norm = nn.BatchNorm1d(n_mels, affine=False)
        self.time_masks, self.freq_masks, self.freq_mask_bands = time_masks, freq_masks, freq_mask_bands
        self.time_mask_frames = round(time_mask_s / hop_s)
        (c1, c2), (s1, s2) = channels, time_strides
        self.stem = nn.Sequential(
            nn.Conv2d(3, c1, 5, stride=(s1, 2), padding=2, bias=False),
            nn.BatchNorm2d(c1),
            nn.GELU(),
            nn.Conv2d(c1, c2, 3, stride=(s2, 2), padding=1, bias=False),
            nn.BatchNorm2d(c2),
            nn.GELU(),
        )
        # Hides a feature in all tokens of a clip: neighbouring tokens would give a single one away.
        self.dropout = nn.Dropout1d(dropout)
        columns = math.ceil(math.ceil(n_mels / 2) / 2)
        # No nonlinearity after this layer: a ReLU on both planes would confine the phases to one quadrant.
        self.planes = nn.Linear(c2 * columns, 2 * d_complex, bias=False)
        self.plane_norm = nn.BatchNorm1d(2 * d_complex)
        nn.init.constant_(self.plane_norm.weight, 1 / math.sqrt(2))  # two planes: rms of |z| starts at 1
        # A norm follows each, so its scale does not matter forward; backward the gradient goes with its inverse. At
        # unit gain that is of the order of the others'; torch's own start is a third of it in variance.
        for weight in (parameter for parameter in self.parameters() if parameter.dim() > 1):
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
        self.grid = (math.ceil(math.ceil((self.n_samples // self.hop + 1) / s1) / s2),)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        """Embed waveforms.

        Args:
            x: (B, T) float.
            mask: (B, T), 1 = valid sample; the rest is silenced. None = all valid.

        Returns:
            ``(re, im)``, each (B, N, D) float32, and the mask of the tokens (B, N), 1 where a token holds any
            valid sample, or None. The transform, its levels and phases are float32 under autocast too; the
            convolutions are not.

        Raises:
            ValueError: ``x`` has another shape.
        """
        if x.dim() != 2 or x.shape[1] != self.n_samples:
            raise ValueError(f"x must be (B, {self.n_samples}), got {tuple(x.shape)}: pad or crop the clips")
        if mask is not None:
            x = x.masked_fill(mask == 0, 0)  # a product would let NaN in the padding through
            mask = nn.functional.adaptive_max_pool1d(mask.to(x.dtype), self.grid[0])
        with torch.autocast(x.device.type, enabled=False):
            features = self.features(x.float())  # (B, 3, S, M)
        maps = self.stem(features).transpose(2, 3).flatten(1, 2)  # (B, C M', N)
        z = self.planes(self.dropout(maps).transpose(1, 2)).float()  # (B, N, 2D)
        re, im = self.plane_norm(z.flatten(0, 1)).view_as(z).chunk(2, dim=-1)
        return (re, im), mask

    def features(self, x: Tensor) -> Tensor:
        """Level and level times phase advance, (B, T) to (B, 3, S, M)."""
        window, pad = self.window, nn.functional.pad
        spectrum = torch.stft(x, self.n_fft, self.hop, len(window), window, pad_mode="constant", return_complex=True)
        spectrum = spectrum.transpose(1, 2)  # (B, S, F) complex64, the order in memory
        cross = pad(spectrum[:, 1:] * spectrum[:, :-1].conj(), (0, 0, 1, 0))
        advance = torch.view_as_real(cross).flatten(2) @ self.advance_weight  # (B, S, 2M), real from here
        power = torch.view_as_real(spectrum).square().flatten(2) @ self.power_weight  # (B, S, M)

        gain = 1 / (power.mean((1, 2), keepdim=True) + SILENCE)
        power = power * gain + LEVEL_FLOOR
        level = self.level_norm(power.log().flatten(0, 1)).view_as(power)
        if self.training:
            level = self.hide(level)
        # Divided by the floored powers the advance fades out in silence instead of becoming random.
        before = pad(power[:, :-1], (0, 0, 1, 0), value=LEVEL_FLOOR)
        scale = level * (power * before).rsqrt() * gain
        advance_re, advance_im = advance.chunk(2, dim=-1)
        return torch.stack([scale * advance_re, scale * advance_im, level], 1)  # (B, 3, S, M)

    def hide(self, level: Tensor) -> Tensor:
        """SpecAugment: set random spans of each clip to the mean level, (B, S, M) to (B, S, M)."""
        keep_time = ~_spans(level, self.time_masks, level.shape[1], self.time_mask_frames)
        keep_bands = ~_spans(level, self.freq_masks, level.shape[2], self.freq_mask_bands)
        return level * (keep_time[:, :, None] & keep_bands[:, None, :])


def _spans(like: Tensor, n_spans: int, size: int, longest: int) -> Tensor:
    """Union of random spans of 0 to ``longest`` places for each clip, (B, size) bool."""
    draws = torch.rand(2, len(like), n_spans, 1, device=like.device)
    length = (draws[0] * (longest + 1)).floor()
    begin = (draws[1] * (size + 1 - length)).floor()
    place = torch.arange(size, device=like.device)
    return ((place >= begin) & (place < begin + length)).any(1)
