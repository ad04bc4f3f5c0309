"""Poems as data: batches, splits, where vectors come from, what a checkpoint holds on to."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from torch import Tensor, nn

from cvkan.cli import resolvers
from cvkan.domains.cache import cache_folder
from cvkan.domains.poetry import vector_sources
from cvkan.domains.poetry.base import PoetryData
from cvkan.domains.poetry.sources import PoemsEmbedded, PoemsFile
from cvkan.errors import DataUnavailableError, UserError
from cvkan.poetry.chunks import Chunk
from cvkan.poetry.tokens import POEM_END, POEM_START, detokenize, normalize, tokenize

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is absent")
SETTINGS = {
    "embeddings": "embedded",
    "vectors": None,
    "dimension": 300,
    "oov": "hash",
    "max_length": 50,
    "overlap": 10,
    "random_chunks": 0.0,
    "d_latent": 16,
    "code": "sequence",
    "batch_size": 8,
    "num_workers": 0,
    "seed": 0,
    "limit_train": None,
}
POEMS = [
    f"The {first} sleeps\nunder the {second},\n\nand {n} stars wheel on."
    for n, (first, second) in enumerate(
        (first, second) for first in ("sea", "moon", "fox", "oak", "owl") for second in ("hill", "snow", "rain", "pier")
    )
]
WORDS = ["the", "sea", "moon", "sleeps", "under", ",", "and", "stars"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def poems_path(tmp_path: Path) -> Path:
    path = tmp_path / "poems.json"
    path.write_text(json.dumps(POEMS))
    return path


@pytest.fixture
def vectors_path(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.txt"
    save_vectors(path, seed=0)
    return path


def save_vectors(path: Path, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(len(WORDS), 4)).round(3)
    path.write_text("".join(f"{w} {' '.join(map(str, row))}\n" for w, row in zip(WORDS, rows, strict=True)))


def embedded(**changes: Any) -> PoemsEmbedded:
    return PoemsEmbedded(**{**SETTINGS, **changes})


def of_files(poems: Path, vectors: Path | None, **changes: Any) -> PoemsFile:
    source = {"embeddings": "file", "vectors": None if vectors is None else str(vectors), "dimension": 4}
    settings = {**SETTINGS, **source, "max_length": 12}
    return PoemsFile(path=str(poems), **{**settings, "overlap": 2, **changes})


def loaded(data: PoetryData) -> PoetryData:
    data.setup()
    return data


def rows(data: PoetryData, part: str) -> dict[str, Tensor]:
    return data.splits[part].tensors  # type: ignore[attr-defined]


def chunks_of(data: PoetryData, part: str) -> list[Chunk]:
    return [data.chunks[number] for number in rows(data, part)["id"]]


# --- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_holds_the_vectors_of_its_tokens_and_zeros_behind_them() -> None:
    data = loaded(embedded())
    assert data.spec.input_shape == (50, 300)
    assert data.spec.target == "vectors"
    batch = data.preprocess(next(iter(data.train_dataloader())))
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {
        "x": (8, 50, 300),
        "mask": (8, 50),
        "y": (8, 50),
        "id": (8,),
    }
    lengths = []
    for x, mask, y, number in zip(*(batch[name] for name in ("x", "mask", "y", "id")), strict=True):
        chunk = data.chunks[number]
        n = len(chunk.tokens)
        assert tuple(data.table.words[i] for i in y[:n]) == chunk.tokens
        assert mask.tolist() == [1.0] * n + [0.0] * (50 - n)
        assert torch.equal(x[:n], data.table.matrix[y[:n]])
        assert not x[n:].any()
        assert not y[n:].any()
        lengths.append(n)
    assert min(lengths) < 50


def test_chunks_hold_every_poem_whole() -> None:
    data = loaded(embedded())
    for number, poem in enumerate(data.poems):
        tokens: dict[int, str] = {}
        for chunk in (chunk for chunk in data.chunks if chunk.poem == number):
            assert (chunk.tokens[0], chunk.tokens[-1]) == (POEM_START, POEM_END)
            tokens |= dict(enumerate(chunk.tokens[1:-1], chunk.start))
        assert detokenize([tokens[place] for place in range(len(tokens))]) == normalize(poem.text)
    figures = data.measures()
    assert figures["data/coverage"] == 1.0
    assert 1.0 < figures["data/duplication"] < 1.5


def test_no_poem_is_in_two_parts_and_copies_fall_together(tmp_path: Path) -> None:
    path = tmp_path / "poems.json"
    path.write_text(json.dumps([*POEMS, *POEMS[::2]]))
    data = loaded(PoemsFile(path=str(path), **{**SETTINGS, "max_length": 12, "overlap": 2}))
    numbers = torch.cat([rows(data, part)["id"] for part in ("train", "val", "test")])
    assert sorted(numbers.tolist()) == list(range(len(data.chunks)))
    texts = {part: {data.poems[c.poem].text for c in chunks_of(data, part)} for part in ("train", "val", "test")}
    assert sum(map(len, texts.values())) == len(POEMS)
    for part, text in texts.items():
        assert text == {poem.text for poem, own in zip(data.poems, data.parts, strict=True) if own == part}


def test_limit_train_cuts_the_training_part_alone() -> None:
    whole, limited = loaded(embedded()), loaded(embedded(limit_train=20))
    assert len(limited.splits["train"]) == 20  # type: ignore[arg-type]
    assert torch.equal(rows(limited, "test")["y"], rows(whole, "test")["y"])


# --- where vectors come from -----------------------------------------------------------------------------------------


def test_embedded_vectors_know_every_word_and_come_from_the_cache_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    first = loaded(embedded())
    shares = first.measures()
    assert shares["data/tokens_exact"] + shares["data/tokens_lower"] == pytest.approx(1)
    monkeypatch.setattr(vector_sources.ppmi, "ppmi_vectors", None)
    assert torch.equal(loaded(embedded()).table.matrix, first.table.matrix)


def test_random_vectors_make_no_two_words_alike() -> None:
    data = loaded(embedded(embeddings="random"))
    words = data.table.matrix[data.table.candidates]
    directions = nn.functional.normalize(words, dim=1)
    assert (directions @ directions.T - torch.eye(len(words))).abs().max() < 0.4
    assert data.measures()["data/tokens_exact"] == 1


def test_a_file_of_vectors_is_looked_up_and_what_was_needed_is_cached(
    poems_path: Path, vectors_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = loaded(of_files(poems_path, vectors_path))
    found = first.measures()
    tokens = Counter(token for poem in POEMS for token in tokenize(poem) if not token.startswith("<"))
    exact = sum(count for token, count in tokens.items() if token in WORDS) / tokens.total()
    assert found["data/tokens_exact"] == pytest.approx(exact)
    assert found["data/tokens_lower"] == pytest.approx(tokens["The"] / tokens.total())
    assert found["data/candidate_words"] == len(WORDS)
    known = first.table.matrix[first.table.candidates]
    assert float(first.table.matrix[first.table.ids["fox"]].norm()) == pytest.approx(float(known.norm(dim=1).median()))

    monkeypatch.setattr(vector_sources, "read_vectors", None)  # from here on only the cache can answer
    assert torch.equal(loaded(of_files(poems_path, vectors_path)).table.matrix, first.table.matrix)


def test_another_content_of_the_file_is_read_anew_and_so_is_a_damaged_cache(
    poems_path: Path, vectors_path: Path
) -> None:
    first = loaded(of_files(poems_path, vectors_path))
    save_vectors(vectors_path, seed=1)
    second = loaded(of_files(poems_path, vectors_path))
    assert not torch.equal(second.table.matrix, first.table.matrix)
    for path in cache_folder().glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-40])
    assert torch.equal(loaded(of_files(poems_path, vectors_path)).table.matrix, second.table.matrix)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": "glove"}, "embeddings=glove is not known.*file, embedded, random"),
        ({"embeddings": "file"}, "no file of word vectors.*data.embeddings=embedded"),
        ({"vectors": "glove.txt"}, "not read with embeddings=embedded"),
        ({"dimension": 0}, "dimension must be at least 1"),
        ({"limit_train": 0}, "limit_train must be at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        embedded(**change)


@pytest.mark.parametrize("change", [{"max_length": 2}, {"overlap": -1}, {"overlap": 48}])
def test_sizes_of_chunks_are_judged_before_poems_are_read(change: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        PoemsFile(path="nowhere.json", **{**SETTINGS, **change})


def test_missing_files_and_other_dimensions_are_refused(poems_path: Path, vectors_path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match="no such file of poems"):
        of_files(tmp_path / "none.json", vectors_path).setup()
    with pytest.raises(DataUnavailableError, match="no such file of word vectors"):
        of_files(poems_path, tmp_path / "none.txt").setup()
    with pytest.raises(UserError, match=r"have 4 numbers, data\.dimension is 300"):
        of_files(poems_path, vectors_path, dimension=300).setup()
    with pytest.raises(UserError, match="oov=nearest is not known"):
        of_files(poems_path, vectors_path, oov="nearest").setup()


def test_poems_of_a_single_token_are_data(tmp_path: Path) -> None:
    path = tmp_path / "poems.json"
    path.write_text(json.dumps(["sea", "moon", "fox", "owl"]))
    data = loaded(PoemsFile(path=str(path), **{**SETTINGS, "max_length": 5, "overlap": 0}))
    batch = data.preprocess(next(iter(data.train_dataloader())))
    assert (batch["mask"].sum(dim=1) == 3).all()
    assert batch["x"].isfinite().all()


# --- checkpoints and results -----------------------------------------------------------------------------------------


def test_facts_tell_vectors_apart_before_anything_is_loaded(poems_path: Path, vectors_path: Path) -> None:
    def vectors(data: PoetryData) -> str:
        return data.facts(None)["vectors"]

    data = of_files(poems_path, vectors_path)
    first = vectors(data)
    assert not data.splits
    assert first.startswith("file ")
    shutil.copy(vectors_path, vectors_path.with_name("copy.txt"))
    assert vectors(of_files(poems_path, vectors_path.with_name("copy.txt"))) == first
    poems_path.write_text(json.dumps(POEMS[3:]))
    assert vectors(of_files(poems_path, vectors_path)) == first  # a network may be asked about other poems
    assert vectors(of_files(poems_path, vectors_path, oov="zero")) != first
    save_vectors(vectors_path, seed=1)
    assert vectors(of_files(poems_path, vectors_path)) != first
    made = {vectors(of_files(poems_path, None, embeddings=name)) for name in ("embedded", "random")}
    assert len(made) == 2


def test_fingerprint_tells_poems_and_vectors_apart(poems_path: Path, vectors_path: Path) -> None:
    prints = [loaded(of_files(poems_path, vectors_path)).fingerprint() for _ in range(2)]
    prints.append(loaded(of_files(poems_path, vectors_path, oov="zero")).fingerprint())
    poems_path.write_text(json.dumps(POEMS[:-1]))
    prints.append(loaded(of_files(poems_path, vectors_path)).fingerprint())
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


class Mean(pl.LightningModule):
    """Learns one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(4))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return ((batch["x"] - self.mean) ** 2 * batch["mask"][..., None]).sum()

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("test/mean", batch["x"].mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_training_goes_on_with_the_same_poems_alone(poems_path: Path, vectors_path: Path, tmp_path: Path) -> None:
    def trainer(epochs: int) -> pl.Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        return pl.Trainer(max_epochs=epochs, accelerator="cpu", enable_checkpointing=False, **quiet)

    first, ckpt = trainer(1), tmp_path / "last.ckpt"
    first.fit(Mean(), datamodule=of_files(poems_path, vectors_path))
    first.save_checkpoint(ckpt)
    second = trainer(2)
    second.fit(Mean(), datamodule=of_files(poems_path, vectors_path), ckpt_path=ckpt, weights_only=True)
    assert second.current_epoch == 2
    poems_path.write_text(json.dumps(POEMS[:-1]))
    other = of_files(poems_path, vectors_path)
    with pytest.raises(UserError, match="not those that the run was started with"):
        trainer(2).fit(Mean(), datamodule=other, ckpt_path=ckpt, weights_only=True)
    (tested,) = trainer(2).test(Mean(), datamodule=other, ckpt_path=ckpt, weights_only=True, verbose=False)
    assert "test/mean" in tested


def test_baselines_come_with_facts_of_the_data(poems_path: Path, vectors_path: Path) -> None:
    figures = loaded(of_files(poems_path, vectors_path, d_latent=2, code="token")).baselines()
    assert figures["data/coverage"] == 1
    assert figures["baseline/mean_vector_cosine"] <= figures["baseline/token_pca_cosine"] + 1e-6
    assert figures["baseline/pca_cosine"] == figures["baseline/token_pca_cosine"]


@pytest.mark.shared_data
@needs_shared
def test_glove_covers_the_documented_share_of_poems264() -> None:
    vectors = SHARED / "word_vectors" / "glove6b_300_small.npz"
    poems = SHARED / "poems264" / "poems.json"
    figures = loaded(of_files(poems, vectors, dimension=300, max_length=50, overlap=10)).measures()
    assert 1 - figures["data/tokens_oov"] == pytest.approx(0.80, abs=0.01)
    assert figures["data/coverage"] == 1


# --- the config ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def composed() -> Iterator[Callable[..., Any]]:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield lambda *overrides: compose("train", overrides=["domain=poetry", *overrides])


def test_the_decoder_is_the_models_unless_another_is_typed(composed: Callable[..., Any]) -> None:
    decoders = {name: composed(f"model={name}").decoder["_target_"] for name in ("recurrent", "cvkan")}
    assert len(set(decoders.values())) == 2
    assert composed().decoder["_target_"] == decoders["cvkan"]
    for overrides in (["decoder=recurrent", "model=cvkan"], ["model=cvkan", "decoder=recurrent"]):
        assert composed(*overrides).decoder["_target_"] == decoders["recurrent"]


TRAININGS = {
    "cvkan": (0.01, 60, [0.0], "Untold"),
    "recurrent": (0.005, 30, [0.9, 0.7, 0.3, 0.1], "Segments"),
}
RECURRENT = [f"experiment=poetry_{name}" for name in ("tiny", "xlarge", "research", "baseline", "scaled", "attention")]


@pytest.mark.parametrize(
    ("overrides", "training"),
    [
        ([], "cvkan"),
        (["code=token"], "cvkan"),
        (["model=recurrent"], "recurrent"),
        (["decoder=recurrent"], "recurrent"),
        *(([preset], "recurrent") for preset in RECURRENT),
        (["experiment=sweep_poetry_cells"], "recurrent"),
        (["experiment=poetry_small", "model=cvkan"], "cvkan"),
        (["experiment=poetry_baseline", "model=cvkan"], "cvkan"),
    ],
)
def test_a_decoder_brings_the_training_that_suits_it(
    composed: Callable[..., Any], overrides: list[str], training: str
) -> None:
    cfg = composed(*overrides)
    teaching = cfg.teacher_forcing["_target_"].rpartition(".")[2]
    found = (cfg.optimizer.lr, cfg.trainer.max_epochs, list(cfg.curriculum.teacher_forcing), teaching)
    assert found == TRAININGS[training]


def test_what_is_typed_wins_over_the_training_that_suits(composed: Callable[..., Any]) -> None:
    cfg = composed("model=recurrent", "curriculum=none", "teacher_forcing=none", "optimizer.lr=0.5")
    assert (cfg.optimizer.lr, cfg.curriculum.until, cfg.trainer.max_epochs) == (0.5, [1], 30)
    assert cfg.task.teacher_forcing["_target_"].endswith("Untold")
    assert composed("trainer.max_epochs=3").trainer.max_epochs == 3


def test_a_code_a_token_takes_pooling_away_and_what_is_typed_wins(composed: Callable[..., Any]) -> None:
    assert composed().domain.code == "sequence"
    for overrides in (["code=token"], ["code=token", "model=cvkan"], ["model=cvkan", "code=token"]):
        cfg = composed(*overrides)
        assert cfg.domain.code == cfg.data.code == "token"
        assert cfg.pooling["_target_"].endswith("NoPooling")
    assert composed("code=token", "pooling=attention").pooling["_target_"].endswith("AttentionPooling")


def test_the_size_of_the_code_has_one_place(composed: Callable[..., Any]) -> None:
    cfg = composed("domain.d_latent=24")
    assert cfg.data.d_latent == cfg.task_head.d_latent == cfg.decoder.d_latent == 24


@pytest.mark.slow
@pytest.mark.shared_data
@needs_shared
def test_the_command_of_the_contract_works(train_command: Callable[..., Any], tmp_path: Path) -> None:
    ended = train_command(
        *("domain=poetry", "data=poems_file", f"data.path={SHARED / 'poems264/poems.json'}"),
        *(f"data.vectors={SHARED / 'word_vectors/glove6b_300_small.npz'}", "trainer.max_epochs=1", "output_dir=run"),
        cwd=tmp_path,
    )
    assert ended.code == 0, ended.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["data/tokens_oov"] == pytest.approx(0.2, abs=0.01)
    assert {"test/token_cosine", "baseline/pca_cosine"} <= metrics.keys()


def test_chunks_of_random_words_join_training_batches_alone(tmp_path: Path) -> None:
    data = loaded(PoemsEmbedded(**{**SETTINGS, "random_chunks": 0.5}))
    batch = data.preprocess(next(iter(data.train_dataloader())))
    torch.manual_seed(0)
    longer = data.augment(batch)
    n = len(batch["x"])
    assert len(longer["x"]) == len(longer["mask"]) == n + round(0.5 * n)
    assert torch.equal(longer["x"][:n], batch["x"])
    assert longer["mask"][n:].all()
    # Every token of them is a word of the vectors.
    known = {tuple(row) for row in data.common_vectors.tolist()}
    assert all(tuple(row) in known for row in longer["x"][n:].flatten(0, 1).tolist())
    assert len(rows(data, "test")["y"]) == sum(data.parts[chunk.poem] == "test" for chunk in data.chunks)
