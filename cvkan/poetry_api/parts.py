"""All that an autoencoder of poems is made of: taken from a run, written to one file, read from it.

Legend: n training chunks, N tokens of a chunk at most, d numbers of a code.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from omegaconf import OmegaConf
from torch import Tensor

import cvkan
from cvkan import build
from cvkan.atomic import atomic_file
from cvkan.checkpointing import read_checkpoint
from cvkan.data_facts import check_data
from cvkan.domains.datamodule import DataModule
from cvkan.domains.poetry.base import PoetryData
from cvkan.domains.poetry.lexicon import Lexicon
from cvkan.domains.poetry.vector_sources import VectorFile
from cvkan.errors import UserError
from cvkan.explaining.trained import load_weights
from cvkan.poetry.chunks import identity
from cvkan.poetry.sampling import CodeGaussian
from cvkan.poetry.vectors import needed_words
from cvkan.run_directory import RunDirectory
from cvkan.tasks.reconstruction import ReconstructionTask
from cvkan.tasks.reconstruction_scores import CodeStatistics

FORMAT = 2  # of the file: raise it with any change that older or newer code cannot read
SECTIONS = ("data", "model", "task", "loss")  # of a run's config: what network and data are made of
# A task wants to know what trains it; here nothing is trained.
UNTRAINED: dict[str, Any] = {
    "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.0},
    "scheduler": {"_target_": "cvkan.schedulers.constant", "_partial_": True},
    "regularizer": {},
}
REPAIR = "Give a file that PoetryAutoencoder.save has written."


@dataclass(frozen=True)
class Parts:
    """See :class:`~cvkan.poetry_api.model.PoetryAutoencoder`.

    Attributes:
        config: sections of the run's config, plain and resolved.
        task: holds the network; in evaluation mode, on the CPU.
        lexicon: words and vectors.
        train: (n, N) int32, the training chunks as ids of the lexicon's table; other poems are compared with what
            simple codecs fitted on these reach.
        trained: the poems that these are of, each as :func:`~cvkan.poetry.chunks.identity` has it; sorted.
        gaussian: where the codes of these lie.
        figures: ``metrics.json`` of the run.
    """

    config: dict[str, Any]
    task: ReconstructionTask
    lexicon: Lexicon
    train: Tensor
    trained: tuple[str, ...]
    gaussian: CodeGaussian
    figures: dict[str, Any]

    @classmethod
    def of_run(cls, path: Path, own: Any) -> Self:
        """Those of a complete run, whose data are read again.

        Args:
            path: the run directory.
            own: a config of the user's, in plain containers, whose classes are trusted.

        Raises:
            UserError: it is no complete run of poems, or its poems or vectors are not there any more as they were.
        """
        if not (path / "metrics.json").is_file():
            raise UserError("this is not the directory of a complete run", path, "Give the output_dir of one.")
        run = RunDirectory(path)
        ckpt = run.best if run.best.exists() else run.last
        checkpoint = read_checkpoint(ckpt)
        config = {name: checkpoint["cvkan"]["config"][name] for name in SECTIONS}
        build.check_targets(config, str(ckpt), own)
        data, task = made(config)
        if not isinstance(data, PoetryData) or not isinstance(task, ReconstructionTask):
            raise UserError(f"the run is of domain={checkpoint['cvkan']['domain']}", path, "Give one of domain=poetry.")
        check_data(checkpoint, data, task.model, str(ckpt))
        load_weights(task.model, checkpoint["state_dict"], str(ckpt))
        data.prepare_data()
        data.setup()
        if checkpoint[type(data).__qualname__] != data.state_dict():
            raise UserError("the poems are not those of the run any more", path, "Train again.")
        vectors = data.vector_source.load(needed_words(data.table.words))
        lexicon = Lexicon(vectors, data.table.words, data.oov, data.vector_source.identity(), vector_file(config))
        tensors: dict[str, Tensor] = data.splits["train"].tensors  # type: ignore[attr-defined]
        train = tensors["y"].int()
        poems = {data.chunks[number].poem for number in tensors["id"].tolist()}
        trained = tuple(sorted({identity(data.poems[poem].text) for poem in poems}))
        gaussian = code_gaussian(task.eval(), data, train)
        return cls(config, task, lexicon, train, trained, gaussian, json.loads(run.metrics_json.read_text()))

    def write(self, path: Path) -> None:
        """Write one file, whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        weights = {f"model.{name}": tensor.cpu() for name, tensor in self.task.model.state_dict().items()}
        content = {
            "cvkan": {"poetry_autoencoder": FORMAT, "version": cvkan.__version__, "config": self.config},
            "state_dict": weights,
            "lexicon": self.lexicon.state(),
            "train": self.train,
            "trained": list(self.trained),
            "codes": {"mean": self.gaussian.mean, "covariance": self.gaussian.covariance},
            "figures": self.figures,
        }
        try:
            with atomic_file(path) as file:
                torch.save(content, file)
        except OSError as error:
            raise UserError(f"the file cannot be written: {error.strerror}", path, "Choose another place.") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """The inverse of :meth:`write`; nothing else is needed, neither poems nor vectors.

        Raises:
            UserError: there is no such file, it is damaged, of another kind or version, or names classes that are not
                part of cvkan.
        """
        content = content_of(path)
        found = content["cvkan"].get("poetry_autoencoder")
        if found is None:
            fix = "Give the run's directory to PoetryAutoencoder.of_run."
            raise UserError("this is the checkpoint of a run", path, fix)
        if found != FORMAT:
            version = content["cvkan"].get("version")
            fix = f"Load it with cvkan {version}, or train again."
            raise UserError(f"the file is of format {found}, this is cvkan {cvkan.__version__}", path, fix)
        config = content["cvkan"]["config"]
        build.check_targets(config, str(path))
        _, task = made(config)
        load_weights(task.model, content["state_dict"], str(path))
        task.eval()
        lexicon = Lexicon.from_state(content["lexicon"], vector_file(config))
        train, trained = content["train"], tuple(content["trained"])
        return cls(config, task, lexicon, train, trained, CodeGaussian(**content["codes"]), content["figures"])


def content_of(path: Path) -> dict[str, Any]:
    """What a file holds.

    Raises:
        UserError: there is no such file, or it is damaged or another one.
    """
    if path.is_file() and not is_whole(path):
        raise UserError("the file is damaged or no saved autoencoder", path, REPAIR)
    try:
        return read_checkpoint(path)
    except UserError as error:
        raise UserError(f"no autoencoder can be loaded: {error.what}", "", REPAIR) from error


def is_whole(path: Path) -> bool:
    """Is every byte as it was written? torch does not look, and would take changed weights for good ones."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError):  # NotImplementedError among them
        return False


def made(config: dict[str, Any]) -> tuple[DataModule, Any]:
    """Data, not loaded, and task for the sections of a config."""
    cfg = OmegaConf.create({**config, **UNTRAINED})
    cfg.model.compile = False  # texts come one by one, each of another length
    data = build.build_data(cfg)
    return data, build.build_task(cfg, data)


def vector_file(config: dict[str, Any]) -> VectorFile | None:
    """The file of vectors that a config names, there or not."""
    vectors = config["data"]["vectors"]
    return None if vectors is None else VectorFile(Path(vectors).expanduser(), config["data"]["dimension"])


@torch.no_grad()
def code_gaussian(task: ReconstructionTask, data: PoetryData, train: Tensor) -> CodeGaussian:
    """Mean and covariance of all codes of training chunks (n, N)."""
    statistics = CodeStatistics(task.model.d_latent)
    for ids in train.long().split(data.batch_size):
        batch = task.in_space(data.preprocess({"y": ids}))
        z = task.model.encode(batch["x"], batch["mask"]).z
        statistics.update(z if z.ndim == 2 else z[batch["mask"].bool()])
    return CodeGaussian(statistics.mean, statistics.scatter / (statistics.count - 1).clamp(min=1))
