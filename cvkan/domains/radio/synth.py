"""The embedded radio source: frames from the signal generator, drawn as they are needed.

Legend: B batch, n samples of a frame, M modulations, S levels of the SNR.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Unpack

import torch
from torch import Tensor

from cvkan.domains.radio.base import RadioData, RadioLoading, RadioSplit, radio_spec
from cvkan.errors import UserError
from cvkan.radio.bound import Bound, bound_for
from cvkan.radio.generator import FrameGenerator
from cvkan.spec import Batch

FINGERPRINTED = 64  # frames of each part
BOUND_ROLLOFF = [0.1, 0.4]  # of the frames that the shipped tables of the physical limit are about


class RadioSynth(RadioData):
    """Generated I/Q frames. Frame i of a part is a function of (``data_seed``, part, i) alone.

    The pairs of modulation and SNR take turns, so that they are equally frequent in every part.

    Args:
        classes: modulations, of :data:`cvkan.radio.constellations.CLASSES`.
        snr_db: levels in dB.
        generator: constructor of the generator, called with ``classes``.
        n_train: frames of an epoch.
        n_val: frames of the validation part.
        n_test: frames of the test part.
        data_seed: seed of the frames, independent of the run's seed.
        stream: every epoch has new frames; false repeats those of the first.
        loading: see :class:`~cvkan.domains.radio.base.RadioLoading`.

    Raises:
        UserError: a part is too small to hold every pair of modulation and SNR once.
    """

    def __init__(
        self,
        *,
        classes: Sequence[str],
        snr_db: Sequence[float],
        generator: Callable[..., FrameGenerator],
        n_train: int,
        n_val: int,
        n_test: int,
        data_seed: int,
        stream: bool,
        **loading: Unpack[RadioLoading],
    ) -> None:
        super().__init__(**loading)
        # First of all the names and values: the generator can tell best what it does not know.
        self.generator = generator(classes=sorted(classes))
        self.snr_definition = self.generator.snr_definition
        self.spec = radio_spec(classes, snr_db, (self.generator.n_samples,), is_complex=True)
        self.sizes = {"train": n_train, "val": n_val, "test": n_test}
        n_cells = len(self.spec.class_names) * len(self.spec.snr_db)
        for name, size in self.sizes.items():
            if size < n_cells:
                raise UserError(
                    f"n_{name}={size} frames cannot hold each of the {n_cells} pairs of modulation and SNR",
                    f"data.n_{name}",
                    f"Set {n_cells} or more, or name fewer data.classes or data.snr_db.",
                )
        # A limit on the training frames would limit nothing if every epoch had new ones.
        self.data_seed, self.endless = data_seed, stream and self.limit_train is None

    def load_splits(self) -> dict[str, GeneratedSplit]:  # type: ignore[override]
        return {name: self._split(name) for name in self.sizes}

    def _split(self, name: str) -> GeneratedSplit:
        digest = hashlib.sha256(f"{self.data_seed}/{name}".encode()).digest()
        seed = int.from_bytes(digest[:7])
        return GeneratedSplit(self.generator, torch.tensor(self.spec.snr_db), self.sizes[name], seed)

    def fingerprint(self) -> str:
        """SHA-256 of the first frames of every part and the sizes: the frames are generated, none is stored."""
        digest = hashlib.sha256(repr(self.sizes).encode())
        for _, split in sorted(self.splits.items()):
            frames = split.__getitems__(list(range(min(len(split), FINGERPRINTED))))["x"]  # type: ignore[attr-defined, arg-type]
            digest.update(torch.view_as_real(frames).numpy().tobytes())
        return digest.hexdigest()

    def bound(self) -> Bound | None:
        generator = self.generator
        # The tables are of unit power, where the scale says nothing about the SNR, and of these pulses and points.
        pulse = None if generator.rolloff is None else list(generator.rolloff)
        if self.normalization == "none" or pulse not in (None, BOUND_ROLLOFF) or generator.has_other_constellations:
            return None
        return bound_for(
            self.spec.class_names,
            self.spec.snr_db,
            samples_per_symbol=generator.samples_per_symbol,
            snr_definition=generator.snr_definition,
            n_samples=generator.n_samples,
        )


class GeneratedSplit(RadioSplit):
    """Frames generated a batch at a time; an index of ``n`` or more belongs to a later epoch of a stream.

    Args:
        generator: of the frames.
        snr_db: levels (S,) in dB.
        n: frames of an epoch.
        seed: of this part.
    """

    def __init__(self, generator: FrameGenerator, snr_db: Tensor, n: int, seed: int) -> None:
        self.generator, self.snr_db, self.n, self.seed = generator, snr_db, n, seed
        n_cells = len(generator.classes) * len(snr_db)
        # Neighbours differ in both labels, so that the first few samples, which pictures show, are not all of one kind.
        self.stride = next(step for step in range(round(0.62 * n_cells), 2 * n_cells) if math.gcd(step, n_cells) == 1)
        self.labels = self.cells(torch.arange(n))

    def cells(self, index: Tensor) -> Tensor:
        """Labels (B, 2) of the frames ``index`` (B,): the pairs take turns, every epoch in the same order."""
        n_snrs = len(self.snr_db)
        cell = index % self.n * self.stride % (len(self.generator.classes) * n_snrs)
        return torch.stack([cell // n_snrs, cell % n_snrs], dim=1)

    def __getitem__(self, index: int) -> Batch:
        return {name: tensor[0] for name, tensor in self.__getitems__([index]).items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        index = torch.as_tensor(indices)
        y = self.cells(index)
        x = self.generator.frames(y[:, 0], self.snr_db[y[:, 1]], seed=self.seed, index=index)
        return {"x": x, "y": y, "id": index}
