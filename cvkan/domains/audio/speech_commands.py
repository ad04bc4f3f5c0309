"""``data=speech_commands``: Speech Commands v0.02, 35 words, with its official split lists.

Legend: T samples a clip.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import torch
from torch.utils.data import Dataset

from cvkan.domains.audio.base import AudioData
from cvkan.domains.audio.files import fit_clip, read_mono
from cvkan.domains.datamodule import Loading
from cvkan.errors import DataUnavailableError, UserError
from cvkan.spec import Batch, Spec

if TYPE_CHECKING:
    from torchaudio.datasets import SPEECHCOMMANDS

VERSION = "speech_commands_v0.02"
SAMPLE_RATE_HZ, N_SAMPLES = 16000, 16000
SUBSETS = {"train": "training", "val": "validation", "test": "testing"}
SPLIT_SIZES = {"train": 84_843, "val": 9_981, "test": 11_005}
# fmt: off
WORDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow",
    "forward", "four", "go", "happy", "house", "learn", "left", "marvin", "nine",
    "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop",
    "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)
# fmt: on


class SpokenWords(Dataset[Batch]):
    """One official part; clips are read when asked for (loader processes do it beside the training)."""

    def __init__(self, dataset: SPEECHCOMMANDS, archive: Path) -> None:
        # The metadata are kept as plain lists: 100,000 file names, parsed once.
        rows = [dataset.get_metadata(i) for i in range(len(dataset))]
        self.paths = [archive / row[0] for row in rows]
        unknown = {row[2] for row in rows} - set(WORDS)
        if unknown:
            raise UserError(
                f"unknown words {', '.join(sorted(unknown))}",
                archive,
                "Use data=audio_folder for other sets.",
            )
        label_of = {word: k for k, word in enumerate(WORDS)}
        self.y = torch.tensor([label_of[row[2]] for row in rows], dtype=torch.long)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Batch:
        samples = read_mono(self.paths[index])
        return {"x": fit_clip(samples, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ, N_SAMPLES), "y": self.y[index]}


class SpeechCommands(AudioData):
    """Speech Commands, version 0.02: one of 35 words a clip; the speakers of the parts are disjoint.

    A sample is ``x`` (16000,) float32, one second at 16 kHz (shorter clips end in zeros), and ``y`` the
    number of the word, in alphabetical order. The files are where torchaudio keeps them, in
    ``ROOT/SpeechCommands/speech_commands_v0.02``.

    Args:
        root: folder that holds ``SpeechCommands``, or gets it.
        download: fetch the set (2.3 GB) where it is missing.
        check_sizes: refuse a set whose parts are not the official 84,843 / 9,981 / 11,005 clips.
        loading: see :class:`~cvkan.domains.datamodule.Loading`.

    Raises:
        DataUnavailableError: the set is not there, or could not be fetched.

    Source: P. Warden, Speech Commands, arXiv:1804.03209.
    """

    def __init__(
        self,
        *,
        root: str | None,
        download: bool,
        check_sizes: bool,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        if root is None:
            raise UserError("no folder is given", "data.root", "Set data.root=DIR, the folder of SpeechCommands.")
        self.root, self.download, self.check_sizes = Path(root).expanduser(), download, check_sizes
        self.folder = self.root / "SpeechCommands" / VERSION
        self.spec = Spec((N_SAMPLES,), "classes", len(WORDS), WORDS, sample_rate_hz=SAMPLE_RATE_HZ)

    def prepare_data(self) -> None:
        """Fetch the set where it is missing and that is asked for."""
        if self.folder.is_dir():
            return
        if not self.download:
            raise DataUnavailableError(
                "Speech Commands is not there",
                self.folder,
                "Correct data.root, or set data.download=true to fetch 2.3 GB, or use data=audio_synth.",
            )
        from torchaudio.datasets import SPEECHCOMMANDS

        # Unpacked aside and renamed when whole: an interrupted download must not pass for the set.
        staging = self.root / "SpeechCommands.part"
        try:
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir(parents=True)
            SPEECHCOMMANDS(staging, VERSION, download=True)  # checks the archive's SHA-256
            self.folder.parent.mkdir(exist_ok=True)
            os.replace(staging / "SpeechCommands" / VERSION, self.folder)
        except (OSError, EOFError, RuntimeError) as error:  # URLError is an OSError
            raise DataUnavailableError(
                f"could not fetch Speech Commands: {error}",
                self.root,
                "Check the network and the free space, or use data=audio_synth.",
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        from torchaudio.datasets import SPEECHCOMMANDS

        splits: dict[str, Dataset[Batch]] = {}
        digest = hashlib.sha256(VERSION.encode())
        try:
            for name, part in SUBSETS.items():
                split = SpokenWords(SPEECHCOMMANDS(self.root, VERSION, subset=part), self.folder.parent)
                digest.update(f"{name}\n".encode() + "\n".join(p.name for p in split.paths).encode())
                splits[name] = split
        except FileNotFoundError as error:
            raise UserError(
                "a split list of Speech Commands is missing",
                error.filename,
                "Delete the folder and fetch the set again.",
            ) from error
        sizes = {name: len(split) for name, split in splits.items()}  # type: ignore[arg-type]
        if self.check_sizes and sizes != SPLIT_SIZES:
            raise UserError(
                f"Speech Commands is not complete: {sizes}, expected {SPLIT_SIZES}",
                self.folder,
                "Delete the folder and fetch it again, or set data.check_sizes=false to use what is there.",
            )
        self._digest = digest.hexdigest()
        return splits

    def fingerprint(self) -> str:
        """SHA-256 of the version and of the file names of each part."""
        return self._digest
