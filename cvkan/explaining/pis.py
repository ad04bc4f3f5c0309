"""``method=pis``: the perturbation impact score, how much accuracy goes with a share of the input that is removed.

Legend: B batch, P elements of a sample, n frames, O orders, L levels, A answers that are scored, F shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from cvkan.analysis.perturbation import (
    ORDERS,
    erased,
    impact,
    intensity,
    removal_mask,
    removal_order,
    removed_counts,
    removed_shares,
)
from cvkan.domains.datamodule import DataModule
from cvkan.domains.radio.base import RadioData
from cvkan.errors import UserError
from cvkan.explaining.blackout import BlackoutWriter
from cvkan.explaining.method import Explanation
from cvkan.explaining.trained import Trained
from cvkan.radio.random import FrameRandom
from cvkan.spec import Batch

if TYPE_CHECKING:
    from rich.table import Table

ANSWERS = ("modulation", "snr", "combined")
SHARES = ("nominal", "area", "intensity")  # in the order of removed_shares
UNITS = {True: "samples", False: "pixels"}  # removed of I/Q frames, and of images


@dataclass(frozen=True)
class Measured:
    """What the network said about some frames and their perturbed copies.

    Attributes:
        ids: (n,) of the frames.
        snr: (n,) index of the SNR.
        clean: (n, A) bool, right answers.
        right: (O, L, n, A) bool, right answers to the copies.
        shares: (O, L, n, F) removed.
        counts: (L, n) elements removed.
    """

    ids: Tensor
    snr: Tensor
    clean: Tensor
    right: Tensor
    shares: Tensor
    counts: Tensor


class PerturbationImpact:
    """PIS = (A_clean - A_perturbed) / f, of modulation, SNR and both at once, on the same frames.

    The brightest, the dimmest and random pixels that are not 0 are set to 0, of an image as the network gets it; of the
    I/Q frames of a network without images, the samples of the largest, the smallest and of any magnitude, after the
    normalisation of the frame. Each order removes exactly as many elements of a frame as the others. Which ones is a
    function of the seed and the id of the frame, whatever batch it is in.

    Args:
        levels: shares to remove, in percent of the elements that are not 0, ascending integers.
        seed: decides between elements of equal brightness, and draws the random ones.
        limit: use so many frames of the test part, the same for every seed; None uses all.
        write_png: folder for copies of the images, those of a PNG tree with pixels blanked out, named as in the tree;
            None writes none.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, *, levels: Sequence[int], seed: int, limit: int | None, write_png: str | None) -> None:
        whole = all(type(level) is int and 1 <= level <= 100 for level in levels)
        if not levels or not whole or list(levels) != sorted(set(levels)):
            raise ValueError(f"levels are {list(levels)}; set ascending integers of 1 to 100 percent, such as [1,5,10]")
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; set 1 frame or more, or null")
        self.levels, self.seed, self.limit, self.write_png = tuple(levels), seed, limit, write_png

    def check(self, data: DataModule, where: str) -> None:
        kind = data.spec.target
        if not isinstance(data, RadioData):
            what = f"method=pis scores networks for modulation and SNR, the data has targets of kind {kind!r}"
            raise UserError(what, where, "Give a checkpoint of a run with domain=radio.")

    def explain(self, trained: Trained) -> Explanation:
        from cvkan import plots_radio

        data = cast(RadioData, trained.data)
        writer = None if self.write_png is None else BlackoutWriter(data, self.write_png, self.seed)
        measured = self.measure(trained, writer)
        clean = by_name(ANSWERS, measured.clean.double().mean(dim=0))
        rows = self.rows(measured)
        unit = UNITS[data.spec.is_complex and isinstance(trained.draw, torch.nn.Identity)]
        results = {
            "unit": unit,
            **{"levels": self.levels, "seed": self.seed, "limit": self.limit},
            "part": "test",
            "count": len(measured.ids),
            "normalization": data.normalization,
            "snr_definition": data.snr_definition,
            "write_png": self.write_png,
            "clean_accuracy": clean,
            "rows": rows,
            "per_snr": self.rows_by_snr(measured, data.spec.snr_db),
        }
        curves = {order: [row["accuracy"] for row in rows if row["mask"] == order] for order in ORDERS}
        scores = {order: [row["pis"]["nominal"] for row in rows if row["mask"] == order] for order in ORDERS}
        picture = plots_radio.perturbation_impact(self.levels, clean, curves, scores, unit)
        return Explanation(results, {"pis": picture}, table(results))

    def measure(self, trained: Trained, writer: BlackoutWriter | None) -> Measured:
        """Ask for every frame and for all its copies; ascending by id, so that no order of loading shows."""
        parts = [self.measure_batch(trained, batch, writer) for batch in tracked(trained.test_batches(self.limit))]
        joined = Measured(
            ids=torch.cat([part.ids for part in parts]),
            snr=torch.cat([part.snr for part in parts]),
            clean=torch.cat([part.clean for part in parts]),
            right=torch.cat([part.right for part in parts], dim=2),
            shares=torch.cat([part.shares for part in parts], dim=2),
            counts=torch.cat([part.counts for part in parts], dim=1),
        )
        order = joined.ids.argsort()
        return Measured(
            *(joined.ids[order], joined.snr[order], joined.clean[order]),
            *(joined.right[:, :, order], joined.shares[:, :, order], joined.counts[:, order]),
        )

    def measure_batch(self, trained: Trained, batch: Batch, writer: BlackoutWriter | None) -> Measured:
        """The frames of a batch, on the CPU."""
        x, ids, y = trained.draw(batch["x"]), batch["id"], batch["y"]
        n_classes = len(trained.data.spec.class_names)
        brightness = intensity(x)  # (B, P)
        counts = [removed_counts(brightness, level) for level in self.levels]
        random = FrameRandom(self.seed, ids)
        right, shares = [], []
        for order in ORDERS:
            bits = random.words(order, brightness.shape[1])  # (B, P)
            first = removal_order(brightness, order, bits, int(counts[-1].max()))
            for level, count in zip(self.levels, counts, strict=True):
                mask = removal_mask(first, count, brightness.shape[1])
                copies = erased(x, mask)
                right.append(right_answers(trained.model(copies), y, n_classes))
                shares.append(removed_shares(brightness, mask, level))
                if writer is not None:
                    writer.write(ids, copies, f"{order}{level}")
        shape = (len(ORDERS), len(self.levels), len(x))
        return Measured(
            ids.cpu(),
            y[:, 1].cpu(),
            right_answers(trained.model(x), y, n_classes).cpu(),
            torch.stack(right).view(*shape, len(ANSWERS)).cpu(),
            torch.stack(shares).view(*shape, len(SHARES)).cpu(),
            torch.stack(counts).cpu(),
        )

    def rows(self, measured: Measured) -> list[dict[str, Any]]:
        """One record a mask and level: what was removed, what is left of the accuracy, the scores."""
        impacts = [
            [impact(measured.clean, right, shares) for right, shares in zip(*of_order, strict=True)]
            for of_order in zip(measured.right, measured.shares, strict=True)
        ]
        baseline = impacts[list(ORDERS).index("random")]
        return [
            {
                "mask": order,
                "level": level,
                "removed_mean": measured.counts[j].double().mean().item(),
                "share": by_name(SHARES, measured.shares[k, j].mean(dim=0)),
                "accuracy": by_name(ANSWERS, measured.right[k, j].double().mean(dim=0)),
                "drop": by_name(ANSWERS, impacts[k][j].drop),
                "drop_standard_error": by_name(ANSWERS, impacts[k][j].standard_error),
                "pis": scores_by_name(impacts[k][j].score),
                "pis_minus_random": scores_by_name(impacts[k][j].score - baseline[j].score),
            }
            for k, order in enumerate(ORDERS)
            for j, level in enumerate(self.levels)
        ]

    def rows_by_snr(self, measured: Measured, snr_db: Sequence[float]) -> list[dict[str, Any]]:
        """One record an SNR, mask and level; SNRs without a frame are left out."""
        levels_here = [(index, measured.snr == index) for index in measured.snr.unique().tolist()]
        return [
            {
                "snr_db": snr_db[index],
                "count": int(here.sum()),
                "mask": order,
                "level": level,
                "clean_accuracy": by_name(ANSWERS, measured.clean[here].double().mean(dim=0)),
                "accuracy": by_name(ANSWERS, measured.right[k, j, here].double().mean(dim=0)),
            }
            for index, here in levels_here
            for k, order in enumerate(ORDERS)
            for j, level in enumerate(self.levels)
        ]


def right_answers(logits: Tensor, y: Tensor, n_classes: int) -> Tensor:
    """Right answers (B, 3) to modulation, SNR and both, of logits (B, M + S) and labels (B, 2)."""
    found = torch.stack([logits[:, :n_classes].argmax(dim=1), logits[:, n_classes:].argmax(dim=1)], dim=1)
    right = found == y  # (B, 2)
    return torch.cat([right, right.all(dim=1, keepdim=True)], dim=1)


def by_name(names: Sequence[str], values: Tensor) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def scores_by_name(scores: Tensor) -> dict[str, dict[str, float]]:
    """Scores (F, A) by share, then by answer."""
    return {share: by_name(ANSWERS, values) for share, values in zip(SHARES, scores, strict=True)}


def tracked(batches: Iterable[Batch]) -> Iterable[Batch]:
    """The batches, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(batches, "perturbing batches", console=console, disable=not console.is_terminal, transient=True)


def table(results: dict[str, Any]) -> Table:
    """The rows for the terminal; the scores are those of the nominal share."""
    from rich.table import Table

    title = f"perturbation impact score, {results['count']} test frames, {results['unit']} removed"
    shown = Table(title=title, title_justify="left")
    shown.add_column("removed")
    for name in ("modulation", "SNR", "both"):
        shown.add_column(name, justify="right")
        shown.add_column("PIS", justify="right")
    clean = [cell for answer in ANSWERS for cell in (f"{results['clean_accuracy'][answer]:.4f}", "")]
    shown.add_row("nothing", *clean, end_section=True)
    levels = results["levels"]
    for row in results["rows"]:
        cells = [(f"{row['accuracy'][answer]:.4f}", f"{row['pis']['nominal'][answer]:.3f}") for answer in ANSWERS]
        name = f"{row['mask']} {row['level']} %"
        shown.add_row(name, *(cell for pair in cells for cell in pair), end_section=row["level"] == levels[-1])
    return shown
