"""Phrases of held-out sentences: a training set of phrases must hold none of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch


class Phrases:
    """Different phrases, words parted by spaces, and which of them are in others.

    Args:
        texts: phrases, repeated ones among them.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = set(texts)
        self.lengths = sorted({_length(text) for text in self.texts})

    def inside(self, sentence: str) -> set[str]:
        """The phrases that are a run of words of a sentence, itself among them if it is one."""
        words = sentence.split(" ")
        runs = (
            " ".join(words[start : start + length])
            for length in self.lengths  # no others: the number of all runs is the square of the number of words
            for start in range(len(words) - length + 1)
        )
        return {run for run in runs if run in self.texts}

    def whole(self) -> list[str]:
        """The phrases that are in no other one; the longest first, equally long ones by the alphabet."""
        found: list[str] = []
        inside: set[str] = set()
        for text in sorted(self.texts, key=lambda text: (-_length(text), text)):
            if text not in inside:
                found.append(text)
                inside |= self.inside(text)
        return found


def hold_out(sentences: Sequence[Sequence[str]], n: int, seed: int) -> tuple[list[int], list[int]]:
    """Choose sentences to validate on, and what is left to train on.

    No run of words of a held-out sentence is trained on, not even one that other sentences have too.

    Args:
        sentences: words of each: sentences, and phrases of them.
        n: sentences that are held out.
        seed: of the choice.

    Returns:
        Numbers of those to train on and of the held-out ones, ascending.

    Raises:
        ValueError: there are not more than n sentences.
    """
    texts = [" ".join(words) for words in sentences]
    phrases = Phrases(texts)
    whole = phrases.whole()
    if not 0 < n < len(whole):
        raise ValueError(f"of {len(whole)} sentences {n} cannot be held out")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
    held_out = [whole[number] for number in order[:n].tolist()]
    seen: set[str] = set().union(*map(phrases.inside, held_out))
    train = [number for number, text in enumerate(texts) if text not in seen]
    first = {text: number for number, text in reversed(list(enumerate(texts)))}  # a sentence may be listed twice
    return train, sorted(first[text] for text in held_out)


def _length(text: str) -> int:
    """Words of a phrase."""
    return text.count(" ") + 1
