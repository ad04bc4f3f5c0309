"""Radio frames as a function of (modulation, SNR, seed, number): no file, no state, whole batches at once.

Legend: B frames, n samples of a frame, K symbols, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cvkan.radio import analog, channel, waveform
from cvkan.radio.channel import Fading, Multipath, made
from cvkan.radio.constellations import CLASSES, WITHOUT_CONSTELLATION, constellation
from cvkan.radio.random import FrameRandom

SNR_DEFINITIONS = ("es_n0", "sample")
CHUNK = 128  # frames at a time on a CPU: with more, the intermediate results leave the cache
MAX_SAMPLES = 2**20  # of a frame
CLOCK_LIMIT = 5.0  # standard deviations at which the clock offset is cut off, to know how many samples it needs


@dataclass(frozen=True, kw_only=True)
class FrameGenerator:
    """Frames of known modulation and signal-to-noise ratio.

    Transmitter (pulse shape, timing) -> clock offset -> multipath -> fading -> carrier offset -> phase -> noise. What
    is switched off is left out. All classes have a mean transmit power of 1. N0 is set from the power measured after
    the channel, so fading does not change the SNR of a frame.

    Args:
        classes: names of modulations; the index into them is the modulation of a frame.
        n_samples: samples of a frame, n.
        samples_per_symbol: sps; 1 gives the symbols themselves, without pulse (OQPSK then is QPSK).
        rolloff: [low, high], the range in [0, 1] that a frame's roll-off is drawn from; None where sps is 1.
        span: length of the pulse each side, in symbols; None where sps is 1.
        random_phase: turn each frame by a uniform phase.
        random_timing: sample each frame's symbols late by a uniform part of the symbol period, else at their peaks.
        carrier_offset_std: standard deviation of the carrier offset in cycles a sample; 0 for none.
        clock_offset_std: standard deviation of the relative offset of the sampling clock (cut off at five of them); 0
            for none.
        fading: arguments of :class:`~cvkan.radio.channel.Fading`: a gain a frame; None for none.
        multipath: arguments of :class:`~cvkan.radio.channel.Multipath`: delayed paths; None for none.
        snr_definition: ``es_n0``: the SNR is Es/N0, N0 = sps P / 10^(snr/10); ``sample``: it is the SNR of a sample,
            N0 = P / 10^(snr/10). The first is the second plus 10 log10(sps) dB.
        constellations: options of :func:`~cvkan.radio.constellations.constellation`.

    Raises:
        ValueError: a value is out of range, or cannot take effect.
        TypeError: ``constellations`` has other arguments.
    """

    classes: Sequence[str]
    n_samples: int
    samples_per_symbol: int
    rolloff: Sequence[float] | None
    span: int | None
    random_phase: bool
    random_timing: bool
    carrier_offset_std: float
    clock_offset_std: float
    fading: Mapping[str, Any] | None
    multipath: Mapping[str, Any] | None
    snr_definition: str
    constellations: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [name for name in self.classes if name not in CLASSES]
        if unknown:
            raise ValueError(f"unknown modulation {unknown[0]!r}; choose among {', '.join(CLASSES)}")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes are {list(self.classes)}; name at least one, and none twice")
        if self.samples_per_symbol < 1 or not 2 * self.samples_per_symbol <= self.n_samples <= MAX_SAMPLES:
            raise ValueError(
                f"n_samples is {self.n_samples} and samples_per_symbol {self.samples_per_symbol}; "
                f"give positive numbers that make at least two symbols, and at most {MAX_SAMPLES} samples"
            )
        if not 0 <= self.carrier_offset_std < 0.5:
            raise ValueError(f"carrier_offset_std is {self.carrier_offset_std}; give cycles a sample in [0, 0.5)")
        if not 0 <= self.clock_offset_std <= 0.01:
            raise ValueError(f"clock_offset_std is {self.clock_offset_std}; give a relative offset in [0, 0.01]")
        if self.snr_definition not in SNR_DEFINITIONS:
            raise ValueError(f"unknown snr_definition {self.snr_definition!r}; choose es_n0 or sample")
        self._check_pulse()
        _ = self._fading, self._multipath, self._tables  # made now, to refuse wrong values

    def _check_pulse(self) -> None:
        """What belongs to a pulse is given if and only if there is one, and samples are dense enough for it."""
        if self.samples_per_symbol == 1:
            if self.rolloff is not None or self.span is not None or self.random_timing or self.clock_offset_std:
                raise ValueError(
                    "samples_per_symbol is 1, where there is no pulse; "
                    "set rolloff and span to null, random_timing to false and clock_offset_std to 0"
                )
        elif self.rolloff is None or self.span is None:
            raise ValueError("rolloff and span must be given for a pulse; set both, or samples_per_symbol to 1")
        elif len(self.rolloff) != 2 or not 0 <= self.rolloff[0] <= self.rolloff[1] <= 1:
            raise ValueError(f"rolloff is {list(self.rolloff)}; give [low, high] within 0 and 1")
        elif self.span < 1:
            raise ValueError(f"span is {self.span}; give symbols, 1 or more")
        dense = {"clock_offset_std": self.clock_offset_std > 0}
        dense |= {name: name in self.classes for name in WITHOUT_CONSTELLATION}
        for what in (name for name, wanted in dense.items() if wanted and self.samples_per_symbol < 4):
            raise ValueError(f"{what} needs at least 4 samples_per_symbol, got {self.samples_per_symbol}; raise it")

    def frames(self, modulation: Tensor, snr_db: Tensor, seed: int, index: Tensor) -> Tensor:
        """Received frames, the same for the same arguments of a frame, whatever else is in the batch.

        Args:
            modulation: indices into ``classes``, (B,) int64.
            snr_db: SNRs in dB by ``snr_definition``, (B,).
            seed: seed of the data set.
            index: numbers of the frames in it, (B,) int64. Frames of one number share all their randomness, so give
                each number once.

        Returns:
            (B, n) complex64 on the device of ``index``.

        Raises:
            ValueError: the arguments differ in length.
        """
        if not modulation.shape == snr_db.shape == index.shape:
            shapes = [tuple(values.shape) for values in (modulation, snr_db, index)]
            raise ValueError(f"modulation, snr_db and index have shapes {shapes}; give one of each a frame")
        chunk = CHUNK if index.device.type == "cpu" else max(len(index), 1)
        parts = zip(modulation.split(chunk), snr_db.split(chunk), index.split(chunk), strict=True)
        samples_per_energy = {"es_n0": self.samples_per_symbol, "sample": 1}[self.snr_definition]
        received = torch.empty(len(index), self.n_samples, dtype=torch.complex64, device=index.device)
        for out, (classes, snr, rows) in zip(received.split(chunk), parts, strict=True):
            noise = FrameRandom(seed, rows).complex_normal("noise", self.n_samples)
            out.copy_(channel.add_noise(self.clean(classes, seed, rows), snr, noise, samples_per_energy))
        return received

    def clean(self, modulation: Tensor, seed: int, index: Tensor) -> Tensor:
        """The frames before noise is added, (B, n) complex64; for the arguments see :meth:`frames`."""
        random = FrameRandom(seed, index)
        before, after = self._margins
        x = self._transmitted(modulation, random, before + self.n_samples + after)
        if self.clock_offset_std:
            offset = random.normal("clock offset").clamp_(-CLOCK_LIMIT, CLOCK_LIMIT) * self.clock_offset_std
            x = channel.resample(x, offset, self._clock_margin)
        if self._multipath is not None:
            x = self._multipath.apply(x, random)
        if self._fading is not None:
            x = x * self._fading.gains(random)
        if self.carrier_offset_std:
            x = x * channel.carrier_turn(self.carrier_offset_std * random.normal("carrier offset"), self.n_samples)
        if self.random_phase:
            x = x * channel.turn(2 * math.pi * random.uniform("phase"))[:, None]
        return x

    def pulse(self, random: FrameRandom) -> tuple[Tensor, Tensor]:
        """Roll-off and timing in symbol periods that frames were sent with, each (B,) float32.

        Raises:
            ValueError: sps is 1.
        """
        if self.rolloff is None:
            raise ValueError("frames of one sample a symbol have no pulse; raise samples_per_symbol")
        low, high = self.rolloff
        timing = random.uniform("timing") if self.random_timing else torch.zeros_like(random.index, dtype=torch.float32)
        return low + (high - low) * random.uniform("roll-off"), timing

    def symbols(self, modulation: Tensor, random: FrameRandom, n_symbols: int) -> Tensor:
        """The first symbols of the frames, (B, K) complex64, zeros for classes without a constellation.

        Where sps > 1, symbol k is at its peak at sample sps (k - span - timing), in frames without clock offset and
        multipath (which need samples before the first); the Q rail of OQPSK half a symbol later.
        """
        points, sizes = self._points.to(random.index.device), self._sizes.to(random.index.device)
        choice = random.integers("symbols", sizes[modulation], n_symbols)  # (B, K)
        return points.take(choice.add_(modulation[:, None] * points.shape[1]))

    def _transmitted(self, modulation: Tensor, random: FrameRandom, n_samples: int) -> Tensor:
        """Frames (B, n_samples) as they leave the transmitter."""
        x = self._linear(modulation, random, n_samples)
        for position, name in enumerate(self.classes):
            if name in WITHOUT_CONSTELLATION:
                rows = (modulation == position).nonzero().squeeze(1)
                if not len(rows):  # no transform of nothing
                    continue
                x[rows] = self._nonlinear(name, random.take(rows), n_samples)
        return x

    def _linear(self, modulation: Tensor, random: FrameRandom, n_samples: int) -> Tensor:
        """Frames of the classes with a constellation; zeros for the others."""
        if self.span is None:
            return self.symbols(modulation, random, n_samples)
        rolloff, timing = self.pulse(random)
        return waveform.linear_frames(
            self.symbols(modulation, random, waveform.n_symbols(n_samples, self.samples_per_symbol, self.span)),
            rolloff,
            timing,
            self._rail_delay.to(random.index.device)[modulation],
            n_samples=n_samples,
            samples_per_symbol=self.samples_per_symbol,
            span=self.span,
        )

    def _nonlinear(self, name: str, random: FrameRandom, n_samples: int) -> Tensor:
        """Frames of one class without a constellation."""
        sps = self.samples_per_symbol
        if name == "GMSK":
            bits = 2.0 * random.integers("symbols", 2, waveform.n_symbols(n_samples, sps, waveform.GMSK_SPAN)) - 1
            return waveform.gmsk_frames(bits, self.pulse(random)[1], n_samples=n_samples, samples_per_symbol=sps)
        message = analog.analytic_message(random, n_samples=n_samples, samples_per_symbol=sps)
        return analog.modulators(sps)[name](message)

    @cached_property
    def _fading(self) -> Fading | None:
        return None if self.fading is None else made(Fading, "fading", self.fading)

    @cached_property
    def _multipath(self) -> Multipath | None:
        return None if self.multipath is None else made(Multipath, "multipath", self.multipath)

    @cached_property
    def _tables(self) -> list[Tensor]:
        """Points (M,) of each class; a zero for those without."""
        none = torch.zeros(1, dtype=torch.complex128)
        return [
            none if name in WITHOUT_CONSTELLATION else constellation(name, **self.constellations)
            for name in self.classes
        ]

    @property
    def has_other_constellations(self) -> bool:
        """Some class has other points than those that are usual for it."""
        usual = {name: constellation(name) for name in self.classes if name not in WITHOUT_CONSTELLATION}
        tables = dict(zip(self.classes, self._tables, strict=True))
        return any(not torch.equal(tables[name], points) for name, points in usual.items())

    @cached_property
    def _points(self) -> Tensor:
        """Constellations (C, largest M) complex64, padded with zeros."""
        return pad_sequence(self._tables, batch_first=True).to(torch.complex64)

    @cached_property
    def _sizes(self) -> Tensor:
        """How many points each class has, (C,) int64."""
        return torch.tensor([len(points) for points in self._tables])

    @cached_property
    def _rail_delay(self) -> Tensor:
        """Delay of the Q rail of each class in symbol periods, (C,) float32."""
        return torch.tensor([0.5 if name == "OQPSK" else 0.0 for name in self.classes])

    @cached_property
    def _clock_margin(self) -> int:
        """Samples that the clock offset needs on each side of what multipath needs."""
        if not self.clock_offset_std:
            return 0
        n_samples = self.n_samples + (sum(self._multipath.margins) if self._multipath is not None else 0)
        return math.ceil(CLOCK_LIMIT * self.clock_offset_std * n_samples / 2) + channel.INTERPOLATION_MARGIN

    @property
    def _margins(self) -> tuple[int, int]:
        """Samples to transmit before and after the frame."""
        before, after = self._multipath.margins if self._multipath is not None else (0, 0)
        return before + self._clock_margin, after + self._clock_margin
