"""Random numbers that are a function of (seed, frame, name): no state, no order of draws, any frame at any time.

A generator with a state would tie a frame to all frames drawn before it. Here every number is a hash of its address, so
a data set of any size needs no file, and a frame is the same in every batch, order, process and split.

Legend: B frames, n numbers of a frame.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import torch
from torch import Tensor

# Odd 64-bit constants, as signed integers.
GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2^64 over the golden ratio
MULTIPLIER = 0xD6E8FEB86659FD93 - 2**64


class FrameRandom:
    """Random numbers of a batch of frames.

    word(stream, frame, c) = mix(mix(key(seed, stream) + g frame) + g c), g = 2^64 / golden ratio and c = 0 ... n - 1
    the place of the number. Streams of other names are independent. Asking twice for one stream gives the same numbers
    again.

    Args:
        seed: any integer.
        index: numbers of the frames, (B,) int64; the results are on its device.

    Raises:
        ValueError: ``index`` has another shape or dtype.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, hash addresses instead of stepping a
    state. The mixed multiples of g are splitmix64 of Steele, Lea and Flood, OOPSLA 2014, with another mixer, known as
    degski64; ours passes the same tests.
    """

    def __init__(self, seed: int, index: Tensor) -> None:
        if index.dtype != torch.int64 or index.dim() != 1:
            raise ValueError(
                f"index has shape {tuple(index.shape)} and dtype {index.dtype}; give frame numbers (B,) int64"
            )
        self.seed, self.index = seed, index

    def take(self, rows: Tensor) -> FrameRandom:
        """The numbers of some of the frames, given their places in the batch (int64) or a mask (B,)."""
        return FrameRandom(self.seed, self.index[rows])

    def words(self, stream: str, *shape: int) -> Tensor:
        """64 random bits each: (B, *shape) int64."""
        keys = _mix(GOLDEN * self.index + _stream_key(self.seed, stream))  # (B,)
        places = GOLDEN * torch.arange(math.prod(shape), device=self.index.device)  # (n,)
        words = torch.empty(len(keys), len(places), dtype=torch.int64, device=keys.device)
        return _mix(torch.add(keys[:, None], places, out=words)).view(len(keys), *shape)

    def uniform(self, stream: str, *shape: int) -> Tensor:
        """Uniform in the open interval (0, 1): (B, *shape) float32, in odd multiples of 2^-24."""
        # 23 bits: with 24, the largest value plus a half would round to 1.
        return _top_bits(self.words(stream, *shape), 23).float().add_(0.5).mul_(2.0**-23)

    def integers(self, stream: str, high: int | Tensor, *shape: int) -> Tensor:
        """Uniform in 0 ... high - 1: (B, *shape) int64; ``high`` at most 2^31, one number or one a frame (B,).

        A value's probability is off by at most 2^-31.
        """
        if isinstance(high, Tensor):
            high = high.view(len(high), *(1 for _ in shape))
        return _top_bits(self.words(stream, *shape), 31).mul_(high).bitwise_right_shift_(31)

    def complex_normal(self, stream: str, *shape: int) -> Tensor:
        """Circular complex normal, E|x|^2 = 1: (B, *shape) complex64.

        Box-Muller: sqrt(-log u) cos(pi v) and sqrt(-log u) sin(pi v), u in (0, 1] and v in [-1, 1], one pair from the
        two 32-bit halves of each word. The largest magnitude of a part is 4.7, which one in 1e10 should exceed.
        """
        n = math.prod(shape)
        # All cosines stand before all sines, and those of a pair in different numbers: contiguous rows are fastest.
        parts = self.words(stream, n).view(torch.int32).float()  # (B, 2 n), in [-2^31, 2^31]
        first, second = parts[:, :n], parts[:, n:]
        radius = first.abs().add_(0.5).mul_(2.0**-31).log_().mul_(-1).sqrt_()
        angle = second * (math.pi * 2.0**-31)
        torch.mul(torch.cos(angle), radius, out=first)
        torch.mul(angle.sin_(), radius, out=second)
        return torch.view_as_complex(parts.view(len(parts), *shape, 2))

    def normal(self, stream: str, *shape: int) -> Tensor:
        """Normal of mean 0 and variance 1: (B, *shape) float32."""
        return math.sqrt(2) * self.complex_normal(stream, *shape).real


@lru_cache(maxsize=1024)
def _stream_key(seed: int, stream: str) -> int:
    """A signed 64-bit key of a seed and a name."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:8], signed=True)


def _mix(z: Tensor) -> Tensor:
    """A bijection of 64-bit words, in place: z ^= z >> 32, three times, with a product in between.

    torch has no unsigned shift; one by 32 is an operation on halves, which takes a third of a shift and a mask.
    """
    halves = z.view(torch.int32).view(*z.shape, 2)
    low, high = halves[..., 0], halves[..., 1]
    low.bitwise_xor_(high)
    z.mul_(MULTIPLIER)
    low.bitwise_xor_(high)
    z.mul_(MULTIPLIER)
    low.bitwise_xor_(high)
    return z


def _top_bits(z: Tensor, n_bits: int) -> Tensor:
    """The upper bits of words as numbers 0 ... 2^n_bits - 1."""
    return z.bitwise_right_shift(64 - n_bits).bitwise_and_((1 << n_bits) - 1)
