"""Rows of ``suite=data`` about signal frames: batches of ours against TorchSig, which makes one frame a call."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from cvkan.benchmarks.rows import Row, compared
from cvkan.benchmarks.timing import interleaved, one_thread
from cvkan.domains.radio.torchsig import load_modulator
from cvkan.radio.generator import CHUNK, FrameGenerator

CLASS = "16QAM"
ROLLOFF = 0.35
SNR_DB = 10.0
MODULATED, NOISY = "TorchSig modulator", "TorchSig modulator and noise"


def frame_rows(
    n_frames: int, n_samples: int, samples_per_symbol: int, repetitions: int, min_seconds: float, seed: int
) -> Iterator[Row]:
    """CPU time of a 16QAM frame on one thread: as modulated, and with a random phase, roll-off and noise.

    TorchSig has one roll-off for all frames, ours draw their own.

    Args:
        n_frames: frames of a batch of ours; TorchSig makes as many one after the other, up to 64.
        n_samples: samples of a frame.
        samples_per_symbol: of both.
        repetitions: see :func:`~cvkan.benchmarks.timing.interleaved`.
        min_seconds: see there.
        seed: of the frames.

    Raises:
        UserError: TorchSig is not installed.
    """
    modulate = load_modulator()
    rng = np.random.default_rng(seed)
    generator = FrameGenerator(
        classes=(CLASS,),
        n_samples=n_samples,
        samples_per_symbol=samples_per_symbol,
        rolloff=(0.1, 0.4),
        span=8,
        random_phase=True,
        random_timing=True,
        carrier_offset_std=0.0,
        clock_offset_std=0.0,
        fading=None,
        multipath=None,
        snr_definition="es_n0",
    )
    index = torch.arange(n_frames)
    chunks = index.split(CHUNK)
    modulation, snr_db = torch.zeros_like(index), torch.full((n_frames,), SNR_DB)
    noise_amplitude = (samples_per_symbol * 10 ** (-SNR_DB / 10) / 2) ** 0.5
    n_others = min(n_frames, 64)

    def modulated() -> np.ndarray:
        return modulate("16qam", "srrc", 1.0, float(samples_per_symbol), n_samples, ROLLOFF, rng)

    def noisy() -> np.ndarray:
        noise = rng.standard_normal(2 * n_samples, dtype=np.float32).view(np.complex64)
        return modulated() + np.float32(noise_amplitude) * noise

    candidates = {
        "modulated": lambda: [generator.clean(modulation[rows], seed, rows) for rows in chunks],
        "with noise": lambda: generator.frames(modulation, snr_db, seed, index),
        MODULATED: lambda: [modulated() for _ in range(n_others)],
        NOISY: lambda: [noisy() for _ in range(n_others)],
    }
    with one_thread():
        seconds = interleaved(candidates, repetitions, min_seconds)
    for name, other in (("modulated", MODULATED), ("with noise", NOISY)):
        own, others = [one / n_frames for one in seconds[name]], [one / n_others for one in seconds[other]]
        case = f"{CLASS} frames {name}, {n_samples} samples, {samples_per_symbol} a symbol"
        yield compared(case, "cpu_a_frame", own, "us", other, others, scale=1e6)
