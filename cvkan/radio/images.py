"""Constellation images: where in the complex plane the samples of a frame lie.

Frames come in with unit power. Every image is scaled by constants alone: the brightest pixel of an image, a batch or
a data set would tell how noisy the frame is, or take that away.

Legend: B batch, n samples of a frame, C channels, S side of the image in pixels, W side of a window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

GREY_LEVELS = 255
LARGEST_HISTOGRAM = 4096
AIM_LOW = 1e-3  # pixels; above the rounding error of a coordinate at LARGEST_HISTOGRAM
# On a CPU the work is done in parts that stay in the cache of a core; another device wants few large ones.
COUNTED_FRAMES = 8
SPLATTED_SAMPLES = {True: 32, False: 8192}  # on a CPU, or not


class ConstellationImage(nn.Module):
    """Base of the images: frames (B, n) complex64 -> (B, C, S, S) float32 in 0..1, +Q at the top, +I at the right.

    No gradient flows to the frames. Frames do not influence each other: an image is the same in every batch.

    Args:
        n_channels: C.
        size: S.
        limit: the image shows -limit..limit in I and in Q, in units of the root mean square of the frame.

    Raises:
        ValueError: a size or the limit is not positive.
    """

    def __init__(self, n_channels: int, size: int, limit: float) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size of an image is {size}; set pixels, such as 224")
        if not (limit > 0 and math.isfinite(limit)):
            raise ValueError(f"limit of an image is {limit}; set a positive number, such as 3.0")
        self.n_channels, self.size, self.limit = n_channels, size, float(limit)

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def levels(self, x: Tensor) -> Tensor:
        """The images as 8-bit grey levels, for files: (B, C, S, S) uint8."""
        return self(x).mul_(GREY_LEVELS).round_().to(torch.uint8)

    def settings(self) -> dict[str, object]:
        """What an image depends on beside the frame, in plain values."""
        return {"image": type(self).__name__, "size": self.size, "limit": self.limit}

    def check(self, x: Tensor) -> None:
        """Raise ValueError unless ``x`` holds frames."""
        if x.ndim != 2 or x.dtype != torch.complex64:
            raise ValueError(f"frames have shape {tuple(x.shape)} and dtype {x.dtype}; give (B, n) complex64")


class Histogram(ConstellationImage):
    """How many samples fall into each pixel, on a fixed logarithmic scale: v = min(1, log(1 + c) / log(1 + c_ref)).

    The counts are those of ``numpy.histogram2d(Q, I, bins=size, range=[[-limit, limit]] * 2)``, exactly. Samples
    outside, and those that are not finite, are left out.

    Args:
        size, limit: see :class:`ConstellationImage`.
        reference: c_ref, the count that is white.

    Raises:
        ValueError: ``reference`` is less than 1.
    """

    edge_bits: Tensor

    def __init__(self, size: int, limit: float, reference: int) -> None:
        super().__init__(1, size, limit)
        if size > LARGEST_HISTOGRAM:
            raise ValueError(f"size of the histogram is {size}; set at most {LARGEST_HISTOGRAM} pixels")
        if reference < 1:
            raise ValueError(f"reference of the histogram is {reference}; set a count of 1 or more, such as 32")
        self.reference = reference
        # For a float32 number x, x >= e in float64 means x >= the least float32 that is not below e.
        edges = np.linspace(-self.limit, self.limit, size + 1)
        rounded = edges.astype(np.float32)
        rounded = np.where(rounded < edges, np.nextafter(rounded, np.float32(np.inf)), rounded)
        self.highest = -float(rounded[0])
        rounded[-1] = np.nan  # nothing lies above the last pixel, which holds its upper edge too
        # As integers they keep all their bits where a module is cast to another precision.
        self.register_buffer("edge_bits", torch.from_numpy(rounded[1:]).view(torch.int32), persistent=False)

    def settings(self) -> dict[str, object]:
        return {**super().settings(), "reference": self.reference}

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self._paint(x, self._scale(x))

    @torch.no_grad()
    def levels(self, x: Tensor) -> Tensor:
        return self._paint(x, (self._scale(x) * GREY_LEVELS).round_().to(torch.uint8))

    def _scale(self, x: Tensor) -> Tensor:
        """The value of every count that n samples can have, (n + 1,) float32."""
        counts = torch.arange(x.shape[-1] + 1, dtype=torch.float32, device=x.device)
        return counts.log1p_().div_(math.log1p(self.reference)).clamp_(max=1)

    def _paint(self, x: Tensor, shades: Tensor) -> Tensor:
        """Images (B, 1, S, S) of the pixels shades[count], where shades[0] = 0.

        An image is nearly empty: only the pixels that hold a sample are read and written.
        """
        self.check(x)
        n_pixels = self.size**2
        part = min(len(x), COUNTED_FRAMES) if x.device.type == "cpu" else len(x)
        images = _blank((len(x), 1, self.size, self.size), shades.dtype, x.device)
        counts = _blank((part * n_pixels,), torch.int32, x.device)
        frame = torch.arange(len(x), device=x.device) % max(part, 1)  # (B,) within its part
        first = n_pixels * frame + (self.size - 1) * self.size  # (B,) the lower left pixel: row 0 is at the top
        parts = (values.split(max(part, 1)) for values in (images.flatten(1), *self._places(x, first)))
        for image, place, inside in zip(*parts, strict=True):
            at = place.view(-1)
            counts.scatter_add_(0, at, inside.view(-1))
            # Samples of one pixel write the same value. One from outside writes that of the pixel it was moved to.
            image.view(-1).scatter_(0, at, shades.index_select(0, counts.gather(0, at)))
            counts.scatter_(0, at, 0)
        return images

    def _places(self, x: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Where each sample is.

        Args:
            x: (B, n) complex64.
            first: (B,) number of the lower left pixel of each image.

        Returns:
            first + column - S row from below, (B, n) int64, and 1, or 0 where a sample had to be moved there, (B, n)
            int32.
        """
        samples = torch.view_as_real(x.resolve_conj())  # (B, n, 2)
        within = samples.clamp(-self.highest, self.highest)
        # Of a sample inside, both differences are 0 in all their bits; that of NaN is NaN.
        inside = (samples - within).view(torch.int64).squeeze(-1) == 0  # (B, n)
        # Rounding can miss the pixel by one: aim a little too low, then look at the edge above.
        index = within.mul_(self.size / (2 * self.limit)).add_(self.size / 2 - AIM_LOW).int().clamp_(min=0)
        edge = self.edge_bits.view(torch.float32).index_select(0, index.flatten()).view_as(index)  # (B, n, 2)
        index += samples >= edge
        place = torch.sub(index[..., 0], index[..., 1], alpha=self.size).long()
        return place.add_(first[:, None]), inside.int()


class Splat(ConstellationImage):
    """Samples that glow, in one channel for each of three reaches b, with d the side of a pixel:

        P_b(p) = sum_i exp(-(5 / b) |p - x_i| / (d sqrt 2))

    over the pixels p (their centres) that are at most b rows and b columns away from the pixel of x_i. A sample near
    the border, on either side of it, lights the pixels of its window that are in the image. Channel: min(1, P_b /
    reference).

    The sum is exact up to the rounding of float32; on a GPU its order, and with it the last bit, may change.

    Args:
        size, limit: see :class:`ConstellationImage`.
        reaches: the three b in pixels.
        references: the three sums that are 1. None divides each channel by its own maximum, as in published images:
            that takes the number of samples in a place out of the image, so it is only for comparison.
        grey: one channel, the mean of the three.

    Raises:
        ValueError: not three reaches or references, or one is not positive.
    """

    def __init__(
        self, size: int, limit: float, reaches: Sequence[int], references: Sequence[float] | None, grey: bool
    ) -> None:
        super().__init__(1 if grey else 3, size, limit)
        if len(reaches) != 3 or min(reaches) < 1:
            raise ValueError(f"reaches are {list(reaches)}; set three numbers of pixels, such as [2, 10, 25]")
        if references is not None and (len(references) != 3 or min(references) <= 0):
            raise ValueError(f"references are {list(references)}; set three positive sums, or null")
        self.reaches, self.references, self.grey = tuple(reaches), references, grey

    def settings(self) -> dict[str, object]:
        references = None if self.references is None else list(self.references)
        return {**super().settings(), "reaches": list(self.reaches), "references": references}

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        sums = self._sums(x)  # (3, B, S, S)
        if self.references is None:
            scale = sums.amax((2, 3), keepdim=True).clamp_min(torch.finfo(sums.dtype).tiny)
        else:
            scale = sums.new_tensor(self.references).view(-1, 1, 1, 1)
        channels = (sums / scale).clamp_(max=1).transpose(0, 1).contiguous()  # (B, 3, S, S)
        return channels.mean(1, keepdim=True) if self.grey else channels

    def _sums(self, x: Tensor) -> Tensor:
        """P_b of every reach, (3, B, S, S).

        Windows are added to a canvas with a margin that holds all of the window of any sample, so that no pixel needs a
        check. A sample too far away to light the image is moved to where its window just misses it.
        """
        self.check(x)
        widest = max(self.reaches)
        margin = 2 * widest + 1
        side = self.size + 2 * margin
        pixel = 2 * self.limit / self.size
        at = torch.stack([self.limit - x.imag, x.real + self.limit], dim=-1).div_(pixel)  # (B, n, 2) row, column
        at = at.nan_to_num_(nan=math.inf).clamp_(-widest - 1, self.size + widest)
        home = at.floor()
        offset = (at - home - 0.5).flatten(0, 1)  # (B n, 2) from the centre of its pixel
        row, column = (home.long() + margin).unbind(-1)  # (B, n)
        frame = torch.arange(len(x), device=x.device)[:, None]  # (B, 1)
        first = ((frame * side + row) * side + column).flatten()  # (B n,)
        canvas = torch.zeros(3, len(x) * side * side, device=x.device)
        step = SPLATTED_SAMPLES[x.device.type == "cpu"]
        for where, off in zip(first.split(step), offset.split(step), strict=True):
            self._add_windows(canvas, where, off, side)
        inner = slice(margin, margin + self.size)
        return canvas.view(3, len(x), side, side)[..., inner, inner]

    def _add_windows(self, canvas: Tensor, where: Tensor, offset: Tensor, side: int) -> None:
        """Add the windows of some samples, at pixels ``where`` of the canvas and ``offset`` from their centres."""
        widest = max(self.reaches)
        step = torch.arange(-widest, widest + 1, device=canvas.device)  # (W,)
        squared = (step - offset[:, :, None]).square_()  # (samples, 2, W)
        distance = (squared[:, 0, :, None] + squared[:, 1, None, :]).sqrt_()  # (samples, W, W) in pixels
        target = where[:, None, None] + (step[:, None] * side + step)  # (samples, W, W)
        for sums, reach in zip(canvas, self.reaches, strict=True):
            window = slice(widest - reach, widest + reach + 1)
            glow = (distance[:, window, window] * (-5 / (reach * math.sqrt(2)))).exp_()
            sums.scatter_add_(0, target[:, window, window].flatten(), glow.flatten())


def _blank(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros. On a CPU they are NumPy's.

    It takes pages that the system hands out as zeros, huge ones where there are any, while torch writes zeros into
    them once more. That is half the time of a batch of images.
    """
    if device.type == "cpu":
        return torch.from_numpy(np.zeros(shape, dtype=torch.empty(0, dtype=dtype).numpy().dtype))
    return torch.zeros(shape, dtype=dtype, device=device)
