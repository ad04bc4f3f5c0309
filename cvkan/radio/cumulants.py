"""Higher-order cumulants of complex baseband samples, the classical features of modulation recognition.

With moments M_pq = E[x^(p-q) conj(x)^q] of zero-mean samples, C_pq is the joint cumulant of p - q factors x and q
factors conj(x). Of circular Gaussian noise all but C21 are 0, so that noise adds nothing to the others on average.
Source: Swami and Sadler, "Hierarchical digital modulation classification using cumulants", IEEE Transactions on
Communications 48(3), 2000; order six: Spooner, "On the utility of sixth-order cyclic cumulants for RF signal
classification", Asilomar 2001.

Legend: B frames, T samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

CUMULANTS = ("C21", "C20", "C40", "C41", "C42", "C60", "C61", "C62", "C63")
POWER_FLOOR = 1e-12  # of a frame of zeros, whose features are then finite


def cumulants(x: Tensor) -> Tensor:
    """Features of frames: power, and normalised cumulants up to order six.

    ::

        log C21,  (|C_pq| / C21^(p/2))^(2/p) for C20, C40, C41, C42, C60, C61, C62, C63

    The root brings all orders to one scale. C42 and C63 are real and keep their sign. No feature changes when the
    frame is rotated; all but the first are the same for any power.

    Args:
        x: (B, T) complex.

    Returns:
        Tensor (B, 9), real, in the order of ``CUMULANTS``.
    """
    c = joint_cumulants(x)
    power = c["C21"].real.clamp_min(POWER_FLOOR)
    features = [power.log()]
    for name in CUMULANTS[1:]:
        order = int(name[1])
        size = (c[name].abs() / power ** (order / 2)) ** (2 / order)
        # C_2q,q is real; of it the imaginary part is rounding.
        features.append(size * c[name].real.sign() if order == 2 * int(name[2]) else size)
    return torch.stack(features, dim=-1)  # (B, 9)


def joint_cumulants(x: Tensor) -> dict[str, Tensor]:
    """C_pq of frames by the names of ``CUMULANTS``.

    Args:
        x: (B, T) complex, of zero mean in expectation; the mean of a frame is not subtracted.

    Returns:
        Tensors (B,), complex. C21, C42 and C63 are real up to rounding.
    """
    square, power = x * x, (x * x.conj()).real
    m20, m21 = square.mean(-1), power.mean(-1)
    m40, m41, m42 = (square * square).mean(-1), (square * power).mean(-1), (power * power).mean(-1)
    m60, m61 = (square**3).mean(-1), (square * square * power).mean(-1)
    m62, m63 = (square * power * power).mean(-1), (power**3).mean(-1)
    return {
        "C20": m20,
        "C21": m21 + 0j,
        "C40": m40 - 3 * m20**2,
        "C41": m41 - 3 * m20 * m21,
        "C42": m42 - m20 * m20.conj() - 2 * m21**2,
        "C60": m60 - 15 * m20 * m40 + 30 * m20**3,
        "C61": m61 - 5 * m21 * m40 - 10 * m20 * m41 + 30 * m20**2 * m21,
        "C62": m62 - 6 * m20 * m42 - 8 * m21 * m41 - m20.conj() * m40 + 6 * m20**2 * m20.conj() + 24 * m21**2 * m20,
        "C63": m63 - 9 * m21 * m42 + 12 * m21**3 - 6 * (m20 * m41.conj()).real + 18 * m21 * m20 * m20.conj(),
    }
