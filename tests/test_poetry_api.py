"""The one-line API of poems: every method does what its name says, and the process around it stays as it was."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor
from torch.nn import functional as F

from cvkan import PoetryAutoencoder, UserError, poetry_autoencoder
from cvkan.api import fresh_run_directory
from cvkan.domains.poetry.lexicon import Lexicon
from cvkan.domains.poetry.vector_sources import VectorFile
from cvkan.models.autoencoder import Code
from cvkan.poetry.chunks import cut, split_poems
from cvkan.poetry.sampling import SHARPNESS, CodeGaussian, WordSampler
from cvkan.poetry.tokens import SPECIAL, tokenize
from cvkan.poetry.vectors import Kind, build_table, hash_vectors
from cvkan.poetry_api.generation import is_word
from cvkan.poetry_api.surroundings import told

WHO, DOES, WHERE = (
    ("fox", "owl", "moon", "river", "bear"),
    ("sleeps", "sings", "waits", "turns"),
    ("hill", "snow", "sky"),
)
POEMS = [f"The {who} {does}\nunder the {where}." for who, does, where in product(WHO, DOES, WHERE)]
WORDS = ("the", "under", ".", *WHO, *DOES, *WHERE)
D_VECTOR = 16
SMALL = (f"data.dimension={D_VECTOR}", "data.max_length=16", "data.overlap=2", "data.batch_size=8")
LEARNS = ("curriculum=none", "task_head.batch_norm=true", "optimizer.lr=1e-2")


def save_vectors(path: Path, words: tuple[str, ...], seed: int = 0) -> Path:
    rows = np.random.default_rng(seed).normal(size=(len(words), D_VECTOR)).round(3)
    path.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words, rows, strict=True)))
    return path


def surroundings() -> dict[str, Any]:
    """All that a run may leave changed for the rest of the process."""
    loggers = {"": logging.root, **logging.root.manager.loggerDict}
    return {
        "folder": os.getcwd(),
        # scikit-learn tells OpenMP how to behave, as it is imported.
        "environment": {name: value for name, value in os.environ.items() if not name.startswith(("KMP_", "PYTEST_"))},
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)],
        "handlers": {name: list(item.handlers) for name, item in loggers.items() if isinstance(item, logging.Logger)},
        "levels": {name: item.level for name, item in loggers.items() if isinstance(item, logging.Logger)},
        "logger": (logging.getLogger("cvkan").level, logging.getLogger("cvkan").propagate),
        "warnings": list(warnings.filters),
        "hydra": GlobalHydra.instance().hydra,
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002, what others may use
        "torch": torch.get_rng_state().tolist(),
        "gradients": torch.is_grad_enabled(),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Poems and vectors."""
    path = tmp_path_factory.mktemp("poems")
    (path / "poems.json").write_text(json.dumps(POEMS))
    save_vectors(path / "vectors.txt", WORDS)
    return path


@pytest.fixture(scope="module")
def train(folder: Path) -> Callable[..., PoetryAutoencoder]:
    def call(name: str, *overrides: str, **arguments: Any) -> PoetryAutoencoder:
        given = {"vectors": folder / "vectors.txt", "preset": "tiny", "output_dir": folder / name, **arguments}
        return poetry_autoencoder(folder / "poems.json", overrides=[*SMALL, *overrides], **given)

    return call


@pytest.fixture(scope="module")
def changes() -> dict[str, tuple[Any, Any]]:
    """What ``model`` found changed."""
    return {}


@pytest.fixture(scope="module")
def model(train: Callable[..., PoetryAutoencoder], changes: dict[str, tuple[Any, Any]]) -> PoetryAutoencoder:
    """It has learned the poems to some degree."""
    before = surroundings()
    trained = train("run 1, [it's]", *LEARNS, max_epochs=25)
    after = surroundings()
    for name in ("handlers", "levels"):  # modules that were imported meanwhile have made loggers
        after[name] = {key: value for key, value in after[name].items() if key in before[name]}
    changes |= {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    return trained


def right_words(model: PoetryAutoencoder) -> float:
    """Share of the poems' tokens that come back at their places."""
    pairs = [(tokenize(poem.lower()), tokenize(model.reconstruct(poem))) for poem in POEMS]
    right = sum(a == b for source, found in pairs for a, b in zip(source, found, strict=False))
    return right / sum(len(source) for source, _ in pairs)


def best_constant() -> float:
    """The same of one text for every poem, the best there is: what an API that returns constants may reach."""
    places = [*zip(*(tokenize(poem.lower()) for poem in POEMS), strict=True)]
    return sum(max(map(words.count, words)) for words in places) / sum(map(len, places))


# --- codes and texts


@pytest.mark.slow
def test_training_leaves_the_process_as_it_was(model: PoetryAutoencoder, changes: dict[str, Any]) -> None:
    assert not changes


@pytest.mark.slow
def test_poems_come_back_better_than_any_constant(model: PoetryAutoencoder) -> None:
    figures = model.evaluate()
    assert figures["train_eval/token_cosine"] > figures["baseline/mean_vector_cosine"] + 0.3
    assert figures["test/token_cosine"] > figures["ablation/z_shuffled_token_cosine"] + 0.05
    assert right_words(model) > best_constant() + 0.1


@pytest.mark.slow
def test_different_texts_have_different_codes_and_decodings(model: PoetryAutoencoder) -> None:
    codes = torch.cat([model.encode(poem) for poem in POEMS])
    assert (torch.cdist(codes, codes) + 100 * torch.eye(len(codes))).min() > 1e-3
    assert len({model.reconstruct(poem) for poem in POEMS}) > len(POEMS) / 3


@pytest.mark.slow
def test_a_code_is_that_of_the_network_on_the_words_vectors(model: PoetryAutoencoder, folder: Path) -> None:
    file = dict(line.split(" ", 1) for line in (folder / "vectors.txt").read_text().splitlines())
    norms = torch.tensor([[*map(float, numbers.split())] for numbers in file.values()]).norm(dim=1)
    marks = hash_vectors(SPECIAL, D_VECTOR, float(norms.median()))
    tokens = ["<POEM_START>", "the", "owl", "<LINE_BREAK>", "sings", ".", "<POEM_END>"]
    rows = [
        marks[SPECIAL.index(token)] if token in SPECIAL else torch.tensor([*map(float, file[token].split())])
        for token in tokens
    ]
    with torch.no_grad():
        z = model.network.encode(torch.stack(rows)[None], torch.ones(1, len(rows))).z
    torch.testing.assert_close(model.encode("The owl\nsings."), z)


@pytest.mark.slow
def test_a_long_text_has_a_code_a_chunk_without_overlap(model: PoetryAutoencoder) -> None:
    text = "\n".join(POEMS[:9])
    chunks = cut([tokenize(text)], 16, overlap=0)
    z = model.encode(text)
    assert z.shape == (len(chunks), 16)
    assert z.dtype == torch.float32
    assert not z.requires_grad
    assert sum(len(chunk.tokens) - 2 for chunk in chunks) == len(tokenize(text))
    assert model.decode(z) == model.reconstruct(text)
    assert len(tokenize(model.decode(z))) > 3 * len(tokenize(model.decode(z[0])))


@pytest.mark.slow
def test_decoding_takes_one_code_or_many(model: PoetryAutoencoder) -> None:
    z = model.encode(POEMS[7])
    assert model.decode(z[0]) == model.decode(z) == model.reconstruct(POEMS[7])
    assert "\n" in model.decode(z)
    assert not any(mark in model.decode(z) for mark in SPECIAL)
    for wrong in (z[:, :3], z[None], z[:0], "text", [], None):
        with pytest.raises(UserError, match="z must be a tensor"):
            model.decode(wrong)


@pytest.mark.slow
def test_decoding_names_the_nearest_word_of_every_vector(model: PoetryAutoencoder) -> None:
    z = model.encode(POEMS[31])
    with torch.no_grad():
        output = model.network.decode(Code(z), torch.ones(1, 16))[0]
    cosine = F.cosine_similarity(output[:, None], model.speaker.vectors[None], dim=-1)
    words = [model.speaker.words[place] for place in cosine.argmax(dim=1).tolist()]
    assert tokenize(model.decode(z)) == words[1 : words.index("<POEM_END>")]


@pytest.mark.slow
def test_interpolation_goes_from_one_text_to_the_other(model: PoetryAutoencoder) -> None:
    texts = model.interpolate(POEMS[0], POEMS[-1], steps=7)
    assert len(texts) == 7
    assert len(model.interpolate(POEMS[0], POEMS[-1])) == 5
    assert (texts[0], texts[-1]) == (model.reconstruct(POEMS[0]), model.reconstruct(POEMS[-1]))
    assert texts[0] != texts[-1]
    halfway = (model.encode(POEMS[0]) + model.encode(POEMS[-1])) / 2
    assert texts[3] == model.decode(halfway)


# --- new texts


@pytest.mark.slow
def test_a_generated_text_has_so_many_words_and_is_that_of_its_seed(model: PoetryAutoencoder) -> None:
    state = torch.get_rng_state()
    texts = [model.generate(length=30, seed=seed) for seed in (0, 1, 2, 0)]
    assert texts[0] == texts[3]
    assert len(set(texts)) == 3
    assert all(sum(map(is_word, tokenize(text))) == 30 for text in texts)
    assert all("\n" in text and not any(mark in text for mark in SPECIAL) for text in texts)
    assert set(tokenize(texts[0])) <= {*WORDS, *SPECIAL}
    assert model.generate(length=30) != model.generate(length=30)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.slow
def test_temperature_and_top_k_decide_how_much_is_chance(model: PoetryAutoencoder) -> None:
    def texts(**arguments: Any) -> set[str]:
        return {model.generate(POEMS[5], length=6, seed=seed, **arguments) for seed in range(4)}

    assert texts(temperature=0) == texts(top_k=1) == texts(temperature=1e-6)
    assert len(texts(temperature=0)) == 1
    assert len(texts(temperature=30.0)) == 4
    given = {model.generate(poem, length=6, temperature=0) for poem in POEMS}
    assert len(given) > len(POEMS) / 4  # the seed text matters


@pytest.mark.slow
def test_a_recurrent_decoder_goes_on_from_the_words_that_were_chosen(model: PoetryAutoencoder) -> None:
    chosen = torch.tensor([2, 9, 4, 4, 12, 7, 10, 3])
    seen: list[Tensor] = []

    def choose(y: Tensor) -> Tensor:
        seen.append(y)
        return chosen[len(seen) - 1 : len(seen)]

    z = model.encode(POEMS[3])
    with torch.no_grad():
        assert [*model.speaker._stepwise(z, len(chosen), choose)] == chosen.tolist()
        gold, forced = model.speaker.vectors[chosen][None], torch.ones(len(chosen), dtype=torch.bool)
        told_all = model.network.decode(Code(z), torch.ones(1, len(chosen)), gold, forced)
    torch.testing.assert_close(torch.cat(seen), told_all[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.generate(length=0), "length must be an integer, 1 or more, got 0"),
        (lambda m: m.generate(temperature=-1), "temperature must be a number, 0 or more, got -1"),
        (lambda m: m.generate(temperature=float("nan")), "temperature must be a number"),
        (lambda m: m.generate(top_k=0), "top_k must be an integer"),
        (lambda m: m.generate(seed=-1), "seed must be an integer"),
        (lambda m: m.generate(seed_text=""), "text is empty"),
        (lambda m: m.interpolate("a", "b", steps=1), "steps must be an integer, 2 or more"),
        (lambda m: m.encode(" \n "), "text is empty"),
        (lambda m: m.encode(5), "text must be a text, got int"),
        (lambda m: m.evaluate("nowhere.json"), "there is no file"),
        (lambda m: m.save("nowhere/model.pt"), "the file cannot be written: No such file"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    model: PoetryAutoencoder, call: Callable[[PoetryAutoencoder], Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        call(model)
    assert "\n" not in str(caught.value)


# --- figures


@pytest.mark.slow
def test_own_figures_are_those_of_the_run(model: PoetryAutoencoder, folder: Path) -> None:
    figures = model.evaluate()
    assert figures == json.loads((folder / "run 1, [it's]" / "metrics.json").read_text())
    figures.clear()
    assert model.evaluate()
    for shown in ("158,032 parameters", "16 numbers a chunk of 16 tokens", "compression 16 : 1"):
        assert shown in repr(model)
    for name in ("test/token_cosine", "baseline/mean_vector_cosine", "test/word_accuracy"):
        assert f"{model.evaluate()[name]:.4g}" in repr(model)


@pytest.mark.slow
def test_held_out_poems_from_a_file_have_the_figures_of_the_run(model: PoetryAutoencoder, tmp_path: Path) -> None:
    before, state = model.encode(POEMS[0]), torch.get_rng_state()
    held_out = [poem for poem, part in zip(POEMS, split_poems(POEMS), strict=True) if part == "test"]
    (tmp_path / "others.json").write_text(json.dumps(held_out))
    own = model.evaluate()
    for _ in range(2):
        found = model.evaluate(tmp_path / "others.json")
        for name in own:
            if isinstance(own[name], float) and not name.startswith(("data/", "best/")):
                assert found[name] == pytest.approx(own[name], abs=1e-5), name
    assert torch.equal(model.encode(POEMS[0]), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.network.training


@pytest.mark.slow
def test_poems_of_the_training_are_named_and_left_out(
    model: PoetryAutoencoder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = split_poems(POEMS)
    trained, others = ([poem for poem, part in zip(POEMS, parts, strict=True) if (part == "train") == is_trained]
                       for is_trained in (True, False))  # fmt: skip
    copies = [{"text": trained[0].upper() + "!", "title": "Mine"}, *trained[1:5]]
    (tmp_path / "mixed.json").write_text(json.dumps([others[0], *copies, *others[1:]]))
    (tmp_path / "others.json").write_text(json.dumps(others))
    (tmp_path / "trained.json").write_text(json.dumps(trained))
    expected = model.evaluate(tmp_path / "others.json")
    assert expected["data/training_poems"] == 0
    assert not caplog.records
    assert model.evaluate(tmp_path / "mixed.json") == {**expected, "data/training_poems": 5}
    (record,) = caplog.records
    left_out = f"Left out 5 of {len(others) + 5} poems, which training had: 'Mine', poem 2, poem 3, …"
    assert record.getMessage() == left_out
    with pytest.raises(UserError, match=f"trained on every one of the {len(trained)} poems"):
        model.evaluate(tmp_path / "trained.json")


@pytest.mark.slow
def test_poems_of_other_words_are_harder(model: PoetryAutoencoder, tmp_path: Path) -> None:
    (tmp_path / "others.txt").write_text("Seven quiet herons, seven.\n\nNo one knows the sky.")
    found = model.evaluate(tmp_path / "others.txt")
    assert found["data/tokens_oov"] > 0.5
    assert found["test/token_cosine"] < model.evaluate()["test/token_cosine"] - 0.2


# --- files


@pytest.mark.slow
def test_a_saved_autoencoder_is_the_same_anywhere_and_needs_nothing_else(
    model: PoetryAutoencoder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*POEMS[:5], "A heron, unheard of,\nwaits."]
    path = tmp_path / "model.pt"
    model.save(path)
    assert [*tmp_path.iterdir()] == [path]
    moved = [file.rename(file.with_suffix(".gone")) for file in (folder / "poems.json", folder / "vectors.txt")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    try:
        state = torch.get_rng_state()
        loaded = PoetryAutoencoder.load("../model.pt")
        assert torch.equal(torch.get_rng_state(), state)
        for text in texts:
            assert torch.equal(loaded.encode(text), model.encode(text))
            assert loaded.reconstruct(text) == model.reconstruct(text)
        assert loaded.decode(model.encode(texts[0])) == model.decode(model.encode(texts[0]))
        assert loaded.generate(seed=4) == model.generate(seed=4)
        assert loaded.evaluate() == model.evaluate()
        assert repr(loaded) == repr(model)
        Path("other.json").write_text(json.dumps(POEMS))
        assert loaded.evaluate("other.json") == model.evaluate("other.json")
    finally:
        for file in moved:
            file.rename(file.with_suffix({"poems": ".json", "vectors": ".txt"}[file.stem]))


@pytest.mark.slow
def test_a_damaged_or_foreign_file_is_refused_in_one_line(
    model: PoetryAutoencoder, folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.pt"
    model.save(path)
    raw, content = path.read_bytes(), torch.load(path, weights_only=True)

    def refused(found: bytes | dict[str, Any], message: str) -> None:
        if isinstance(found, bytes):
            path.write_bytes(found)
        else:
            torch.save(found, path)
        with pytest.raises(UserError, match=message) as caught:
            PoetryAutoencoder.load(path)
        assert "\n" not in str(caught.value)

    refused(raw[: len(raw) // 2], "damaged")
    refused(b"", "damaged")
    middle = len(raw) // 2  # among the weights, where torch itself sees no difference
    refused(raw[:middle] + bytes([raw[middle] ^ 4]) + raw[middle + 1 :], "damaged")
    refused({"a": torch.zeros(2)}, "not a checkpoint of cvkan")
    refused({**content, "cvkan": {**content["cvkan"], "poetry_autoencoder": 99}}, "the file is of format 99")
    config = content["cvkan"]["config"]
    foreign = {**config, "loss": {"_target_": "os.system", "command": "false"}}
    refused(
        {**content, "cvkan": {**content["cvkan"], "config": foreign}}, "names os.system, which is not part of cvkan"
    )
    with pytest.raises(UserError, match="there is no checkpoint"):
        PoetryAutoencoder.load(tmp_path / "nothing.pt")
    with pytest.raises(UserError, match=r"this is the checkpoint of a run .*of_run"):
        PoetryAutoencoder.load(folder / "run 1, [it's]" / "checkpoints" / "best.ckpt")


@pytest.mark.slow
def test_an_autoencoder_is_taken_from_a_run_unless_its_poems_have_changed(
    model: PoetryAutoencoder, folder: Path
) -> None:
    run = folder / "run 1, [it's]"
    assert torch.equal(PoetryAutoencoder.of_run(run).encode(POEMS[2]), model.encode(POEMS[2]))
    poems = folder / "poems.json"
    text = poems.read_text()
    try:
        poems.write_text(json.dumps([*POEMS, "The owl waits under the owl."]))
        with pytest.raises(UserError, match="the poems are not those of the run"):
            PoetryAutoencoder.of_run(run)
    finally:
        poems.write_text(text)
    with pytest.raises(UserError, match="not the directory of a complete run"):
        PoetryAutoencoder.of_run(folder)


# --- other networks


@pytest.mark.slow
def test_codes_of_tokens_are_as_many_as_the_tokens(
    train: Callable[..., PoetryAutoencoder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = train("token", *LEARNS, code="token", max_epochs=8)
    assert "epoch 8/8  val/token_cosine" in capsys.readouterr().out  # progress without a terminal, as in a notebook
    text = "\n".join(POEMS[:4])
    codes = model.encode(text)
    chunks = cut([tokenize(text)], 16, overlap=0)
    assert [tuple(z.shape) for z in codes] == [(len(chunk.tokens), 16) for chunk in chunks]
    assert model.decode(codes) == model.reconstruct(text)
    assert model.reconstruct(text).startswith(model.decode(codes[0]))
    assert right_words(model) > 0.8
    assert model.generate(seed=1, length=9) == model.generate(seed=1, length=9) != model.generate(seed=2, length=9)
    with pytest.raises(UserError, match=r"no line leads .* code=.sequence."):
        model.interpolate(POEMS[0], POEMS[1])
    with pytest.raises(UserError, match="n from 1 to 16"):
        model.decode(torch.zeros(17, 16))
    model.save(tmp_path / "model.pt")
    assert PoetryAutoencoder.load(tmp_path / "model.pt").decode(codes) == model.decode(codes)


@pytest.mark.slow
def test_attention_memory_is_no_compressor_and_says_so(
    train: Callable[..., PoetryAutoencoder], capsys: pytest.CaptureFixture[str]
) -> None:
    model = train("attention", "curriculum=none", memory="attention", max_epochs=6)
    output = capsys.readouterr()
    assert (output.out + output.err).count("Not a compressor") == 1
    assert "not a compressor" in repr(model)
    z = model.encode(POEMS[0])
    assert z.shape == (1, 16)
    assert len({model.reconstruct(poem) for poem in POEMS}) > 5
    for call in (lambda: model.decode(z), model.generate, lambda: model.interpolate(POEMS[0], POEMS[1])):
        with pytest.raises(UserError, match="no compressor"):
            call()


@pytest.mark.slow
def test_complex_networks_are_trained_by_one_line_too(train: Callable[..., PoetryAutoencoder]) -> None:
    model = train("complex", "model.d_complex=32", preset=None, max_epochs=10)
    assert type(model.network.encoder).__name__ == "CVKAN"
    assert len({model.reconstruct(poem) for poem in POEMS}) > 5
    assert right_words(model) > best_constant()
    assert model.generate(seed=1) == model.generate(seed=1) != model.generate(seed=2)


# --- the call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "smal"}, r"preset='smal' is not known .*tiny"),
        ({"model": "resnet18"}, "model='resnet18' is not known .*recurrent, cvkan"),
        ({"code": "word"}, "code='word' is not known"),
        ({"memory": "all"}, "memory='all' is not known"),
        ({"model": "cvkan", "memory": "attention"}, "memory='attention' looks at states"),
        ({"preset": None, "memory": "attention"}, "AttentionMemory is for a decoder that takes .*Set model=recurrent"),
        ({"preset": "cvkan"}, "preset='cvkan' is not known"),
        ({"d_latent": 0}, "d_latent must be an integer"),
        ({"max_epochs": 1.5}, "max_epochs must be an integer"),
        ({"seed": 2**40}, "seed must be an integer, from 0"),
        ({"vectors": "nowhere.txt"}, r"there is no file .*nowhere.txt \(vectors\)"),
        ({"overrides": "seed=1"}, "overrides must be a list"),
        ({"overrides": ["model.d_hiden=3"]}, r"no such key model.d_hiden \(overrides\). Closest known: model.d_hidden"),
        ({"overrides": ["optimizer.lr=fast"]}, "optimizer.lr must be a number, got 'fast'"),
        ({"overrides": ["seed=1,2"]}, "seed=1,2"),
        ({"overrides": ["loss=cosine"]}, "loss=cosine does not exist .*hybrid_cosine"),
        ({"overrides": ["data.max_length=2"]}, "max_length must be 3 or more"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_made(
    arguments: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        poetry_autoencoder(folder / "poems.json", **{"preset": "tiny", "output_dir": tmp_path / "run", **arguments})
    assert "\n" not in str(caught.value)
    assert not [*tmp_path.iterdir()]
    assert not GlobalHydra.instance().is_initialized()


def test_missing_poems_and_a_used_folder_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file .*none.json \(poems\)"):
        poetry_autoencoder(tmp_path / "none.json")
    with pytest.raises(UserError, match=r"poems must be a path, got list"):
        poetry_autoencoder(POEMS)  # type: ignore[arg-type]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    with pytest.raises(UserError, match="holds a run"):
        poetry_autoencoder(folder / "poems.json", output_dir=tmp_path)


class Interrupting(pl.Callback):
    """A person who stops the second epoch."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_an_interrupt_arrives_as_one_and_tells_how_to_go_on(
    train: Callable[..., PoetryAutoencoder], folder: Path
) -> None:
    before = surroundings()
    with pytest.raises(
        KeyboardInterrupt, match=r"interrupted; go on with: cvkan-train .*stopped/checkpoints/last.ckpt"
    ):
        train("stopped", f"+callbacks.stop._target_={__name__}.Interrupting")
    assert (folder / "stopped" / "checkpoints" / "last.ckpt").is_file()
    after = surroundings()
    assert {name for name in before if before[name] != after[name]} <= {"handlers", "levels"}  # of new loggers alone


@pytest.mark.slow
def test_it_works_inside_a_hydra_app_again_and_again(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "app.yaml").write_text("mine: 5\n")
    (tmp_path / "app.py").write_text(
        f"""
import hydra
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from cvkan import poetry_autoencoder

@hydra.main(version_base="1.3", config_path="conf", config_name="app")
def app(cfg):
    outer = GlobalHydra.instance().hydra
    poems, vectors = {str(folder / "poems.json")!r}, {str(folder / "vectors.txt")!r}
    models = [
        poetry_autoencoder(poems, vectors=vectors, preset="tiny", max_epochs=1, overrides={SMALL!r}) for _ in range(2)
    ]
    assert GlobalHydra.instance().hydra is outer
    assert compose("app").mine == 5 and HydraConfig.get().job.config_name == "app"
    assert models[0].generate(seed=1) == models[1].generate(seed=1)

app()
"""
    )
    arguments = [sys.executable, "app.py", "hydra.run.dir=own"]
    ended = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert len([*(tmp_path / "outputs" / "poetry").iterdir()]) == 2
    assert (tmp_path / "own" / "app.log").read_text().count("epoch 1/1") == 2


# --- parts


def test_runs_that_start_in_one_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = []
    for _ in range(3):
        made.append(fresh_run_directory("poetry"))
        made[-1].mkdir(parents=True)
    assert {path.parent for path in made} == {tmp_path / "outputs" / "poetry"}


def test_what_is_logged_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("cvkan.somewhere")
    with told():
        log.info("an epoch")
    log.info("no one listens")
    assert capsys.readouterr().out == "an epoch\n"


def test_words_are_drawn_by_the_softmax_of_their_cosines() -> None:
    vectors = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    y = vectors[0] + vectors[1]
    cosine = F.cosine_similarity(y, vectors, dim=-1).double()
    draw = WordSampler(vectors, 15.0, None, torch.Generator().manual_seed(1))
    share = draw(y.expand(40_000, -1)).bincount(minlength=5) / 40_000
    expected = (SHARPNESS * cosine / 15.0).exp() / (SHARPNESS * cosine / 15.0).exp().sum()
    torch.testing.assert_close(share.double(), expected, atol=0.01, rtol=0)
    two = WordSampler(vectors, 15.0, 2, torch.Generator().manual_seed(1))(y.expand(1000, -1))
    assert set(two.tolist()) == set(cosine.topk(2).indices.tolist())
    coldest = WordSampler(vectors, 0, 99, torch.Generator())(torch.randn(50, 8))
    assert coldest.shape == (50,)
    assert (WordSampler(vectors, 0, None, torch.Generator())(vectors) == torch.arange(5)).all()


def test_codes_are_drawn_with_mean_and_covariance() -> None:
    root = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    mean, covariance = torch.tensor([5.0, -1.0, 0.0]), root @ root.T
    z = CodeGaussian(mean, covariance).draw(100_000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(z.mean(dim=0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(z.T.cov(), covariance, atol=0.1, rtol=0.02)
    line = torch.outer(torch.arange(128.0), torch.arange(128.0))  # fewer codes than dimensions
    assert CodeGaussian(torch.zeros(128), line).draw(2, torch.Generator()).isfinite().all()
    assert (CodeGaussian(mean, torch.zeros(3, 3)).draw(9, torch.Generator()) - mean).abs().max() < 0.1


@pytest.fixture
def lexicon(tmp_path: Path) -> Lexicon:
    """Of three words of a file that has more."""
    file = VectorFile(save_vectors(tmp_path / "vectors.txt", WORDS), D_VECTOR)
    return Lexicon(
        file.load({"the", "owl", "."}), [*SPECIAL, "The", "owl", ".", "blorp"], "hash", file.identity(), file
    )


def test_new_words_are_those_of_the_file_while_it_is_there(lexicon: Lexicon) -> None:
    assert lexicon.file is not None
    everything = lexicon.file.load(set(WORDS))
    tokens = ["The", "moon", "MOON", "zyx", "<LINE_BREAK>"]
    table = build_table(tokens, everything, "hash")
    expected = table.matrix[table.encode(tokens)]
    expected[3:] = hash_vectors(["zyx", "<LINE_BREAK>"], D_VECTOR, lexicon.vectors.median_norm)
    assert torch.equal(lexicon.vectors_of(tokens), expected)
    lexicon.file.path.unlink()
    assert torch.equal(lexicon.vectors_of(tokens), expected)  # what was found is kept
    kept = Lexicon.from_state(lexicon.state(), None)
    assert torch.equal(kept.vectors_of(tokens), expected)
    unknown = hash_vectors(["river"], D_VECTOR, lexicon.vectors.median_norm)
    assert torch.equal(lexicon.vectors_of(["river"]), unknown)
    assert torch.equal(lexicon.vectors_of(["owl"]), kept.vectors_of(["owl"]))


def test_another_file_in_the_place_of_the_vectors_is_not_asked(
    lexicon: Lexicon, caplog: pytest.LogCaptureFixture
) -> None:
    assert lexicon.file is not None
    save_vectors(lexicon.file.path, WORDS, seed=1)
    unknown = hash_vectors(["river", "moon"], D_VECTOR, lexicon.vectors.median_norm)
    assert torch.equal(lexicon.vectors_of(["river", "moon"]), unknown)
    assert "is not there as the run had it" in caplog.text


def test_a_larger_table_has_the_vectors_of_the_run(lexicon: Lexicon) -> None:
    own, larger = lexicon.table, lexicon.table_with(["aardvark", "moon"])
    assert torch.equal(larger.matrix[larger.encode(own.words)], own.matrix)
    assert [Kind(int(larger.kind[larger.ids[word]])) for word in ("aardvark", "moon")] == [Kind.OOV, Kind.EXACT]
    assert len(larger.candidates) == len(own.candidates) + 1
