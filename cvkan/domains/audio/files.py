"""Reading wav and flac files as mono waveforms of one rate and length, with errors that name the file.

soundfile (libsndfile) reads both formats by itself; FFmpeg and torchcodec are not needed.

Legend: n samples read, T samples wanted, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from cvkan.errors import UserError

SUFFIXES = (".wav", ".flac")
# Sizes that recorders write into a wav header when they stream and cannot know the length.
UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)


@dataclass(frozen=True)
class Header:
    """Sampling rate in Hz and number of samples (per channel) of a file."""

    rate_hz: int
    frames: int


def read_header(path: Path) -> Header:
    """Rate and length of an audio file, without decoding it.

    Raises:
        UserError: the file is missing, not audio, empty or (wav) cut short.
    """
    if not path.is_file():
        raise UserError("audio file not found", path, "Check data.root and the file names of the index.")
    try:
        info = soundfile.info(str(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error
    if path.suffix.lower() == ".wav":
        _refuse_truncated_wav(path)
    if info.frames == 0:
        raise UserError("the audio file holds no samples", path, "Delete or replace it.")
    return Header(info.samplerate, info.frames)


def read_mono(path: Path, start: int = 0, frames: int | None = None) -> Tensor:
    """Samples of a file, channels averaged.

    Args:
        path: wav or flac file.
        start: first sample to read.
        frames: number of samples to read; None reads to the end.

    Returns:
        (n,) float32, full scale = 1.

    Raises:
        UserError: the file cannot be decoded, ends early, or holds NaN or infinite samples.
    """
    try:
        with soundfile.SoundFile(str(path)) as file:
            expected = file.frames - start if frames is None else frames
            file.seek(start)
            samples = file.read(expected, dtype="float32", always_2d=True)  # (n, C)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from error
    if len(samples) != expected:
        raise UserError(
            f"the audio file ends after {len(samples)} of {expected} samples",
            path,
            "Replace the truncated file.",
        )
    if not np.isfinite(samples).all():
        raise UserError("the audio file holds NaN or infinite samples", path, "Replace or delete it.")
    return torch.from_numpy(samples[:, 0] if samples.shape[1] == 1 else samples.mean(1))


def fit_clip(samples: Tensor, rate_hz: int, sample_rate_hz: int, n_samples: int) -> Tensor:
    """Resample to ``sample_rate_hz``, then keep the first ``n_samples``, zeros after a shorter clip.

    Args:
        samples: (n,) float32 at ``rate_hz``.
        rate_hz: rate of ``samples``.
        sample_rate_hz: rate of the result.
        n_samples: length of the result.

    Returns:
        (T,) float32. Levels stay as recorded: the embedding of a model takes care of them.
    """
    if rate_hz != sample_rate_hz:
        from torchaudio.functional import resample

        # A second more than is kept would be resampled for nothing in a long recording.
        samples = resample(samples[: (n_samples * rate_hz) // sample_rate_hz + rate_hz], rate_hz, sample_rate_hz)
    clip = samples.new_zeros(n_samples)
    kept = samples[:n_samples]
    clip[: len(kept)] = kept
    return clip


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "error_string", str(error)).rstrip(".")
    return UserError(f"cannot read the audio file: {reason}", path, "Replace it by a valid wav or flac file.")


def _refuse_truncated_wav(path: Path) -> None:
    """libsndfile reads what is left of a truncated wav without a word; the header still knows better."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":  # big-endian and 64-bit variants are left to libsndfile
            return
        file.seek(12)
        while len(head := file.read(8)) == 8:
            length = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                if length not in UNKNOWN_SIZES and file.tell() + length > size:
                    raise UserError(
                        f"the wav file is truncated: it holds {size - file.tell()} of {length} bytes",
                        path,
                        "Replace or delete it.",
                    )
                return
            file.seek(length + length % 2, 1)
