"""Measure the physical limit of a radio experiment: one table for cvkan/radio/bound.json, on stdout.

    python scripts/radio_bound.py E8-5 --setting E8 --classes BPSK QPSK 8PSK 16QAM 64QAM --n-frames 4350

With the SNR unknown among 26 levels, 1000 frames of 128 symbols at each of them take about ten seconds of one core for
these five classes, and two minutes for the 17 default ones. Known SNR costs a 26th of it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import asdict

from torch import Tensor

from cvkan.radio.bayes import bayes_accuracy
from cvkan.radio.constellations import DEFAULT_CLASSES
from cvkan.radio.likelihood import SETTINGS


def main() -> None:
    """Print the table as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the table")
    parser.add_argument("--setting", choices=SETTINGS, required=True)
    parser.add_argument("--classes", nargs="+", default=DEFAULT_CLASSES)
    parser.add_argument("--snr-db", nargs=3, type=int, default=(-20, 30, 2), metavar=("LOW", "HIGH", "STEP"))
    parser.add_argument("--n-frames", type=int, required=True, help="at each SNR")
    parser.add_argument("--seed", type=int, default=0)
    typed = parser.parse_args()
    low, high, step = typed.snr_db
    levels = [float(level) for level in range(low, high + 1, step)]
    known, blind = (
        bayes_accuracy(
            typed.classes, levels, setting=typed.setting, n_frames=typed.n_frames, seed=typed.seed, snr_known=snr_known
        )
        for snr_known in (True, False)
    )
    table = {
        "setting": asdict(blind.setting),
        "classes": blind.classes,
        "snr_db": blind.snr_db,
        "source": f"python scripts/radio_bound.py {' '.join(sys.argv[1:])}",
        "known": {"n_frames": known.n_frames, "modulation": rounded(known.modulation)},
        "blind": {
            "n_frames": blind.n_frames,
            "modulation": rounded(blind.modulation),
            "snr": rounded(blind.snr),
            "combined": rounded(blind.combined),
            "rmse_db": rounded(blind.rmse_db),
        },
    }
    text = json.dumps({typed.name: table}, indent=1)
    print(re.sub(r"\[[^\]]*\]", lambda column: f"[{' '.join(column[0][1:-1].split())}]", text))  # a line a column


def rounded(column: Tensor) -> list[float]:
    """Four decimals: the standard error is above the fourth."""
    return [round(value, 4) for value in column.tolist()]


if __name__ == "__main__":
    main()
