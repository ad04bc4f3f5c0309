"""``data=audio_folder``: the user's own wav and flac files, one class a subfolder or listed in an index CSV.

Legend: B clips of a split, T samples a clip.
"""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from pathlib import Path
from typing import Unpack

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from cvkan.domains.audio.base import AudioData
from cvkan.domains.audio.files import Header, fit_clip, read_header, read_mono
from cvkan.domains.audio.index import Clip, draw_splits, hold_out, read_index, scan_folder
from cvkan.domains.datamodule import SPLITS, Loading, TensorSplit
from cvkan.domains.labels import sort_labels
from cvkan.errors import UserError
from cvkan.spec import Batch, Spec


class LazyClips(Dataset[Batch]):
    """A split whose clips are read when they are asked for; the same samples as a split held in memory."""

    def __init__(self, extents: list[tuple[Path, int, int, int]], y: Tensor, sample_rate_hz: int, n_samples: int):
        self.extents, self.y = extents, y  # extent: file, its rate in Hz, first sample, number of samples
        self.sample_rate_hz, self.n_samples = sample_rate_hz, n_samples

    def __len__(self) -> int:
        return len(self.extents)

    def __getitem__(self, index: int) -> Batch:
        path, rate_hz, start, length = self.extents[index]
        samples = read_mono(path, start, length)
        return {"x": fit_clip(samples, rate_hz, self.sample_rate_hz, self.n_samples), "y": self.y[index]}

    def in_memory(self, description: str) -> TensorSplit:
        """Decode every clip, each file once however many clips it holds."""
        x = torch.empty(len(self), self.n_samples)  # (B, T)
        by_path = defaultdict(list)
        for position, (path, *_) in enumerate(self.extents):
            by_path[path].append(position)
        console = Console(stderr=True)
        for path, positions in track(
            by_path.items(), description, console=console, transient=True, disable=not sys.stderr.isatty()
        ):
            samples = read_mono(path)
            for position in positions:
                _, rate_hz, start, length = self.extents[position]
                x[position] = fit_clip(samples[start : start + length], rate_hz, self.sample_rate_hz, self.n_samples)
        return TensorSplit(x=x, y=self.y)


class AudioFolder(AudioData):
    """Classes of recordings, brought to one rate and length.

    A sample is ``x`` (T,) float32, mono, full scale 1, as loud as recorded, and ``y`` the class number.
    Classes are the subfolders of ``root`` or the labels of the index (see ``index.read_index``), sorted.

    Args:
        root: folder of the files.
        index: name of a CSV table in ``root``; None takes the subfolders as classes.
        sample_rate_hz: rate that all clips are brought to; None takes that of the first file.
        duration_s: length of a sample, s; longer clips lose their end, shorter ones get zeros there.
        clip_s: length of each clip in files of which the index numbers the clips (column ``clip``), s.
        holdout: ``COLUMN:VALUE`` of the index: clips with that value are the test part, other test clips join
            the training part; None keeps the given parts.
        val_fraction: share of the clips for validation, drawn from the training part of each class, where the index
            gives no validation clips.
        test_fraction: likewise for the test part, unless the index or ``holdout`` makes one.
        split_seed: seed of that drawing; not the run's seed, so that all runs are tested on the same clips.
        max_memory_gb: the decoded set is kept in memory up to this size, else clips are read when needed.
        loading: see :class:`~cvkan.domains.datamodule.Loading`.

    Raises:
        UserError: a folder, table, row or file is missing or wrong; the message names it.
    """

    def __init__(
        self,
        *,
        root: str | None,
        index: str | None,
        sample_rate_hz: int | None,
        duration_s: float,
        clip_s: float,
        holdout: str | None,
        val_fraction: float,
        test_fraction: float,
        split_seed: int,
        max_memory_gb: float,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        _check_sizes(sample_rate_hz, duration_s, clip_s, val_fraction, test_fraction)
        folder = existing_folder(root)
        clips = scan_folder(folder) if index is None else read_index(folder, index)
        if holdout is not None:
            clips = hold_out(clips, holdout)
        self.clips = draw_splits(clips, {"val": val_fraction, "test": test_fraction}, split_seed)
        class_names = sort_labels(clip.label for clip in self.clips)
        if len(class_names) < 2:
            raise UserError(f"only one class, {class_names[0]!r}", folder, "Give at least two classes.")
        untrained = set(class_names) - {clip.label for clip in self.clips if clip.split == "train"}
        if untrained:
            names = ", ".join(sorted(untrained))
            raise UserError(f"no training clips of class {names}", folder, "Add some, or leave the class out.")
        self.clip_s, self.max_memory_gb = clip_s, max_memory_gb
        rate_hz = sample_rate_hz if sample_rate_hz is not None else read_header(self.clips[0].path).rate_hz
        self.rate_hz, self.n_samples = rate_hz, round(duration_s * rate_hz)
        self.spec = Spec((self.n_samples,), "classes", len(class_names), class_names, sample_rate_hz=rate_hz)

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        headers = {path: read_header(path) for path in dict.fromkeys(clip.path for clip in self.clips)}
        label_of = {name: k for k, name in enumerate(self.spec.class_names)}
        clips = sorted(self.clips, key=lambda clip: SPLITS.index(clip.split))
        extents = [_extent(clip, headers[clip.path], self.clip_s) for clip in clips]
        y = torch.tensor([label_of[clip.label] for clip in clips])
        if len(clips) * self.n_samples * 4 <= self.max_memory_gb * 1e9:
            whole = LazyClips(extents, y, self.rate_hz, self.n_samples).in_memory("reading audio")
        else:
            whole = None
        splits: dict[str, Dataset[Batch]] = {}
        for name in SPLITS:
            rows = [k for k, clip in enumerate(clips) if clip.split == name]
            part = slice(rows[0], rows[-1] + 1) if rows else slice(0, 0)
            if whole is None:
                splits[name] = LazyClips(extents[part], y[part], self.rate_hz, self.n_samples)
            else:
                splits[name] = TensorSplit(**{key: tensor[part] for key, tensor in whole.tensors.items()})
        return splits

    def fingerprint(self) -> str:
        """SHA-256 of the samples where they are in memory, else of the list of clips and the files' sizes."""
        if isinstance(self.splits["test"], TensorSplit):
            return super().fingerprint()
        digest = hashlib.sha256()
        sizes = {path: path.stat().st_size for path in dict.fromkeys(clip.path for clip in self.clips)}
        for clip in self.clips:
            extent = (clip.start, clip.length, clip.number)
            digest.update(repr((clip.path.name, sizes[clip.path], clip.label, clip.split, *extent)).encode())
        return digest.hexdigest()


def existing_folder(root: str | None) -> Path:
    """``data.root`` as a path.

    Raises:
        UserError: it is not set or not a folder.
    """
    if root is None:
        raise UserError("no folder is given", "data.root", "Set data.root=DIR, the folder that the files are in.")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError("the folder does not exist", f"data.root={root}", "Set data.root to a folder that does.")
    return folder


def _extent(clip: Clip, header: Header, clip_s: float) -> tuple[Path, int, int, int]:
    """File, rate, first sample and number of samples of a clip."""
    start, length = clip.start, clip.length
    if clip.number is not None:
        length = max(round(clip_s * header.rate_hz), 1)
        start = clip.number * length
        if header.frames % length:
            raise UserError(
                f"{header.frames} samples are not a whole number of clips of {length}",
                clip.path,
                "Set data.clip_s.",
            )
    if length is None:
        length = header.frames - start
    if length < 1 or start + length > header.frames:
        raise UserError(
            f"samples {start} to {start + length} of {clip.path} are wanted, it has {header.frames}",
            f"index line {clip.line}",
            "Correct start, length or clip.",
        )
    return clip.path, header.rate_hz, start, length


def _check_sizes(
    sample_rate_hz: int | None, duration_s: float, clip_s: float, val_fraction: float, test_fraction: float
) -> None:
    for name, value in (("sample_rate_hz", sample_rate_hz), ("duration_s", duration_s), ("clip_s", clip_s)):
        if value is not None and value <= 0:
            raise UserError(f"{name} must be positive, got {value}", f"data.{name}", "Set a positive number.")
    if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
        raise UserError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction} leave no training part",
            "data.val_fraction, data.test_fraction",
            "Use shares of 0 or more with a sum below 1.",
        )
