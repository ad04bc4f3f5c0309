"""Classification of sentences: what became of their words, and which of them were taken for something else.

Legend: B batch, N words, K classes, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, Unpack, runtime_checkable

import lightning.pytorch as pl
import torch
from torch import Tensor

from cvkan.analysis.polarization import polarization, traceable
from cvkan.analysis.word_gain import gain_after, relative_gain
from cvkan.models.starting import start
from cvkan.spec import Batch
from cvkan.tasks.base import Parts
from cvkan.tasks.classification import ClassificationTask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_KEPT = 2000  # test sentences that pictures and examples are taken from
N_EXAMPLES = 8  # of the right ones and of the wrong ones, in the table
N_SHADED = 6  # sentences drawn


@runtime_checkable
class SentenceSource(Protocol):
    """Data in memory: any samples of a part can be had as one batch."""

    splits: dict[str, Any]

    def preprocess(self, batch: Batch) -> Batch: ...


class TextClassificationTask(ClassificationTask):
    """:class:`ClassificationTask` of sentences: lets the network start from the training part, and shows words.

    Args:
        leading: words whose effect on the word after them is drawn, such as ``not``.
        parts: see :class:`~cvkan.tasks.base.Task`.

    Raises:
        ValueError: the data has no vocabulary.
    """

    def __init__(self, *, leading: Sequence[str], **parts: Unpack[Parts]) -> None:
        super().__init__(**parts)
        self._leading = tuple(leading)
        if not self.spec.vocabulary:
            raise ValueError("TextClassificationTask is for sentences, the data has no words; set task=classification")

    def before_fit(self, data: pl.LightningDataModule) -> None:
        """Parts of the network that start from the training part do."""
        if isinstance(data, SentenceSource):
            train = data.splits["train"]
            start(self.model, data.preprocess(train.__getitems__(range(len(train)))))

    def on_test_start(self) -> None:
        super().on_test_start()
        self._kept: list[Batch] = []

    def update_metrics(self, stage: str, batch: Batch, logits: Tensor) -> None:
        super().update_metrics(stage, batch, logits)
        if stage == "test" and sum(len(kept["x"]) for kept in self._kept) < N_KEPT:
            parts = {**batch, "p": logits.float().softmax(dim=-1)}
            self._kept.append({name: tensor.cpu() for name, tensor in parts.items()})

    def results(self) -> dict[str, Any]:
        """``examples``: the test sentences that the network was most sure of, wrong ones and right ones."""
        return {**super().results(), "examples": self.examples()}

    def examples(self) -> list[dict[str, Any]]:
        """Rows of sentence, truth, prediction and its probability, by that; first the wrong ones."""
        p = torch.cat([kept["p"] for kept in self._kept])  # (n, K)
        truth = torch.cat([kept["y"] for kept in self._kept])
        sure, given = p.max(dim=1)
        sentences = [words for kept in self._kept for words in self.sentences(kept)]
        rows = []
        for wanted in (given != truth, given == truth):
            places = wanted.nonzero().squeeze(1)
            for i in places[sure[places].argsort(descending=True, stable=True)][:N_EXAMPLES].tolist():
                names = {"true": self.class_names[int(truth[i])], "predicted": self.class_names[int(given[i])]}
                rows.append({"sentence": " ".join(sentences[i]), **names, "probability": float(sure[i])})
        return rows

    def sentences(self, batch: Batch) -> list[list[str]]:
        """The words of each sample of a batch; what the vocabulary lacks is its unknown word."""
        words = self.spec.vocabulary
        return [
            [words[i] for i in ids[valid.bool()].tolist()] for ids, valid in zip(batch["x"], batch["mask"], strict=True)
        ]

    def figures(self) -> dict[str, Figure]:
        """With words in the place of bare strips, and what the ``leading`` words do to the word after them."""
        figures = super().figures()
        if traceable(self.model) is None:
            return figures
        from cvkan import plots_text

        figures["polarization"] = self.shaded()
        ids = torch.tensor([i for i, word in enumerate(self.spec.vocabulary) if word in self._leading])
        behind = gain_after((polarization(self.model, kept) for kept in self._kept), ids)
        if len(behind.ids):
            words = [self.spec.vocabulary[i] for i in behind.ids.tolist()]
            figures["words_behind"] = plots_text.gain_after(behind, words, self._leading)
        return figures

    def shaded(self) -> Figure:
        """The first test sentences, every word on the colour of its gain in each layer."""
        from cvkan import plots_text

        batch = {name: tensor[:N_SHADED] for name, tensor in self._kept[0].items()}
        found = polarization(self.model, batch)
        gains = [gain[:, valid] for gain, valid in zip(relative_gain(found), found.mask, strict=True)]  # (L, n)
        given = batch["p"].argmax(dim=1)
        titles = [
            f"{self.class_names[int(label)]}, taken for {self.class_names[int(guess)]}"
            for label, guess in zip(batch["y"], given, strict=True)
        ]
        return plots_text.shaded_sentences(self.sentences(batch), gains, titles)
