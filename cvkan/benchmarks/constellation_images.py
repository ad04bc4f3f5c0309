"""Rows of ``suite=data`` about constellation images: the histogram of a batch against one numpy histogram a frame."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cvkan.benchmarks.rows import Row, compared
from cvkan.benchmarks.timing import interleaved, one_thread
from cvkan.radio.images import GREY_LEVELS, Histogram, Splat

LOOP = "loop over numpy.histogram2d"


def image_rows(
    n_frames: int, n_samples: int, size: int, repetitions: int, min_seconds: float, seed: int
) -> Iterator[Row]:
    """CPU time a frame of the grey levels of a batch, and of the splat, on one thread.

    Args:
        n_frames: frames of the batch.
        n_samples: samples of a frame.
        size: side of the image in pixels.
        repetitions: see :func:`~cvkan.benchmarks.timing.interleaved`.
        min_seconds: see there.
        seed: of the frames.

    Raises:
        RuntimeError: the images of both ways differ.
    """
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(n_frames, n_samples, dtype=torch.complex64, generator=generator)
    histogram = Histogram(size=size, limit=3.0, reference=32)
    splat = Splat(size=size, limit=2.5, reaches=[2, 10, 25], references=[4, 32, 100], grey=False)
    few = frames[: max(1, n_frames // 64)]  # a splat takes a hundred times as long
    if not np.array_equal(histogram.levels(frames)[:, 0].numpy(), histogram_loop(frames, histogram)):
        raise RuntimeError("the histogram has other grey levels than numpy.histogram2d")
    candidates = {
        "histogram": lambda: histogram.levels(frames),
        "splat": lambda: splat(few),
        LOOP: lambda: histogram_loop(frames, histogram),
    }
    with one_thread():
        seconds = interleaved(candidates, repetitions, min_seconds)
    sizes = f"{n_samples} samples, {size}x{size}"
    loop = [second / n_frames for second in seconds[LOOP]]
    for name, n in (("histogram", n_frames), ("splat", len(few))):
        own = [second / n for second in seconds[name]]
        yield compared(f"{name} {sizes}", "cpu_a_frame", own, "ms", LOOP, loop, scale=1e3)


def histogram_loop(frames: Tensor, histogram: Histogram) -> np.ndarray:
    """The images as they are written down most simply, (B, S, S) uint8."""
    bounds = [[-histogram.limit, histogram.limit]] * 2
    images = []
    for frame in frames.numpy():
        counts, _, _ = np.histogram2d(frame.imag, frame.real, bins=histogram.size, range=bounds)
        values = np.minimum(1, np.log1p(counts) / math.log1p(histogram.reference))
        images.append(np.round(GREY_LEVELS * values[::-1]).astype(np.uint8))  # +Q at the top
    return np.stack(images)
