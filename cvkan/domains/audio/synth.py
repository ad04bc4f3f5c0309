"""``data=audio_synth``: ten synthetic words by many speakers, generated in seconds and kept in a cache.

Legend: n clips, T samples.
"""

from __future__ import annotations

import hashlib
import json
from typing import Unpack

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cvkan.domains.audio.base import AudioData
from cvkan.domains.audio.voice import N_SAMPLES, SAMPLE_RATE_HZ, WORDS, Speakers, synthesize
from cvkan.domains.cache import cached_arrays
from cvkan.domains.datamodule import SPLITS, Loading, TensorSplit
from cvkan.errors import UserError
from cvkan.spec import Batch, Spec

VERSION = 1  # of the generated data: raise it with any change to voice.py that alters a sample
CHUNK = 256  # clips generated at once; bounds the memory, not the result's quality


class AudioSynth(AudioData):
    """Spoken words of a small synthesiser; no speaker is in two splits.

    A sample is ``x`` (8000,) float32, one second at 8 kHz, and ``y`` one of ten words, equally frequent.

    Args:
        n_train: clips in the training part; likewise ``n_val`` and ``n_test``.
        n_val: clips in the validation part.
        n_test: clips in the test part.
        n_speakers: speakers in all: 70 % train, 12 % val, the rest test.
        snr_db: range of the speech-to-noise ratio, dB.
        data_seed: seed of the clips; not the run's seed, so that all runs see the same ones.
        loading: see :class:`~cvkan.domains.datamodule.Loading`.

    Raises:
        UserError: a size is out of range.
    """

    def __init__(
        self,
        *,
        n_train: int,
        n_val: int,
        n_test: int,
        n_speakers: int,
        snr_db: tuple[float, float],
        data_seed: int,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        if n_speakers < 10:
            raise UserError(f"n_speakers must be at least 10, got {n_speakers}", "data.n_speakers", "Raise it.")
        if min(n_train, n_val, n_test) < len(WORDS):
            raise UserError(
                f"each split needs at least {len(WORDS)} clips, got {n_train}, {n_val}, {n_test}",
                "data.n_train, data.n_val, data.n_test",
                "Raise the smallest.",
            )
        if len(snr_db) != 2 or snr_db[0] > snr_db[1]:
            raise UserError(f"snr_db must be [low, high], got {list(snr_db)}", "data.snr_db", "Give two numbers.")
        self.sizes = (n_train, n_val, n_test)
        self.n_speakers, self.snr_db, self.data_seed = (
            n_speakers,
            (float(snr_db[0]), float(snr_db[1])),
            data_seed,
        )
        self.spec = Spec((N_SAMPLES,), "classes", len(WORDS), tuple(WORDS), sample_rate_hz=SAMPLE_RATE_HZ)

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        settings = [VERSION, self.sizes, self.n_speakers, self.snr_db, self.data_seed]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        arrays = cached_arrays(f"audio_synth-{key}", self._generate)
        return {
            name: TensorSplit(
                x=torch.from_numpy(arrays[f"{name}_x"]).float() / 32768,
                y=torch.from_numpy(arrays[f"{name}_y"]),
            )
            for name in SPLITS
        }

    def _generate(self) -> dict[str, np.ndarray]:
        """All splits as int16 waveforms (n, T) and int64 words (n,)."""
        generator = torch.Generator().manual_seed(self.data_seed)
        speakers = Speakers.draw(self.n_speakers, generator)
        arrays = {}
        for name, size, members in zip(SPLITS, self.sizes, speaker_split(self.n_speakers), strict=True):
            words = torch.arange(size) % len(WORDS)
            rows = members[torch.randint(len(members), (size,), generator=generator)]
            parts = [
                synthesize(w, speakers.take(r), self.snr_db, generator)
                for w, r in zip(words.split(CHUNK), rows.split(CHUNK), strict=True)
            ]
            arrays[f"{name}_x"] = (torch.cat(parts) * 32767).round().short().numpy()
            arrays[f"{name}_y"] = words.numpy()
        return arrays


def speaker_split(n_speakers: int) -> tuple[Tensor, Tensor, Tensor]:
    """Disjoint speaker numbers of train, val and test; they are drawn alike, so blocks are random parts."""
    n_train, n_val = round(0.7 * n_speakers), round(0.12 * n_speakers)
    train, val, test = torch.arange(n_speakers).split([n_train, n_val, n_speakers - n_train - n_val])
    return train, val, test
