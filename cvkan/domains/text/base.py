"""What all sources of sentences share: the vocabulary, padding and masks, and the rival that knows no order of words.

Legend: B batch, N words of the longest sentence.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Unpack, cast

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from cvkan.analysis.bag_of_words import bag_of_words_accuracy
from cvkan.domains.datamodule import SPLITS, DataModule, Loading, TensorSplit
from cvkan.domains.text.augment import WordDropout
from cvkan.domains.text.parts import Part
from cvkan.domains.text.vocabulary import MARKS, PADDING_ID, UNKNOWN_ID, make_vocabulary
from cvkan.errors import UserError
from cvkan.spec import Batch, Spec

log = logging.getLogger(__name__)


class Reading(Loading):
    """Arguments that every source of sentences takes and hands on to :class:`TextData`.

    Attributes:
        max_length: words of a sentence; what a longer one has beyond is cut off, which is told with a count.
        min_count: times that a word must occur in the training sentences to be known.
        max_words: how many words are known, the most frequent ones; None for all.
        word_dropout: share of the words that training puts the unknown word in the place of, anew in each epoch.
    """

    max_length: int
    min_count: int
    max_words: int | None
    word_dropout: float


class TextData(DataModule):
    """Base of the sources of sentences: a batch is ``x`` (B, N) int64, ``mask`` (B, N) float32, ``y`` (B,) int64.

    N is the number of words of the longest sentence in the batch; behind the end of a shorter one are id 0 and mask 0.
    A word that the vocabulary lacks has id 1. The vocabulary is made of the sentences that are trained on, those that
    ``limit_train`` has left; ``spec.vocabulary`` holds it once the data is loaded.

    Args:
        class_names: in label order.
        reading: see :class:`Reading`.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self,
        *,
        class_names: tuple[str, ...],
        max_length: int,
        min_count: int,
        max_words: int | None,
        word_dropout: float,
        **loading: Unpack[Loading],
    ) -> None:
        super().__init__(**loading)
        for name, value in (("max_length", max_length), ("min_count", min_count), ("max_words", max_words)):
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, got {value}", f"data.{name}", "Set a positive number.")
        self.max_length, self.min_count, self.max_words = max_length, min_count, max_words
        if word_dropout:
            self.augment = WordDropout(word_dropout)
        self.spec = Spec((max_length,), "classes", len(class_names), class_names)

    def read_parts(self) -> dict[str, Part]:
        """The sentences ``train``, ``val`` and ``test``; called once, after :meth:`prepare_data`."""
        raise NotImplementedError

    def load_splits(self) -> dict[str, Dataset[Batch]]:
        """Splits of raw ids, which number the words of all parts; :meth:`setup` makes ids of the vocabulary of them."""
        parts = self.read_parts()
        _tell_cuts((len(words) for part in parts.values() for words in part.sentences), self.max_length)
        raw: dict[str, int] = {word: number for number, word in enumerate(MARKS)}
        splits: dict[str, Dataset[Batch]] = {}
        for name, part in parts.items():
            rows = [
                torch.tensor([raw.setdefault(word, len(raw)) for word in words[: self.max_length]], dtype=torch.int32)
                for words in part.sentences
            ]
            x = pad_sequence(rows, batch_first=True, padding_value=PADDING_ID) if rows else torch.empty(0, 0)
            splits[name] = TensorSplit(x=x, y=torch.tensor(part.labels, dtype=torch.long))
        self._raw_words = tuple(raw)
        return splits

    def setup(self, stage: str | None = None) -> None:
        """Load the splits, make the vocabulary and tell how much of the other parts it knows."""
        is_first = not self.splits
        super().setup(stage)
        if is_first:
            self._make_vocabulary()
            unknown = ", ".join(f"{100 * self.unknown_share(name):.1f} % of {name}" for name in SPLITS)
            log.info("%d words are known; unknown are %s", len(self.spec.vocabulary) - len(MARKS), unknown)

    def preprocess(self, batch: Batch) -> Batch:
        """Adds ``mask`` (B, N) and cuts off what is padding in the whole batch."""
        mask = batch["x"] != PADDING_ID  # (B, N)
        longest = int(mask.sum(1).max())
        return {**batch, "x": batch["x"][:, :longest].long(), "mask": mask[:, :longest].float()}

    def unknown_share(self, name: str) -> float:
        """Share of the words of a part that are not in the vocabulary."""
        x = self._split(name).tensors["x"]
        return float((x == UNKNOWN_ID).sum() / (x != PADDING_ID).sum())

    def baselines(self) -> dict[str, float]:
        """The majority class, and a logistic regression on how often each word of the vocabulary occurs.

        Returns:
            ``baseline/majority_accuracy``, ``baseline/bag_of_words_accuracy``, and ``data/unknown_words``, the share of
            the test part's words that are not in the vocabulary.
        """
        train, test = (self._split(name).tensors for name in ("train", "test"))
        accuracy = bag_of_words_accuracy(train["x"], train["y"], test["x"], test["y"], len(self.spec.vocabulary))
        return {
            **super().baselines(),
            "baseline/bag_of_words_accuracy": accuracy,
            "data/unknown_words": self.unknown_share("test"),
        }

    def fingerprint(self) -> str:
        """SHA-256 of the vocabulary and of the sentences as ids in it."""
        return hashlib.sha256("\n".join([*self.spec.vocabulary, super().fingerprint()]).encode()).hexdigest()

    def _make_vocabulary(self) -> None:
        counts = torch.bincount(self._split("train").tensors["x"].flatten(), minlength=len(self._raw_words))
        words, ids = make_vocabulary(self._raw_words, counts, self.min_count, self.max_words)
        ids = ids.int()
        for name in SPLITS:
            raw = self._split(name).tensors
            self.splits[name] = TensorSplit(x=ids[raw["x"].long()], y=raw["y"])
        self.spec = replace(self.spec, vocabulary=words)

    def _split(self, name: str) -> TensorSplit:
        return cast(TensorSplit, self.splits[name])


def _tell_cuts(lengths: Iterable[int], max_length: int) -> None:
    """Say once how many sentences lose their end."""
    longer = [length for length in lengths if length > max_length]
    if longer:
        log.warning(
            "%d sentences have more than data.max_length=%d words, up to %d: their ends are cut off",
            *(len(longer), max_length, max(longer)),
        )
