"""``data=grammar``: sentences about films in which negation, contrast and intensity decide, not the words alone.

Own choice: a test bed of sentiment that no bag of words can pass. A clause praises or blames, ``the plot is not very
good``. Of two clauses one has a word of praise and one a word of blame. To swap these two words turns the verdict round
and leaves every word as often as it was. So no method that is told the words without their order is right on more of
the sentences of two clauses than a coin, and none on more than (1 + simple_share) / 2 of all.

Legend: n sentences, two clauses each; of a sentence of one clause the second is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from cvkan.domains.datamodule import SPLITS
from cvkan.domains.text.base import Reading, TextData
from cvkan.domains.text.parts import Part
from cvkan.errors import UserError

CLASS_NAMES = ("negative", "positive")
# fmt: off
OPENINGS = ("", "", "honestly ,", "i think", "they say", "in the end", "once again")
DETERMINERS = ("the", "its", "this")
TOPICS = (
    "acting", "camera", "cast", "comedy", "dialogue", "drama", "ending", "hero",
    "humor", "music", "pace", "plot", "romance", "score", "script", "villain",
)
VERBS = ("is", "was")
PRAISE = (
    "bright", "charming", "clever", "elegant", "fresh", "funny", "good", "graceful", "great", "lively", "moving",
    "warm",
)
BLAME = (
    "awful", "bad", "boring", "clumsy", "cold", "dull", "flat", "hollow", "messy", "silly", "stale",
    "tedious",
)
# fmt: on
NEGATIONS = ("", "", "", "", "not", "never")
INTENSITIES = {"": 2, "slightly": 1, "somewhat": 1, "very": 3, "truly": 3}  # and how much a clause counts with it
# How two clauses are joined, and with which weights they make the verdict. The first form is that of one clause.
FORMS = {
    "{0}": (1, 0),
    "{0} but {1}": (0, 1),
    "{0} yet {1}": (0, 1),
    "although {0} , {1}": (0, 1),
    "though {0} , {1}": (0, 1),
    "{0} although {1}": (1, 0),
    "{0} though {1}": (1, 0),
    "{0} and {1}": (1, 1),
    "{0} while {1}": (1, 1),
}
OVERSAMPLING = 2  # ties and sentences that were drawn before are left out


@dataclass(frozen=True)
class Drawn:
    """Sentences as numbers: (n,) of openings and forms, (n, 2) of the words of both clauses.

    Attributes:
        opening, form, determiner, topic, verb, negation, intensity: places in the lists above.
        adjective: place in the list of praise or of blame.
        blames: the adjective is one of blame.
    """

    opening: Tensor
    form: Tensor
    determiner: Tensor
    topic: Tensor
    verb: Tensor
    negation: Tensor
    intensity: Tensor
    adjective: Tensor
    blames: Tensor

    def verdicts(self) -> Tensor:
        """(n,) above 0 for praise, below 0 for blame, 0 where both clauses of ``and`` count the same.

        A clause counts 1, 2 or 3. A negation turns it round and what counted much then counts little: ``not very good``
        is mild, ``not even slightly good`` is harsh.
        """
        size = torch.tensor(list(INTENSITIES.values()))[self.intensity]
        negated = torch.tensor([bool(word) for word in NEGATIONS])[self.negation]
        size = torch.where(negated, 4 - size, size)
        values = torch.where(negated ^ self.blames, -size, size)  # (n, 2)
        return (torch.tensor(list(FORMS.values()))[self.form] * values).sum(1)

    def sentences(self) -> list[str]:
        """The n texts, words parted by spaces."""
        openings, forms = self.opening.tolist(), self.form.tolist()
        templates, clauses = list(FORMS), self._clauses()
        texts = [
            f"{OPENINGS[opening]} {templates[form].format(*pair)} ."
            for opening, form, pair in zip(openings, forms, clauses, strict=True)
        ]
        return [" ".join(text.split()) for text in texts]

    def _clauses(self) -> list[tuple[str, str]]:
        fields = (self.determiner, self.topic, self.verb, self.negation, self.intensity, self.adjective, self.blames)
        numbers = torch.stack([field.long() for field in fields], dim=-1).tolist()  # (n, 2, 7)
        return [(_clause(*first), _clause(*second)) for first, second in numbers]


def draw(n: int, simple_share: float, generator: torch.Generator) -> Drawn:
    """Draw n sentences, ties among them.

    Args:
        n: sentences.
        simple_share: share of those of one clause.
        generator: of all that is random.
    """

    def pick(n_choices: int, *shape: int) -> Tensor:
        return torch.randint(n_choices, (n, *shape), generator=generator)

    simple = torch.rand(n, generator=generator) < simple_share
    topic = pick(len(TOPICS))
    other = (topic + 1 + pick(len(TOPICS) - 1)) % len(TOPICS)  # the clauses are about different things
    first_blames = pick(2).bool()
    return Drawn(
        opening=pick(len(OPENINGS)),
        form=torch.where(simple, 0, 1 + pick(len(FORMS) - 1)),
        determiner=pick(len(DETERMINERS), 2),
        topic=torch.stack([topic, other], dim=1),  # (n, 2)
        verb=pick(len(VERBS), 2),
        negation=pick(len(NEGATIONS), 2),
        intensity=pick(len(INTENSITIES), 2),
        adjective=pick(len(PRAISE), 2),
        blames=torch.stack([first_blames, ~first_blames], dim=1),  # (n, 2)
    )


class Grammar(TextData):
    """Sentences of one or two clauses, ``negative`` or ``positive``; no sentence is drawn twice.

    - ``but`` and ``yet``: the second clause decides.
    - ``although`` and ``though``: the clause without it decides, first or second.
    - ``and`` and ``while``: the clause that counts more decides; there are no ties.
    - ``not`` and ``never`` turn a clause round; ``slightly``, ``somewhat`` weaken, ``very``, ``truly`` strengthen.

    Args:
        n_train, n_val, n_test: sentences of the parts.
        simple_share: share of sentences of one clause, from 0 to 1.
        data_seed: draws the sentences, whatever the run's seed.
        reading: see :class:`~cvkan.domains.text.base.Reading`.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(
        self, *, n_train: int, n_val: int, n_test: int, simple_share: float, data_seed: int, **reading: Unpack[Reading]
    ) -> None:
        super().__init__(class_names=CLASS_NAMES, **reading)
        self.sizes = dict(zip(SPLITS, (n_train, n_val, n_test), strict=True))
        for name, size in self.sizes.items():
            if size < 1:
                raise UserError(f"n_{name} must be at least 1, got {size}", f"data.n_{name}", "Set a positive number.")
        if not 0 <= simple_share <= 1:
            raise UserError(
                f"simple_share must be from 0 to 1, got {simple_share}",
                "data.simple_share",
                "Set a share such as 0.25.",
            )
        self.simple_share, self.data_seed = simple_share, data_seed

    def read_parts(self) -> dict[str, Part]:
        n = sum(self.sizes.values())
        generator = torch.Generator().manual_seed(self.data_seed)
        drawn = draw(OVERSAMPLING * n, self.simple_share, generator)
        verdicts = drawn.verdicts().tolist()
        label_of = {text: int(v > 0) for text, v in zip(drawn.sentences(), verdicts, strict=True) if v}
        if len(label_of) < n:
            raise UserError(
                f"the grammar has too few sentences for {n} different ones",
                "data.n_train",
                "Set fewer sentences, or a lower data.simple_share.",
            )
        texts = iter(label_of.items())
        parts = {name: [next(texts) for _ in range(size)] for name, size in self.sizes.items()}
        return {
            name: Part([text.split() for text, _ in rows], [label for _, label in rows]) for name, rows in parts.items()
        }


def _clause(determiner: int, topic: int, verb: int, negation: int, intensity: int, adjective: int, blames: int) -> str:
    """One clause from the places of its words; gaps of absent words are closed later."""
    negating, strength = NEGATIONS[negation], list(INTENSITIES)[intensity]
    even = "even" if negating and INTENSITIES[strength] == 1 else ""  # as English has it: "not even slightly"
    word = (BLAME if blames else PRAISE)[adjective]
    return f"{DETERMINERS[determiner]} {TOPICS[topic]} {VERBS[verb]} {negating} {even} {strength} {word}"
