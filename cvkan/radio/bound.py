"""The physical limit of a radio experiment: tables that come with cvkan, and scores relative to them.

``bound.json`` holds the tables, each with its source. What they mean is said in :mod:`cvkan.radio.likelihood`.

Legend: S levels of SNR, C classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cvkan.radio.bayes import BayesAccuracy
from cvkan.radio.likelihood import Setting

TABLES = Path(__file__).with_name("bound.json")


@dataclass(frozen=True, eq=False)
class Bound:
    """The best that is possible on the frames of one setting.

    Attributes:
        known: with the SNR told to the classifier.
        blind: with the SNR among what it has to find out.
        source: where the numbers come from.
    """

    known: BayesAccuracy
    blind: BayesAccuracy
    source: str


def load_bound(name: str) -> Bound:
    """A table by its name in ``bound.json``: ``N1``, ``E8`` or ``S8`` for the 17 default classes at -20 ... 30 dB, or
    ``E8-5`` for BPSK, QPSK, 8PSK, 16QAM and 64QAM.

    Raises:
        ValueError: there is no table of this name.
    """
    bounds = _bounds()
    if name not in bounds:
        raise ValueError(f"no table {name!r} of the physical limit; choose among {', '.join(bounds)}")
    return bounds[name]


def bound_for(
    classes: Iterable[str],
    snr_db: Iterable[float],
    *,
    samples_per_symbol: int,
    snr_definition: str,
    n_samples: int,
) -> Bound | None:
    """The table for exactly these classes (in any order), levels and frames, else None.

    A table of other classes or levels would be no bound: with fewer hypotheses fewer errors are possible. Where no
    table fits, :func:`cvkan.radio.bayes.bayes_accuracy` computes one. Frames of one sample a symbol that have no pulse
    do not show which of QPSK and OQPSK they are. The tables tell the two apart, and are about 1 / C too high there.

    Args:
        classes: modulations of the experiment.
        snr_db: its levels in dB.
        samples_per_symbol: of its frames.
        snr_definition: ``es_n0`` or ``sample``; at one sample a symbol they are the same.
        n_samples: length of its frames.

    Raises:
        ValueError: ``snr_definition`` is neither of the two, or a frame is shorter than a symbol.
    """
    setting = Setting(n_samples // max(samples_per_symbol, 1), samples_per_symbol, snr_definition)
    if setting.n_samples != n_samples:
        return None  # a frame that ends within a symbol
    wanted = (set(classes), sorted(map(float, snr_db)), *_layout(setting))
    fitting = (
        bound
        for bound in _bounds().values()
        if wanted == (set(bound.blind.classes), list(bound.blind.snr_db), *_layout(bound.blind.setting))
    )
    return next(fitting, None)


def eta(accuracy: Tensor, bound: Tensor, n_classes: int) -> float:
    """Share of the way from chance to the physical limit, averaged over the levels where there is a way to go.

    eta = mean_s (accuracy_s - 1/C) / (bound_s - 1/C), over the levels with bound_s > 2/C: 0 is chance, 1 the optimum.

    Args:
        accuracy: of an experiment, at each level, (S,).
        bound: best possible, at the same levels, (S,).
        n_classes: C, of the decision that both are about; the product of the two for joint decisions.

    Raises:
        ValueError: the shapes differ, or no level has a bound above 2/C.
    """
    if accuracy.shape != bound.shape:
        raise ValueError(
            f"accuracy has shape {tuple(accuracy.shape)} and bound {tuple(bound.shape)}; give both at the same levels"
        )
    chance = 1 / n_classes
    told_apart = bound > 2 * chance  # (S,)
    if not told_apart.any():
        raise ValueError(f"no level of SNR has a bound above 2/{n_classes}, so there is nothing to win; raise the SNR")
    return ((accuracy - chance) / (bound - chance))[told_apart].mean().item()


def crlb_db(snr_db: Sequence[float], setting: Setting) -> Tensor:
    """Least root mean squared error of an unbiased estimate of the SNR, in dB, at each level, (S,) float64.

    (10 / ln 10) sqrt((2 / g + 1) / n) with g the SNR of a sample and n samples: the Cramer-Rao bound where the symbols
    and the phase are known, and the power is not. At the ends of a grid of levels, an estimate that knows the grid can
    fall below it.

    Args:
        snr_db: labels in dB.
        setting: length of a frame and meaning of the label.

    Source: D. R. Pauluzzi and N. C. Beaulieu, "A comparison of SNR estimation techniques for the AWGN channel", IEEE
    Transactions on Communications 48(10), 2000, data-aided bound.
    """
    symbol_snr = torch.tensor([setting.symbol_snr(level) for level in snr_db], dtype=torch.float64)  # (S,)
    return 10 / math.log(10) * ((2 * setting.samples_per_symbol / symbol_snr + 1) / setting.n_samples).sqrt()


def _layout(setting: Setting) -> tuple[int, int, float]:
    """What a frame is, whatever its label is called."""
    return setting.n_symbols, setting.samples_per_symbol, setting.symbol_snr(0.0)


@cache
def _bounds() -> dict[str, Bound]:
    """Every table of ``bound.json``."""
    return {name: _bound(table) for name, table in json.loads(TABLES.read_text(encoding="utf-8")).items()}


def _bound(table: dict[str, Any]) -> Bound:
    """One table; where the SNR is known its columns follow from that of the modulation."""
    classes, snr_db = tuple(table["classes"]), tuple(map(float, table["snr_db"]))
    setting = Setting(**table["setting"])
    known, blind = table["known"], table["blind"]
    right = torch.tensor(known["modulation"], dtype=torch.float64)  # (S,)
    columns = [torch.tensor(blind[name], dtype=torch.float64) for name in ("modulation", "snr", "combined", "rmse_db")]
    no_error = torch.zeros_like(right)
    return Bound(
        BayesAccuracy(classes, snr_db, setting, True, known["n_frames"], right, no_error + 1, right, no_error),
        BayesAccuracy(classes, snr_db, setting, False, blind["n_frames"], *columns),
        table["source"],
    )
