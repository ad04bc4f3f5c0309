"""What a decision rests on: exactly n elements of each sample are set to 0, and the accuracy that this costs is scored.

An element is a pixel of an image, with all its channels, or a sample of an I/Q frame. Elements that are 0 already are
never counted nor removed.

Legend: B batch, C channels, H height, W width, T samples of a frame, P elements of a sample, N elements removed at
most, n samples, A answers that are scored, F ways to state how much was removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST = 2**31 - 1
LOW_BITS = 2**32 - 1
# From intensities, as integers that sort as they do, to ranks: the element of the highest rank is removed first.
ORDERS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "top": lambda bits: bits,
    "bottom": lambda bits: LARGEST - bits,
    "random": torch.zeros_like,
}


def intensity(x: Tensor) -> Tensor:
    """How bright each element is: the mean over the channels of a pixel, or the power |x|^2 of an I/Q sample.

    Args:
        x: images (B, C, H, W) float32, none negative, or frames (B, T) complex64.

    Returns:
        (B, P) float32, P = H W or T.
    """
    return x.abs().square() if x.is_complex() else x.mean(dim=1).flatten(1)


def removed_counts(brightness: Tensor, percent: int) -> Tensor:
    """Elements to remove of each sample: max(1, round(percent / 100 * those that are not 0)); 0 where all are.

    Args:
        brightness: (B, P), see :func:`intensity`.
        percent: 1 to 100.

    Returns:
        (B,) int64.
    """
    present = (brightness > 0).sum(dim=1)
    # In float64, and half to even: the numbers are those of Python's round.
    return (percent / 100 * present.double()).round().long().clamp(min=1).minimum(present)


def removal_order(brightness: Tensor, order: str, random: Tensor, n_most: int) -> Tensor:
    """The first elements to go. Samples do not influence each other.

    Args:
        brightness: (B, P) float32, see :func:`intensity`.
        order: ``top`` = brightest first, ``bottom`` = dimmest first, ``random``.
        random: (B, P) int64, random bits; the lower 32 decide between equals.
        n_most: N, at least the count of any sample.

    Returns:
        Places (B, N) int64 of different elements; elements that are 0 come after all others.
    """
    # The bits of floating-point numbers that are not negative sort as the numbers do: one key for both, without ties.
    bits = brightness.contiguous().view(torch.int32).long()
    keys = (ORDERS[order](bits) << 32) | (random & LOW_BITS)
    return keys.masked_fill_(~(brightness > 0), -1).topk(n_most, dim=1).indices


def removal_mask(first: Tensor, counts: Tensor, n_elements: int) -> Tensor:
    """Mask (B, P) of the first ``counts`` (B,) elements of an order (B, N)."""
    within = torch.arange(first.shape[1], device=first.device) < counts[:, None]  # (B, N)
    mask = torch.zeros(len(first), n_elements, dtype=torch.bool, device=first.device)
    return mask.scatter_(1, first, within)


def erased(x: Tensor, mask: Tensor) -> Tensor:
    """The samples with the elements of a mask (B, P) set to 0, in all channels."""
    shape = mask.shape if x.is_complex() else (len(x), 1, *x.shape[2:])
    return x.masked_fill(mask.view(shape), 0)


def removed_shares(brightness: Tensor, mask: Tensor, percent: int) -> Tensor:
    """How much a mask (B, P) removes, as fractions (B, 3) float64.

    Returns:
        The nominal share percent / 100 of the elements that are not 0; the share of all P elements; the share of the
        intensity, 0 for a sample of zeros.
    """
    area = mask.sum(dim=1).double() / mask.shape[1]
    taken = (brightness * mask).sum(dim=1).double() / brightness.sum(dim=1)
    return torch.stack([torch.full_like(area, percent / 100), area, taken.nan_to_num(0.0)], dim=1)


@dataclass(frozen=True)
class Impact:
    """What a perturbation costs.

    Attributes:
        drop: (A,) accuracy on the clean samples less that on the perturbed ones.
        standard_error: (A,) of the drop, over the pairs of a sample and its perturbed copy; NaN for one pair.
        score: (F, A) perturbation impact score, drop / share removed; NaN where nothing was.
    """

    drop: Tensor
    standard_error: Tensor
    score: Tensor


def impact(clean: Tensor, perturbed: Tensor, shares: Tensor) -> Impact:
    """Perturbation impact score, PIS = (A_clean - A_perturbed) / f, of pairs in the same order.

    Args:
        clean: (n, A) bool, right answers to the samples.
        perturbed: (n, A) bool, right answers to their perturbed copies.
        shares: (n, F) float64, removed share f of each sample; its mean over the samples is taken.
    """
    lost = clean.double() - perturbed.double()  # (n, A), -1, 0 or 1
    drop, share = lost.mean(dim=0), shares.mean(dim=0)
    error = lost.std(dim=0) / len(lost) ** 0.5 if len(lost) > 1 else torch.full_like(drop, torch.nan)
    return Impact(drop, error, drop / share.where(share > 0, torch.nan)[:, None])
