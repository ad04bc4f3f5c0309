"""What ``cvkan-data inspect`` tells about a data source: the facts a person asks for before training on it.

Legend: B batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from cvkan.domains.datamodule import DataModule, collate
from cvkan.domains.radio.base import RadioData, labels_of
from cvkan.domains.radio.stored import StoredRadio

N_LOOKED_AT = 256  # samples that the measured rows are taken from


def facts(data: DataModule) -> Iterator[tuple[str, str]]:
    """Name and value of everything that is known about a source whose splits are loaded."""
    spec = data.spec
    yield "source", type(data).__name__
    if isinstance(data, StoredRadio):
        yield "layout", str(data.layout())
    yield "sample", f"{'complex ' if spec.is_complex else ''}{' x '.join(map(str, spec.input_shape))}"
    if spec.sample_rate_hz is not None:
        yield "sample rate", f"{spec.sample_rate_hz} Hz"
    if spec.class_names:
        yield f"{len(spec.class_names)} classes", ", ".join(spec.class_names)
    if spec.channels:
        yield f"{len(spec.channels)} channels", ", ".join(spec.channels)
    if spec.vocabulary:
        yield "vocabulary", f"{len(spec.vocabulary)} words"
    if spec.snr_db:
        yield f"{len(spec.snr_db)} SNRs", f"{', '.join(f'{level:g}' for level in spec.snr_db)} dB"
    for name, split in data.splits.items():
        yield f"{name} samples", str(len(split))  # type: ignore[arg-type]
    if isinstance(data, RadioData):
        yield "a pair of class and SNR", _cell_sizes(data)
        yield "snr_definition", data.snr_definition or "nobody has said"
    if isinstance(data, StoredRadio) and spec.is_complex:
        yield "NaN or infinite samples", f"in none of the {len(data.frames)} frames"
    yield from _measured(data)
    yield "fingerprint", data.fingerprint()


def _cell_sizes(data: RadioData) -> str:
    """Samples of the smallest and the largest cell, all parts together."""
    labels = torch.cat([labels_of(split) for split in data.splits.values()])
    n_snrs = len(data.spec.snr_db)
    counts = torch.bincount(labels[:, 0] * n_snrs + labels[:, 1], minlength=len(data.spec.class_names) * n_snrs)
    least, most = int(counts.min()), int(counts.max())
    return f"{most} samples" if least == most else f"{least} to {most} samples"


def _measured(data: DataModule) -> Iterator[tuple[str, str]]:
    """Type and power of the first samples as they are stored, before any normalisation."""
    loader = DataLoader(data.splits["train"], batch_size=N_LOOKED_AT, collate_fn=collate)
    x = next(iter(loader))["x"]
    yield "stored as", str(x.dtype).removeprefix("torch.")
    if x.is_complex() or x.is_floating_point():
        power = x.abs().square().flatten(1).mean(1)  # (B,)
        yield f"power of {len(power)} samples", f"{power.min():.4g} to {power.max():.4g}, mean {power.mean():.4g}"
