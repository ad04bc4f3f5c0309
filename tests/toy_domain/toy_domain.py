"""A toy domain: does a machine hum as it should? Short vibration recordings, healthy or worn."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cvkan import Batch, ComplexLinear, DataModule, Spec, TensorSplit
from cvkan.models.embedding import Embedding

SAMPLES = 128  # of one recording
HUM_CYCLES = (12, 20)  # cycles a recording: healthy, worn


class Hum(DataModule):
    """Sines of one of two frequencies with a random phase, in noise."""

    def __init__(
        self, *, n_train: int, noise: float, batch_size: int, num_workers: int, seed: int, limit_train: int | None
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed, limit_train=limit_train)
        self.n_train, self.noise = n_train, noise
        self.spec = Spec(input_shape=(SAMPLES,), target="classes", n_outputs=2, class_names=("healthy", "worn"))

    def load_splits(self) -> dict[str, TensorSplit]:
        generator = torch.Generator().manual_seed(0)  # the data stays the same, whatever the run's seed
        sizes = {"train": self.n_train, "val": 200, "test": 200}
        return {name: self.record(n, generator) for name, n in sizes.items()}

    def record(self, n: int, generator: torch.Generator) -> TensorSplit:
        y = torch.randint(2, (n,), generator=generator)
        cycles = torch.tensor(HUM_CYCLES)[y]  # (n,)
        phase = torch.rand(n, generator=generator)
        time = torch.arange(SAMPLES) / SAMPLES
        hum = torch.sin(2 * math.pi * (cycles[:, None] * time + phase[:, None]))  # (n, SAMPLES)
        return TensorSplit(x=hum + self.noise * torch.randn(n, SAMPLES, generator=generator), y=y)


class FrameSpectrum(Embedding):
    """Frames of a recording, each one token: its Fourier transform, mixed to ``d_complex`` channels."""

    def __init__(self, spec: Spec, d_complex: int, frame: int) -> None:
        super().__init__()
        (samples,) = spec.input_shape
        if samples % frame:
            raise ValueError(f"frames of {frame} do not divide {samples} samples; set embedding.frame to a divisor")
        self.frame = frame
        self.grid = (samples // frame,)  # how the tokens lie: a row of N
        self.mix = ComplexLinear(frame // 2 + 1, d_complex)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        frames = x.unflatten(1, (-1, self.frame))  # (B, N, frame)
        spectrum = torch.fft.rfft(frames, norm="ortho")  # (B, N, frame // 2 + 1), complex
        return self.mix((spectrum.real, spectrum.imag)), mask


def peek(batch: Batch) -> str:
    """What is in a batch, for a first look."""
    return ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in batch.items())
