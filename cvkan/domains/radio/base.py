"""What all radio sources share: labels of modulation and SNR, the power of a frame, the curriculum, the baselines.

Legend: B batch, n samples of a frame, M modulations, S levels of the SNR.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, Protocol, Unpack

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from cvkan.domains.datamodule import DataModule, Loading
from cvkan.errors import UserError
from cvkan.radio.bound import Bound
from cvkan.radio.cumulants import cumulants
from cvkan.spec import Batch, Spec

NORMALIZATIONS = ("power", "none", "max")
MAX_SNR = 200  # dB; the power of the noise must stay a number of single precision


class Curriculum(Protocol):
    """Which SNRs an epoch draws how often."""

    def weights(self, epoch: int, snr_index: Tensor, n_snrs: int) -> Tensor:
        """Weights (n,) of samples by their SNR index (n,)."""


class RadioSplit(Dataset[Batch]):
    """A part of a radio source. ``labels`` (n, 2) int64 holds the indices of modulation and SNR of every sample.

    Samples are dicts of ``x``, ``y`` (2,) and ``id``, the number of the frame in its source.
    """

    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class RadioLoading(Loading):
    """Arguments that every radio source takes and hands on to :class:`RadioData`.

    Attributes:
        normalization: of a frame of I/Q samples. ``power`` divides it by its root mean square, ``none`` keeps the
            scale. ``max`` divides by the largest magnitude, which takes the SNR out of the picture of noisy frames and
            is here to show that.
        curriculum: which SNRs an epoch draws how often; None draws each sample once.
    """

    normalization: str
    curriculum: NotRequired[Curriculum | None]


class RadioData(DataModule):
    """Base of the radio sources. A subclass sets ``spec`` by :func:`radio_spec` and loads :class:`RadioSplit` parts.

    Args:
        normalization, curriculum: see :class:`RadioLoading`.
        loading: see :class:`~cvkan.domains.datamodule.Loading`.

    Raises:
        UserError: unknown normalization.
    """

    snr_definition: str | None = None  # what the SNR of the labels means, es_n0 or sample; None where nobody has said

    def __init__(self, *, normalization: str, curriculum: Curriculum | None = None, **loading: Unpack[Loading]) -> None:
        super().__init__(**loading)
        if normalization not in NORMALIZATIONS:
            raise UserError(
                f"unknown normalization {normalization}",
                "data.normalization",
                f"Choose one of: {', '.join(NORMALIZATIONS)}.",
            )
        self.normalization, self.curriculum = normalization, curriculum

    def preprocess(self, batch: Batch) -> Batch:
        if not batch["x"].is_complex():
            return batch
        return {**batch, "x": normalized(batch["x"], self.normalization)}

    def classes(self, batch: Batch) -> Tensor:
        return batch["y"][:, 0]

    def summary(self, batch: Batch) -> Tensor | None:
        return cumulants(batch["x"]) if batch["x"].is_complex() else None

    def sample_weights(self, epoch: int) -> Tensor | None:
        if self.curriculum is None:
            return None
        return self.curriculum.weights(epoch, labels_of(self.splits["train"])[:, 1], len(self.spec.snr_db))

    def bound(self) -> Bound | None:
        """Accuracy that no classifier of these frames can exceed on average; None where it is not known."""
        return None

    def check_cells(self, part: str, labels: Tensor) -> None:
        """Every pair of modulation and SNR has a sample, or nobody could learn it, or know how well it was learned.

        Args:
            part: ``train``, ``val`` or ``test``.
            labels: (n, 2) of the part.

        Raises:
            UserError: one has none.
        """
        names, levels = self.spec.class_names, self.spec.snr_db
        counts = torch.bincount(labels[:, 0] * len(levels) + labels[:, 1], minlength=len(names) * len(levels))
        empty = (counts == 0).nonzero().flatten().tolist()
        if empty:
            first = f"{names[empty[0] // len(levels)]} at {levels[empty[0] % len(levels)]:g} dB"
            raise UserError(
                f"{len(empty)} of {len(counts)} pairs of modulation and SNR have no sample in the {part} part, such as "
                f"{first}",
                "data",
                "Add frames, or leave that class or SNR out with data.classes or data.snr_db.",
            )

    def check_splits(self) -> None:
        super().check_splits()
        for name, split in self.splits.items():
            self.check_cells(name, labels_of(split))

    def facts(self, drawing: dict[str, Any] | None) -> dict[str, Any]:
        image = None if drawing is None else {**drawing, "normalization": self.normalization}
        return {**super().facts(drawing), "snr_definition": self.snr_definition, "image": image}


def radio_spec(classes: Sequence[str], snr_db: Sequence[float], input_shape: tuple[int, ...], is_complex: bool) -> Spec:
    """The spec of a radio source: modulations sorted as strings, SNRs ascending.

    Args:
        classes: names of the modulations.
        snr_db: levels in dB.
        input_shape: of a sample: (n,) I/Q samples or (C, H, W) pixels.
        is_complex: samples are I/Q.

    Raises:
        UserError: one of them is named twice or there is none, names differ in their case alone, or a level is out of
            range.
    """
    for name, values in {"classes": classes, "snr_db": snr_db}.items():
        if not values or len(set(values)) != len(values):
            raise UserError(f"{name} names nothing or one thing twice", f"data.{name}", "List each one once.")
    by_name: dict[str, str] = {}
    for name in classes:
        if (other := by_name.setdefault(name.casefold(), name)) != name:
            raise UserError(
                f"the classes {other} and {name} differ in their case alone",
                "data.classes",
                "Spell them alike, or choose one of them.",
            )
    absurd = [level for level in snr_db if not -MAX_SNR <= level <= MAX_SNR]
    if absurd:
        raise UserError(f"an SNR is {absurd[0]} dB", "data.snr_db", f"Give levels from -{MAX_SNR} to {MAX_SNR} dB.")
    return Spec(
        input_shape=input_shape,
        target="modulation_snr",
        n_outputs=len(classes) + len(snr_db),
        class_names=tuple(sorted(classes)),
        is_complex=is_complex,
        snr_db=tuple(sorted(float(level) for level in snr_db)),
    )


def normalized(x: Tensor, normalization: str) -> Tensor:
    """Frames (B, n) complex64 by one real factor each; a frame of zeros stays one."""
    if normalization == "none":
        return x
    magnitude = x.abs()
    if normalization == "power":
        scale = magnitude.square().mean(dim=-1, keepdim=True).sqrt()  # (B, 1)
    else:
        scale = magnitude.amax(dim=-1, keepdim=True)  # (B, 1)
    return x / scale.clamp_min(torch.finfo(torch.float32).tiny)


def labels_of(split: Dataset[Batch]) -> Tensor:
    """Labels (n, 2) of a part, also of one that was cut down to some of its samples."""
    if isinstance(split, Subset):
        return labels_of(split.dataset)[split.indices]
    assert isinstance(split, RadioSplit)
    return split.labels
