"""Short Python calls. Each composes the config of a command and does what the command does."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from itertools import count
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cvkan.cli import overrides as typed_overrides
from cvkan.cli.app import resume_hint
from cvkan.errors import Interrupted, UserError
from cvkan.poetry_api.arguments import SEEDS, check_choice, check_integer, checked_file, checked_path
from cvkan.poetry_api.model import PoetryAutoencoder
from cvkan.poetry_api.surroundings import hushed, hydra_aside, left_as_found, told
from cvkan.training import train

CONFIG_NAME = "train"
PRESET = "poetry_"  # how the experiments begin that are presets
MODELS = ("recurrent", "cvkan")
CODES = ("sequence", "token")
MEMORIES = ("none", "attention")


def poetry_autoencoder(
    poems: str | Path,
    *,
    vectors: str | Path | None = None,
    preset: str | None = None,
    model: str | None = None,
    code: str = "sequence",
    memory: str | None = None,
    d_latent: int | None = None,
    max_epochs: int | None = None,
    seed: int = 0,
    output_dir: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> PoetryAutoencoder:
    """Train an autoencoder of poems, test it on poems held out, and return it.

    It is ``cvkan-train domain=poetry data=poems_file data.path=POEMS``, with ``experiment=poetry_PRESET`` if a preset
    is given, and with the same run directory, for any program or notebook: nothing of the process is changed for good.

    Args:
        poems: file of poems: a JSON list, JSON lines, CSV or text.
        vectors: file of word vectors: text as GloVe has it, or npz; None makes vectors from the poems.
        preset: a recurrent network by its size, ``tiny``, ``small``, ``medium``, ``large``, ``xlarge``, or any other
            ``experiment=poetry_…``. None is the network of the command, a complex-valued encoder and decoder.
        model: ``recurrent`` (LSTM) or ``cvkan`` (complex-valued), each with the training that suits it. None leaves it
            to the preset. ``cvkan`` with the preset of a size has about as many parameters as the recurrent network.
        code: ``sequence``, one code for a chunk of 50 tokens; ``token``, one a token.
        memory: ``none``; ``attention`` shows the decoder all states of the encoder, and is no compressor. None leaves
            it to the preset.
        d_latent: numbers of a code; None leaves them to the preset.
        max_epochs: None for the model's own: 60, or 30 if it is recurrent.
        seed: of all that is random.
        output_dir: the run directory; None for ``outputs/poetry/<time>``.
        overrides: any other choices, as typed for ``cvkan-train``: ``["optimizer.lr=1e-3", "data.batch_size=64"]``.

    Raises:
        UserError: an argument or a file is at fault; the message is one line.
        DivergedError: a loss or gradient was not finite.
        KeyboardInterrupt: it was interrupted; the message is the command that goes on.
    """
    if preset is not None:
        check_choice("preset", preset, presets())
    if model is not None:
        check_choice("model", model, MODELS)
    check_choice("code", code, CODES)
    if memory is not None:
        check_choice("memory", memory, MEMORIES)
    if model == "cvkan" and memory == "attention":
        raise UserError("memory='attention' looks at states that model='cvkan' has not", "memory", "Leave it out.")
    if d_latent is not None:
        check_integer("d_latent", d_latent, 1)
    if max_epochs is not None:
        check_integer("max_epochs", max_epochs, 1)
    check_integer("seed", seed, 0, SEEDS)
    if isinstance(overrides, str):
        raise UserError(f"overrides must be a list of texts, got {overrides!r}", "overrides", "Put it into brackets.")
    given: dict[str, object] = {
        "data.path": checked_file("poems", poems),
        "data.vectors": None if vectors is None else checked_file("vectors", vectors),
        "data.embeddings": "embedded" if vectors is None else "file",
        "domain.d_latent": d_latent,
        "trainer.max_epochs": max_epochs,
        "seed": seed,
        "output_dir": fresh_run_directory("poetry") if output_dir is None else checked_path("output_dir", output_dir),
    }
    experiment = None if preset is None else PRESET + preset
    groups = {"domain": "poetry", "data": "poems_file", "experiment": experiment, "model": model}
    groups |= {"code": code, "memory": memory}
    typed = [f"{name}={choice}" for name, choice in groups.items() if choice is not None]
    typed += [f"{key}={_quoted(value)}" for key, value in given.items() if value is not None]
    return trained(composed([*typed, *overrides]))


def trained(cfg: DictConfig) -> PoetryAutoencoder:
    """The autoencoder that a run with this config ends with.

    Raises:
        KeyboardInterrupt: in the place of :class:`~cvkan.errors.Interrupted`, for a notebook.
    """
    with left_as_found():
        try:
            with told():
                train(cfg)
        except Interrupted as stop:
            if stop.signum == signal.SIGINT:
                raise KeyboardInterrupt(f"interrupted{resume_hint(stop.last_checkpoint)}") from stop
            raise
        with hushed():
            return PoetryAutoencoder.of_run(cfg.output_dir, cfg.trainer.accelerator, own=OmegaConf.to_container(cfg))


def composed(typed: Sequence[str]) -> DictConfig:
    """The config of ``cvkan-train`` with these overrides, checked as the command checks them.

    Raises:
        UserError: an override is refused.
    """
    typed = list(typed)
    with hydra_aside():
        try:
            try:
                with initialize_config_module("cvkan.conf", version_base="1.3"):
                    cfg = compose(CONFIG_NAME, overrides=typed)
                typed_overrides.check(cfg, CONFIG_NAME, typed, root="model")
            except (HydraException, OmegaConfBaseException) as error:
                raise typed_overrides.explain(error, CONFIG_NAME, typed) from error
        except UserError as error:
            raise UserError(error.what, "overrides", error.fix) from error  # there is no command line
    return cfg


def fresh_run_directory(domain: str) -> Path:
    """``outputs/<domain>/<time>`` in this folder, with a number behind if it is taken."""
    path = Path("outputs").resolve() / domain / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = (path if number == 1 else path.with_name(f"{path.name}_{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def presets() -> list[str]:
    """What ``preset`` may be: every experiment of the poetry domain, by the rest of its name."""
    found = (Path(file.name).stem for file in files("cvkan.conf").joinpath("experiment").iterdir())
    return sorted(name.removeprefix(PRESET) for name in found if name.startswith(PRESET))


def _quoted(value: object) -> str:
    """A value as an override has it; paths may hold anything."""
    return QuotedString(str(value), Quote.single).with_quotes() if isinstance(value, Path) else str(value)
