"""``data=torchsig``: frames that TorchSig modulates, a second implementation to train and test on.

The extra ``torchsig`` installs it. It makes one frame a call, and so is many times slower than our own generator.

Legend: B frames, n samples of a frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvkan.errors import UserError
from cvkan.radio import channel
from cvkan.radio.generator import SNR_DEFINITIONS
from cvkan.radio.random import FrameRandom

# Our names of the classes that TorchSig has too, with the same points but for the radii of the APSKs.
NAMES = {
    **{name: name.lower() for name in ("OOK", "4ASK", "8ASK", "BPSK", "QPSK", "8PSK", "16PSK", "32PSK")},
    **{name: name.lower() for name in ("16APSK", "32APSK", "16QAM", "64QAM", "256QAM")},
    **{"32QAM": "32qam_cross", "128QAM": "128qam_cross"},
}
MARGIN = 32  # symbols made before and after a frame and cut away: TorchSig's frames start and end with transients


@dataclass(frozen=True, kw_only=True)
class TorchSigGenerator:
    """Frames by TorchSig's constellation modulator, with our phase and noise; see
    :class:`~cvkan.radio.generator.FrameGenerator`.

    Args:
        classes: names of modulations, of :data:`NAMES`.
        n_samples: samples of a frame, n.
        samples_per_symbol: sps, 2 or more.
        rolloff: [low, high] that a frame's roll-off is drawn from, within 0 and 1, both excluded.
        random_phase: turn each frame by a uniform phase.
        snr_definition: ``es_n0`` or ``sample``.

    Raises:
        UserError: TorchSig is not installed.
        ValueError: a value is out of range, or a class is none of TorchSig's.
    """

    classes: Sequence[str]
    n_samples: int
    samples_per_symbol: int
    rolloff: Sequence[float]
    random_phase: bool
    snr_definition: str

    def __post_init__(self) -> None:
        unknown = [name for name in self.classes if name not in NAMES]
        if unknown:
            raise ValueError(f"TorchSig makes no {unknown[0]} frames; choose among {', '.join(NAMES)}")
        if self.n_samples < 1 or self.samples_per_symbol < 2:
            raise ValueError(
                f"n_samples is {self.n_samples} and samples_per_symbol {self.samples_per_symbol}; "
                "give at least 1 sample and 2 samples a symbol"
            )
        if len(self.rolloff) != 2 or not 0 < self.rolloff[0] <= self.rolloff[1] < 1:
            raise ValueError(f"rolloff is {list(self.rolloff)}; give [low, high] between 0 and 1")
        if self.snr_definition not in SNR_DEFINITIONS:
            raise ValueError(f"unknown snr_definition {self.snr_definition!r}; choose es_n0 or sample")
        load_modulator()

    def frames(self, modulation: Tensor, snr_db: Tensor, seed: int, index: Tensor) -> Tensor:
        """Received frames, (B, n) complex64; for the arguments see
        :meth:`~cvkan.radio.generator.FrameGenerator.frames`."""
        samples_per_energy = {"es_n0": self.samples_per_symbol, "sample": 1}[self.snr_definition]
        noise = FrameRandom(seed, index).complex_normal("noise", self.n_samples)
        return channel.add_noise(self.clean(modulation, seed, index), snr_db, noise, samples_per_energy)

    def clean(self, modulation: Tensor, seed: int, index: Tensor) -> Tensor:
        """The frames before noise is added, (B, n) complex64."""
        random = FrameRandom(seed, index)
        low, high = self.rolloff
        rolloffs = low + (high - low) * random.uniform("roll-off")
        seeds = random.words("torchsig")
        labels = zip(modulation.tolist(), rolloffs.tolist(), seeds.tolist(), strict=True)
        x = torch.from_numpy(np.stack([self._modulated(*label) for label in labels])).to(index.device)
        if self.random_phase:
            x = x * channel.turn(2 * math.pi * random.uniform("phase"))[:, None]
        return x

    def _modulated(self, position: int, rolloff: float, seed: int) -> np.ndarray:
        """One frame without transients, (n,) complex64."""
        margin = MARGIN * self.samples_per_symbol
        rng = np.random.default_rng(seed % 2**64)
        name, rate = NAMES[self.classes[position]], float(self.samples_per_symbol)
        x = load_modulator()(name, "srrc", 1.0, rate, self.n_samples + 2 * margin, rolloff, rng)
        return x[margin : margin + self.n_samples]


def load_modulator() -> Callable[..., Any]:
    """TorchSig's function of (name, pulse, bandwidth, sample rate, samples, roll-off, generator).

    Raises:
        UserError: TorchSig is not installed.
    """
    try:
        from torchsig.signals.builders.constellation import constellation_modulator
    except ModuleNotFoundError as error:
        raise UserError(
            f"TorchSig cannot be imported: {error}", "torchsig", "Install it: pip install 'cvkan[torchsig]'."
        ) from error
    return constellation_modulator
