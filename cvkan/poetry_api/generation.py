"""From codes to words, by any decoder: what it says by itself, or one chosen word after the other.

Legend: B batch, N tokens, T tokens at a time, C words to choose from, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from typing import cast

import torch
from torch import Tensor

from cvkan.models.autoencoder import Autoencoder, Code
from cvkan.models.recurrent_decoder import RecurrentDecoder
from cvkan.poetry.nearest import NearestWord
from cvkan.poetry.tokens import BREAKS, LINE_BREAK, POEM_END, SPECIAL, detokenize
from cvkan.poetry.vectors import Kind, Table
from cvkan.poetry_api.coding import Coded
from cvkan.reconstruction_loss import HybridCosine

Choose = Callable[[Tensor], Tensor]  # vectors (T, D) to places (T,) among the words
PATIENCE = 20  # codes in a row without a word, after which a text is finished


class Speaker:
    """What an autoencoder's decoder says, in words.

    Args:
        autoencoder: in evaluation mode.
        table: gives the words that it may say: marks and candidates.
        loss: says how long the network sees vectors.
        device: of the network.

    Attributes:
        words: C tokens, those that it may say.
        vectors: (C, D) of these, as the network sees them.
    """

    def __init__(self, autoencoder: Autoencoder, table: Table, loss: HybridCosine, device: torch.device) -> None:
        marks = (table.kind == Kind.SPECIAL).nonzero().squeeze(1)
        choices = torch.cat([marks, table.candidates])
        self.autoencoder, self.words = autoencoder, [table.words[i] for i in choices.tolist()]
        self.vectors = loss.in_space(table.matrix[choices]).to(device)
        self.nearest = NearestWord(self.vectors)

    def said(self, codes: Iterable[Coded]) -> str:
        """The text of codes: the nearest words while the decoder goes on from its own output."""
        tokens: list[str] = []
        for code, mask in codes:
            output = self.autoencoder.decode(code, mask)  # (B, N, D)
            for y, valid in zip(output, mask.bool(), strict=True):
                tokens += self._tokens(self.nearest(y[valid]).tolist())
        return detokenize(tokens)

    def written(self, codes: Iterable[Coded], length: int, choose: Choose) -> str:
        """A text of so many words; each code begins a line. It stops short if codes are used up or give no words."""
        tokens: list[str] = []
        n_words = n_fruitless = 0
        for code, mask in codes:
            n_before = n_words
            for token in self._chosen(code, mask, choose):
                tokens.append(token)
                n_words += is_word(token)
                if n_words == length:
                    return detokenize(tokens).strip("\n")
            n_fruitless = 0 if n_words > n_before else n_fruitless + 1
            if n_fruitless == PATIENCE:
                break
            if n_words and tokens[-1] not in BREAKS:
                tokens.append(LINE_BREAK)
        return detokenize(tokens).strip("\n")

    def _chosen(self, code: Code, mask: Tensor, choose: Choose) -> Iterator[str]:
        """Tokens of one chunk up to its end, one chosen after the other.

        A decoder that goes on from its own output is told the vector of every word that was chosen. Any other gives all
        vectors at once, and a word is chosen for each.
        """
        if self.autoencoder.autoregressive:
            return self._tokens(self._stepwise(code.z, int(mask.sum()), choose))
        return self._tokens(choose(self.autoencoder.decode(code, mask)[mask.bool()]).tolist())

    def _stepwise(self, z: Tensor, n_tokens: int, choose: Choose) -> Iterator[int]:
        """Places of the words for one code, as :meth:`RecurrentDecoder.forward` takes its steps."""
        decoder = cast(RecurrentDecoder, self.autoencoder.decoder)
        states, x = decoder.states(z), decoder.start.expand(1, 1, -1)
        for step in range(n_tokens):
            y, states = decoder.step(x, z[:, step : step + 1] if decoder.per_token else None, states)
            place = int(choose(decoder.out(y)[0]))
            yield place
            x = self.vectors[place].view(1, 1, -1)

    def _tokens(self, places: Iterable[int]) -> Iterator[str]:
        """The words at some places, up to the end."""
        return takewhile(lambda token: token != POEM_END, (self.words[place] for place in places))


def is_word(token: str) -> bool:
    """No mark, no punctuation: it has a letter or digit."""
    return token not in SPECIAL and any(map(str.isalnum, token))
