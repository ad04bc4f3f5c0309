"""A trained autoencoder of poems: codes of texts, texts of codes, and what they are worth.

Legend: k chunks of a text, n tokens of one, d numbers of a code.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl
import torch
from omegaconf import OmegaConf
from torch import Tensor

from cvkan.domains.poetry.base import Reading
from cvkan.domains.poetry.other_poems import OtherPoems
from cvkan.errors import UserError
from cvkan.explaining.trained import compute_device
from cvkan.poetry.sampling import WordSampler, seeded
from cvkan.poetry.tokens import UNK
from cvkan.poetry_api.arguments import SEEDS, check_integer, check_number, checked_file, checked_path, checked_text
from cvkan.poetry_api.coding import Coded, Coder
from cvkan.poetry_api.generation import Speaker
from cvkan.poetry_api.parts import Parts
from cvkan.poetry_api.surroundings import left_as_found
from cvkan.report import number

BARE_TRAINER: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)


class PoetryAutoencoder:
    """What ``cvkan.poetry_autoencoder`` returns; :meth:`load` and :meth:`of_run` make one too.

    A text is cut into chunks of at most 50 tokens (``data.max_length``), marks of start and end among them, that do not
    overlap. A chunk becomes one code (d,), or with ``code="token"`` one a token, (n, d). A code becomes text by the
    decoder alone, which goes on from its own output up to the mark of the end: every position becomes the word or mark
    whose vector is nearest by cosine. Only words that training had vectors of can come out.

    Words of new texts are looked up as in training, among those of the run and, while it is there unchanged, in the
    file of vectors. All others are unknown words, with the vector of their hash. A large text file is read through
    once for each text with words that are new.

    With ``memory="attention"`` the decoder sees all states of the encoder. That is no compressor: no text comes of a
    code alone, and :meth:`decode`, :meth:`interpolate` and :meth:`generate` refuse.

    Args:
        parts: what it is made of.
        accelerator: ``auto``, ``cpu``, ``gpu``, …: where the network computes. Codes are on the CPU.

    Attributes:
        parts: see :class:`~cvkan.poetry_api.parts.Parts`; ``parts.config`` tells how it was made.
        network: the :class:`~cvkan.models.autoencoder.Autoencoder`.
    """

    def __init__(self, parts: Parts, accelerator: str = "auto") -> None:
        self.parts, self.accelerator = parts, accelerator
        self.device = compute_device(OmegaConf.create({"trainer": {"accelerator": accelerator}}))
        self.network = parts.task.to(self.device).eval().model
        self.coder = Coder(self.network, parts.lexicon, parts.task.loss, self.device)
        self.speaker = Speaker(self.network, parts.lexicon.table, parts.task.loss, self.device)

    @classmethod
    def of_run(cls, run: str | Path, accelerator: str = "auto", own: Any = None) -> Self:
        """The best checkpoint of a complete run of ``cvkan-train domain=poetry``, whose data are read again.

        Args:
            run: the run directory.
            accelerator: see the class.
            own: a config of yours, in plain containers, whose classes are trusted.

        Raises:
            UserError: it is no such run, or its poems or vectors are not as they were.
        """
        with left_as_found():
            return cls(Parts.of_run(checked_path("run", run), own), accelerator)

    @classmethod
    def load(cls, path: str | Path, accelerator: str = "auto") -> Self:
        """The autoencoder that :meth:`save` has written; poems and vectors need not be there any more.

        The file is read as data: it holds no code, and its config may name classes of cvkan alone.

        Args:
            path: the file.
            accelerator: see the class.

        Raises:
            UserError: there is no such file, it is damaged, or of another kind or version.
        """
        with left_as_found():
            return cls(Parts.read(checked_path("path", path)), accelerator)

    def save(self, path: str | Path) -> None:
        """Write one file for :meth:`load`: config, weights, words and their vectors, where codes lie, all figures.

        It holds the training chunks too, word by word: :meth:`evaluate` compares other poems with them.

        Raises:
            UserError: it cannot be written.
        """
        self.parts.write(checked_path("path", path))

    @torch.no_grad()
    def encode(self, text: str) -> Tensor | list[Tensor]:
        """The codes of a text: (k, d) float32, one a chunk; with ``code="token"`` a list of k tensors (n, d).

        Raises:
            UserError: the text has no token.
        """
        codes = [(code.z.cpu(), mask.bool().cpu()) for code, mask in self.coder.encoded(checked_text("text", text))]
        if not self.coder.per_token:
            return torch.cat([z for z, _ in codes])
        return [of_chunk[valid] for z, mask in codes for of_chunk, valid in zip(z, mask, strict=True)]

    @torch.no_grad()
    def decode(self, z: Tensor | Sequence[Tensor]) -> str:
        """The text of codes, with its line breaks.

        Args:
            z: one code (d,) or several (k, d), whose texts follow each other; with ``code="token"`` those of one chunk,
                (n, d), or a list of such.

        Raises:
            UserError: it has another shape, or the network is no compressor.
        """
        self._check_compressor("decode")
        return self.speaker.said([self.coder.coded(z)])

    @torch.no_grad()
    def reconstruct(self, text: str) -> str:
        """What comes back of a text by way of its codes (with attention memory, of all states of the encoder).

        Raises:
            UserError: the text has no token.
        """
        return self.speaker.said(self.coder.encoded(checked_text("text", text)))

    def interpolate(self, a: str, b: str, steps: int = 5) -> list[str]:
        """Texts on the straight line between the codes of the first chunks of two texts, both ends among them.

        Args:
            a: a text.
            b: another.
            steps: number of texts, 2 or more.

        Raises:
            UserError: a text has no token, ``steps`` is out of range, or a text has no single code.
        """
        self._check_compressor("interpolate")
        if self.coder.per_token:
            what = "a text of many tokens has many codes, and no line leads from them to those of a shorter text"
            raise UserError(what, "interpolate", 'Train with code="sequence".')
        check_integer("steps", steps, 2)
        start, end = self.encode(a)[0], self.encode(b)[0]
        return [self.decode(torch.lerp(start, end, weight)) for weight in torch.linspace(0, 1, steps)]

    @torch.no_grad()
    def generate(
        self,
        seed_text: str | None = None,
        length: int = 50,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int | None = None,
    ) -> str:
        """A new text.

        It is decoded from the codes of ``seed_text``, then from codes drawn from the normal distribution with the mean
        and covariance of all training codes, each on a new line, until there are enough words. A position becomes word
        w with probability ``softmax_w(30 cos(y, w) / temperature)``, y being the decoded vector. A recurrent decoder
        goes on from the vector of the word that was chosen.

        Args:
            seed_text: a text to vary; None: all codes are drawn.
            length: number of words; marks and punctuation are not counted. A network that says hardly any word may
                give fewer.
            temperature: 0 takes the nearest word every time.
            top_k: choose among so many nearest words; None for all.
            seed: the same text every time; None: another one. torch's global generator is left alone.

        Raises:
            UserError: an argument is out of range, or the network is no compressor.
        """
        self._check_compressor("generate")
        check_integer("length", length, 1)
        check_number("temperature", temperature, 0)
        if top_k is not None:
            check_integer("top_k", top_k, 1)
        if seed is not None:
            check_integer("seed", seed, 0, SEEDS)
        generator = seeded(seed)
        kept = torch.tensor([place for place, word in enumerate(self.speaker.words) if word != UNK])
        draw = WordSampler(self.speaker.vectors[kept], temperature, top_k, generator)
        given = () if seed_text is None else map(self.coder.coded, self.encode(seed_text))
        return self.speaker.written(chain(given, self._drawn(generator)), length, lambda y: kept[draw(y)])

    def evaluate(self, poems: str | Path | None = None) -> dict[str, Any]:
        """Figures as in ``metrics.json``, those of the baselines beside, which were fitted on the training poems.

        Args:
            poems: None for the run's own figures, of the poems that were held out; a file for all of its poems but
                those of the training, which are left out: a warning names them, and ``data/training_poems`` counts.

        Raises:
            UserError: the file cannot be read, or holds poems of the training alone.
        """
        if poems is None:
            return copy.deepcopy(self.parts.figures)
        task = self.parts.task
        config = {**self.parts.config["data"], "limit_train": None}
        reading = {name: value for name, value in config.items() if name in Reading.__annotations__}
        known = (self.parts.lexicon, self.parts.train, self.parts.trained)
        data = OtherPoems(*known, path=str(checked_file("poems", poems)), **reading)
        with left_as_found():
            trainer = pl.Trainer(accelerator=self.accelerator, devices=1, **BARE_TRAINER)
            (tested,) = trainer.test(task, datamodule=data, verbose=False)
            figures = {**tested, **task.results(), **data.baselines()}
        task.to(self.device).eval()
        return figures

    def __repr__(self) -> str:
        figure = {name: number(value) for name, value in self.parts.figures.items()}
        n_parameters = sum(parameter.numel() for parameter in self.network.parameters())
        n_floats, compression = self.network.floats_per_chunk(self.coder.n_tokens), self.network.compression()
        worth = "not a compressor" if compression is None else f"compression {compression:g} : 1"
        return (
            f"PoetryAutoencoder: {type(self.network.encoder).__name__}, {n_parameters:,} parameters, "
            f"{n_floats:,} numbers a chunk of {self.coder.n_tokens} tokens, {worth}\n"
            f"  on held-out poems: token cosine {figure['test/token_cosine']} (a constant vector "
            f"{figure['baseline/mean_vector_cosine']}, principal components {figure['baseline/pca_cosine']}), word "
            f"accuracy {figure['test/word_accuracy']} (the most frequent word "
            f"{figure['baseline/majority_word_accuracy']})"
        )

    def _drawn(self, generator: torch.Generator) -> Iterator[Coded]:
        """Codes of one chunk after the other, without end."""
        n_codes = self.coder.n_tokens if self.coder.per_token else 1
        while True:
            yield self.coder.coded(self.parts.gaussian.draw(n_codes, generator))

    def _check_compressor(self, name: str) -> None:
        if self.network.compression() is None:
            what = f"{name} is for a network that decodes a code; this one has a memory beside it and is no compressor"
            raise UserError(what, "memory", 'Use reconstruct(text), or train with memory="none".')
