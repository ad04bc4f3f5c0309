"""A toy domain: does a machine hum as it should? Short vibration recordings, healthy or worn."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor

from cvkan import ComplexLinear, DataModule, Embedding, Loading, Spec, TensorSplit
from cvkan.models.embedding import Tokens

SAMPLES = 128  # of one recording
HUM_CYCLES = (12, 20)  # cycles a recording: healthy, worn


class Hum(DataModule):
    """Sines of one of two frequencies with a random phase, in noise.

    Args:
        n_train: training recordings.
        noise: standard deviation of the noise; the hum has amplitude 1.
        loading: what every data source takes, such as ``batch_size``: see :class:`Loading`.
    """

    def __init__(self, *, n_train: int, noise: float, **loading: Unpack[Loading]) -> None:
        super().__init__(**loading)
        self.n_train, self.noise = n_train, noise
        self.spec = Spec(input_shape=(SAMPLES,), target="classes", n_outputs=2, class_names=("healthy", "worn"))

    def load_splits(self) -> dict[str, TensorSplit]:
        generator = torch.Generator().manual_seed(0)  # the data stays the same, whatever the run's seed
        sizes = {"train": self.n_train, "val": 200, "test": 200}
        return {name: self.record(n, generator) for name, n in sizes.items()}

    def record(self, n: int, generator: torch.Generator) -> TensorSplit:
        """``n`` recordings: ``x`` (n, SAMPLES) and ``y`` (n,), 1 = worn."""
        y = torch.randint(2, (n,), generator=generator)
        cycles = torch.tensor(HUM_CYCLES)[y]
        phase = torch.rand(n, generator=generator)
        time = torch.arange(SAMPLES) / SAMPLES
        hum = torch.sin(2 * math.pi * (cycles[:, None] * time + phase[:, None]))  # (n, SAMPLES)
        return TensorSplit(x=hum + self.noise * torch.randn(n, SAMPLES, generator=generator), y=y)


class FrameSpectrum(Embedding):
    """Each frame of a recording is one token: its Fourier transform, mixed to ``d_complex`` channels.

    Args:
        spec: recordings of shape (samples,).
        d_complex: complex channels of a token.
        frame: samples of a frame; divides those of a recording.
    """

    def __init__(self, spec: Spec, d_complex: int, frame: int) -> None:
        super().__init__()
        (samples,) = spec.input_shape
        if samples % frame:
            raise ValueError(f"frames of {frame} do not divide {samples} samples; set embedding.frame to a divisor")
        self.frame = frame
        self.grid = (samples // frame,)
        self.mix = ComplexLinear(frame // 2 + 1, d_complex)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tokens:
        """Recordings (B, samples) to planes (B, N, D)."""
        frames = x.unflatten(1, (-1, self.frame))  # (B, N, frame)
        spectrum = torch.fft.rfft(frames, norm="ortho")  # (B, N, frame // 2 + 1), complex
        return self.mix((spectrum.real, spectrum.imag)), mask
