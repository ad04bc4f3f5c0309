"""The best accuracy that is possible: the Bayes-optimal classifier of modulation and SNR, by Monte Carlo.

It knows all that :mod:`cvkan.radio.likelihood` takes for known. So it is an upper bound for classifiers that have to
find out the phase, the timing or the pulse, or that see frames with more than white noise in them.

Legend: B frames, C classes, S levels of SNR, H of them hypotheses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from cvkan.radio.likelihood import SETTINGS, Mixture, Setting, draw_statistics, log_likelihoods

_SYMBOLS_AT_ONCE = 2**14  # more symbols at once leave the processor's cache, fewer only cost calls


@dataclass(frozen=True, eq=False)
class BayesAccuracy:
    """Accuracies of the Bayes-optimal classifier, one for each level of SNR.

    Attributes:
        classes: the C modulations, all equally likely.
        snr_db: the S levels in dB, all equally likely where the SNR is unknown.
        setting: length of a frame and meaning of its label.
        snr_known: the classifier is told the SNR; then ``snr`` is 1 and ``combined`` is ``modulation``.
        n_frames: frames behind each number.
        modulation: share of frames with the modulation right, (S,) float64.
        snr: share with the level of the SNR right, (S,).
        combined: share with both right, by the best joint decision, (S,).
        rmse_db: root mean squared error of the posterior mean of the SNR in dB, (S,).
    """

    classes: tuple[str, ...]
    snr_db: tuple[float, ...]
    setting: Setting
    snr_known: bool
    n_frames: int
    modulation: Tensor
    snr: Tensor
    combined: Tensor
    rmse_db: Tensor

    def standard_error(self, accuracy: Tensor) -> Tensor:
        """Standard error of one of the accuracies p (S,): sqrt(p (1 - p) / n_frames)."""
        return (accuracy * (1 - accuracy) / self.n_frames).sqrt()


def bayes_accuracy(
    classes: Sequence[str],
    snr_db: Sequence[float],
    *,
    setting: str | Setting,
    n_frames: int,
    seed: int,
    snr_known: bool,
) -> BayesAccuracy:
    """Accuracy of the optimal classifier among ``classes``, at each SNR, by Monte Carlo.

    Where the SNR is unknown, each pair of a class and a level is a hypothesis, and frames have an expected power of 1
    a sample, whatever their SNR. A frame divided by its own measured power tells less, so this bounds that case too.

    Args:
        classes: C distinct classes that have a constellation.
        snr_db: S ascending levels in dB, the hypotheses where the SNR is unknown.
        setting: a name of :data:`SETTINGS`, or a setting.
        n_frames: frames of each SNR, spread evenly over the classes; rounded up to a multiple of C.
        seed: of the generator that draws symbols and noise.
        snr_known: whether the classifier is told the SNR.

    Raises:
        ValueError: an argument is empty, repeated, not ascending or unknown.

    Source: maximum a posteriori decisions of the class, of the level, and of both at once.
    """
    setting = _checked(classes, snr_db, setting, n_frames)
    mixtures = [Mixture.of(name) for name in classes]
    generator = torch.Generator().manual_seed(seed)
    per_class = -(-n_frames // len(classes))
    at_once = max(1, _SYMBOLS_AT_ONCE // (setting.n_symbols * len(classes)))
    levels = torch.tensor(snr_db, dtype=torch.float64)  # (S,)
    scores = torch.zeros(4, len(snr_db), dtype=torch.float64)
    for s, level in enumerate(snr_db):
        hypotheses = levels[s : s + 1] if snr_known else levels  # (H,)
        for first in range(0, per_class, at_once):
            repeats = min(at_once, per_class - first)
            frames = draw_statistics(mixtures, repeats, setting, level, generator)
            truth = torch.arange(len(classes)).repeat_interleave(repeats)  # (B,)
            table = log_likelihoods(frames, mixtures, hypotheses.tolist(), setting)  # (B, C, H)
            scores[:, s] += _score(table, truth, 0 if snr_known else s, hypotheses - level)
    modulation, snr, combined, square = scores / (per_class * len(classes))
    return BayesAccuracy(
        tuple(classes), tuple(map(float, snr_db)), setting, snr_known, per_class * len(classes),
        modulation, snr, combined, square.sqrt(),
    )  # fmt: skip


def _checked(classes: Sequence[str], snr_db: Sequence[float], setting: str | Setting, n_frames: int) -> Setting:
    """Refuse what makes no sense, and look a setting up."""
    if not classes or len(set(classes)) < len(classes):
        raise ValueError(f"classes are {list(classes)}; give each of them once, and at least one")
    if not snr_db or any(low >= high for low, high in pairwise(snr_db)):
        raise ValueError(f"snr_db is {list(snr_db)}; give at least one level, in ascending order")
    if n_frames < 1:
        raise ValueError(f"n_frames is {n_frames}; draw at least 1")
    if isinstance(setting, Setting):
        return setting
    if setting not in SETTINGS:
        raise ValueError(f"setting is {setting!r}; choose {', '.join(SETTINGS)} or give a Setting")
    return SETTINGS[setting]


def _score(table: Tensor, truth: Tensor, level: int, error_db: Tensor) -> Tensor:
    """Sums over frames: modulation right, SNR right, both right, squared error of the posterior mean in dB^2; (4,)."""
    both = table.flatten(start_dim=1).argmax(dim=1)  # (B,)
    by_class, by_level = table.logsumexp(dim=2), table.logsumexp(dim=1)  # (B, C), (B, H)
    mean_error = by_level.softmax(dim=1) @ error_db  # (B,)
    return torch.stack(
        [
            (by_class.argmax(dim=1) == truth).sum(),
            (by_level.argmax(dim=1) == level).sum(),
            (both == truth * table.shape[2] + level).sum(),
            mean_error.square().sum(),
        ]
    )
