"""The reconstruction task on real poems: what it trains on, what it tests, and what its figures are about."""

from __future__ import annotations

import io
import json
from functools import partial
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.core.regularizers import SparsityRegularizer
from cvkan.curriculum import Curriculum
from cvkan.domains.poetry.base import PoetryData
from cvkan.domains.poetry.sources import PoemsEmbedded
from cvkan.models.autoencoder import Code, Decoder
from cvkan.models.heads import CodeHead
from cvkan.models.memory import NoMemory
from cvkan.models.recurrent import RecurrentEncoder
from cvkan.models.recurrent_decoder import RecurrentDecoder
from cvkan.models.teacher_forcing import PerSample, Segments, Untold
from cvkan.reconstruction_loss import HybridCosine
from cvkan.schedulers import constant
from cvkan.spec import Batch, Spec
from cvkan.tasks.code_ablation import strangers
from cvkan.tasks.reconstruction import TRAIN_EVALUATED, ReconstructionTask

N, D, LATENT = 14, 12, 4
EPOCHS = 4
PHASES = Curriculum(until=[1, 2, 3, 4], teacher_forcing=[1.0, 0.6, 0.3, 0.0], max_tokens=[5, 9, None, 99])

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::UserWarning:torch")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Parallel(Decoder):
    """A decoder that gives all tokens at once: a linear map of the code for each place."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, LATENT, per_token=False)
        self.map = nn.Linear(LATENT, N * D)

    def forward(self, code: Code, mask: Tensor, gold: Tensor | None = None, forced: Tensor | None = None) -> Tensor:
        return self.map(code.z).view(-1, N, D)[:, : mask.shape[1]]


class Noting(Segments):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, tuple[int, ...]]] = []

    def run(self, autoencoder: Any, x: Tensor, mask: Tensor, ratio: float) -> Tensor:
        self.calls.append((ratio, tuple(x.shape[1:])))
        return super().run(autoencoder, x, mask, ratio)


def make_data(code: str = "sequence", limit_train: int | None = 100) -> PoetryData:
    data = PoemsEmbedded(
        **{
            "embeddings": "embedded",
            "vectors": None,
            "dimension": D,
            "oov": "hash",
            "max_length": N,
            "overlap": 3,
            "random_chunks": 0.0,
        },
        **{"d_latent": LATENT, "code": code, "batch_size": 32, "num_workers": 0, "seed": 0, "limit_train": limit_train},
    )
    data.setup()
    return data


@pytest.fixture(scope="module")
def data() -> PoetryData:
    return make_data()


def hybrid(space: str = "raw") -> HybridCosine:
    return HybridCosine(0.9, 0.1, 1.0, space, 1e-6)


def make_task(
    spec: Spec, code: str = "sequence", decoder: Any = None, loss: nn.Module | None = None, **options: Any
) -> ReconstructionTask:
    torch.manual_seed(0)
    sizes = {"cell": "gru", "d_hidden": 12, "n_layers": 1, "bidirectional": False, "residual": False, "dropout": 0.0}
    head = partial(CodeHead, d_latent=LATENT, batch_norm=True)
    encoder = RecurrentEncoder(spec, **sizes, code=code, head=head)
    decoder = decoder or partial(RecurrentDecoder, d_latent=LATENT, code=code, **sizes, memory=NoMemory)
    adam = partial(torch.optim.Adam, lr=0.01)
    parts = {"decoder": decoder, "teacher_forcing": Segments(), "curriculum": PHASES, **options}
    return ReconstructionTask(spec, encoder, loss or hybrid(), adam, constant, None, **parts)


def make_trainer(**options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(accelerator="cpu", enable_model_summary=False, num_sanity_val_steps=0, **quiet, **options)


@pytest.fixture(scope="module", params=["sequence", "token"])
def tested(request: pytest.FixtureRequest) -> tuple[ReconstructionTask, dict[str, float], PoetryData]:
    """A task after its epochs and its test, with the logged figures and the data."""
    data = make_data(request.param)
    task, trainer = make_task(data.spec, request.param), make_trainer(max_epochs=EPOCHS)
    trainer.fit(task, data)
    (logged,) = trainer.test(task, data, verbose=False)
    return task, logged, data


def whole(data: PoetryData, part: str) -> Batch:
    """All samples of a part in one batch."""
    return data.preprocess(dict(data.splits[part].tensors))


def decoded(task: ReconstructionTask, batch: Batch, **told: Tensor) -> Tensor:
    with torch.no_grad():
        return task.model.eval()(batch["x"], batch["mask"], **told)


def token_cosine(output: Tensor, batch: Batch) -> float:
    """Mean over the real tokens, one by one."""
    found = []
    for x, y, mask in zip(output.numpy(), batch["x"].numpy(), batch["mask"].numpy(), strict=True):
        pairs = zip(x[mask > 0].astype(float), y[mask > 0].astype(float), strict=True)
        found += [p @ q / np.sqrt((p @ p) * (q @ q)) for p, q in pairs]
    return float(np.mean(found))


def test_test_figures_are_free_running_on_the_test_poems(tested: Any) -> None:
    task, logged, data = tested
    batch = whole(data, "test")
    output = decoded(task, batch)
    assert logged["test/token_cosine"] == pytest.approx(token_cosine(output, batch), rel=1e-4)
    valid = batch["mask"] > 0
    assert logged["test/mse"] == pytest.approx(float(F.mse_loss(output[valid], batch["x"][valid])), rel=1e-4)
    assert logged["test/rmse"] == pytest.approx(logged["test/mse"] ** 0.5)
    assert logged["test/vector_error"] == pytest.approx((D * logged["test/mse"]) ** 0.5)
    with torch.no_grad():
        z = task.model.encoder(batch["x"], batch["mask"])  # before the batch norm
    rows = z if z.ndim == 2 else z[valid]
    eigenvalues = np.linalg.eigvalsh(np.cov(rows.double().numpy().T))
    effective = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert logged["test/effective_dimensions"] == pytest.approx(effective, rel=1e-3)


def test_skill_is_measured_from_the_baseline_of_the_same_run(tested: Any) -> None:
    _, logged, data = tested
    k, c = data.baselines()["baseline/mean_vector_cosine"], logged["test/token_cosine"]
    assert logged["test/skill"] == pytest.approx((c - k) / (1 - k), rel=1e-3)


def test_words_that_no_training_poem_has_have_a_figure_of_their_own(tested: Any) -> None:
    task, logged, data = tested
    train, batch = whole(data, "train"), whole(data, "test")
    seen = {word.lower().strip() for word in words_of(data, train)}
    output, cosines, n_words = decoded(task, batch), [], 0
    for x, y, ids in zip(output.flatten(0, 1), batch["x"].flatten(0, 1), batch["y"].flatten().tolist(), strict=True):
        if data.table.candidate[ids] >= 0:
            n_words += 1
            if data.table.words[ids].lower().strip() not in seen:
                cosines.append(F.cosine_similarity(x, y, dim=0).item())
    assert 0 < len(cosines) < n_words
    assert logged["test/unseen_words"] == len(cosines)
    assert logged["test/unseen_words_share"] == pytest.approx(len(cosines) / n_words)
    assert logged["test/unseen_words_token_cosine"] == pytest.approx(np.mean(cosines), rel=1e-3)
    assert not any(name.startswith("train_eval/unseen") for name in logged)


def words_of(data: PoetryData, batch: Batch) -> set[str]:
    return {data.table.words[k] for k in batch["y"].unique().tolist() if data.table.candidate[k] >= 0}


def test_sequences_are_centred_by_the_training_tokens(tested: Any) -> None:
    task, logged, data = tested
    train, batch = whole(data, "train"), whole(data, "test")
    center = train["x"][train["mask"] > 0].mean(dim=0)
    output, found = decoded(task, batch), []
    for x, y, mask in zip(output, batch["x"], batch["mask"] > 0, strict=True):
        found.append(F.cosine_similarity(x[mask].mean(dim=0) - center, y[mask].mean(dim=0) - center, dim=0).item())
    assert logged["test/sequence_cosine_centered"] == pytest.approx(np.mean(found), rel=1e-3)


def test_training_figures_are_those_of_a_fixed_part_of_the_training_chunks(tested: Any) -> None:
    task, logged, data = tested
    batch = whole(data, "train")  # 100 chunks, all of them tested
    assert len(batch["x"]) < TRAIN_EVALUATED
    assert logged["train_eval/token_cosine"] == pytest.approx(token_cosine(decoded(task, batch), batch), rel=1e-4)


def test_teacher_forced_figures_have_a_name_of_their_own(tested: Any) -> None:
    task, logged, data = tested
    batch = whole(data, "test")
    told = {"gold": batch["x"], "forced": torch.ones(N, dtype=torch.bool)}
    forced = token_cosine(decoded(task, batch, **told), batch)
    assert logged["teacher_forced/token_cosine"] == pytest.approx(forced, rel=1e-4)
    assert logged["exposure_gap"] == pytest.approx(forced - logged["test/token_cosine"], abs=1e-5)
    assert abs(logged["exposure_gap"]) > 1e-4  # or the truth was not told


def test_ablations_take_the_code_away_or_another_poems(tested: Any) -> None:
    task, logged, data = tested
    batch = whole(data, "test")
    poem = torch.tensor([data.chunks[number].poem for number in batch["id"].tolist()])
    rows = strangers(poem, torch.Generator().manual_seed(0))
    assert (poem[rows] != poem).all()
    with torch.no_grad():
        z = task.model.eval().encode(batch["x"], batch["mask"]).z
        other = z[rows]
        if z.ndim == 3:  # tokens of a shorter chunk come round again
            for row, length in enumerate(batch["mask"][rows].sum(dim=1).long().tolist()):
                other[row] = other[row, torch.arange(N) % length]
        for name, code in {"z_zero": torch.zeros_like(z), "z_shuffled": other}.items():
            expected = token_cosine(task.model.decode(Code(code), batch["mask"]), batch)
            assert logged[f"ablation/{name}_token_cosine"] == pytest.approx(expected, rel=1e-4)
            assert logged["test/token_cosine"] > expected + 5e-4  # training has made use of the code


def test_a_decoder_that_ignores_its_code_is_found_out(data: PoetryData) -> None:
    task = make_task(data.spec)
    for parameter in task.model.decoder.begin.parameters():
        nn.init.zeros_(parameter)
    (logged,) = make_trainer().test(task, data, verbose=False)
    figures = ["ablation/z_zero_token_cosine", "ablation/z_shuffled_token_cosine", "test/token_cosine"]
    assert len({round(logged[name], 6) for name in figures}) == 1


def test_results_and_pictures_are_made(tested: Any) -> None:
    task, logged, data = tested
    results = task.results()
    json.dumps(results)
    assert [row["tokens"] for row in results["test/position_cosine"]] == ["1-10", "11-14"]
    counts = [row["count"] for row in results["test/position_cosine"]]
    chunks = [data.chunks[number] for number in data.splits["test"].tensors["id"]]
    assert sum(counts) == sum(len(chunk.tokens) for chunk in chunks)
    assert sum(row["count"] for row in results["test/length_cosine"]) == sum(counts)
    n_floats = LATENT * (N if data.code == "token" else 1)
    assert (results["floats_per_chunk"], results["compression"]) == (n_floats, N * D / n_floats)
    first = results["reconstructions"][0]
    assert data.poems[chunks[0].poem].text.replace("\n\n", " // ").replace("\n", " / ").startswith(first["source"][:20])
    figures = task.figures()
    assert figures.keys() == {"cosine_by_position", "code_use", "latent_space"}
    for figure in figures.values():
        figure.savefig(io.BytesIO(), format="png")
    bars = {label.get_text(): bar for label, bar in zip(*bars_of(figures["code_use"]), strict=True)}
    assert bars["free-running"].get_width() == pytest.approx(logged["test/token_cosine"], rel=1e-5)
    assert bars["told the truth (teacher-forced)"].get_width() == pytest.approx(logged["teacher_forced/token_cosine"])
    drawn = figures["cosine_by_position"].axes[0].lines[0].get_ydata()
    assert len(drawn) == N
    assert len(figures["latent_space"].axes[0].collections[0].get_offsets()) == len(data.splits["test"])


def bars_of(figure: Any) -> tuple[list, list]:
    (axis,) = figure.axes
    return axis.get_yticklabels(), list(axis.patches)


def test_reconstructions_name_the_nearest_words_and_break_lines_by_a_slash(data: PoetryData) -> None:
    task, trainer = make_task(data.spec), make_trainer()
    task.trainer = trainer
    trainer.datamodule = data
    task.setup("test")
    task.on_test_epoch_start()
    batch = data.preprocess(data.splits["test"].__getitems__([0, 1, 2]))
    task.examples.add(batch, torch.zeros(3, LATENT), 2.5 * batch["x"])
    for row in task.examples.reconstructions:
        assert row["decoded"].lower() == row["source"].lower()  # one vector for both spellings of a word
        assert row["token_cosine"] == pytest.approx(1)
    assert any("/" in row["source"] for row in task.examples.reconstructions)
    assert not any("<" in row["source"] + row["decoded"] for row in task.examples.reconstructions)


def test_training_follows_the_curriculum_and_logs_it(data: PoetryData) -> None:
    class Keep(pl.Callback):
        rows: list = []  # noqa: RUF012

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            names = ("train/teacher_forcing", "train/max_tokens")
            self.rows.append(tuple(round(float(trainer.callback_metrics[name]), 5) for name in names))

    noting = Noting()
    trainer = make_trainer(max_epochs=EPOCHS, callbacks=[Keep()])
    trainer.fit(make_task(data.spec, teacher_forcing=noting), data)
    steps = len(noting.calls) // EPOCHS
    phases = [(1.0, 5), (0.6, 9), (0.3, N), (0.0, N)]
    assert noting.calls == [(ratio, (n_tokens, D)) for ratio, n_tokens in phases for _ in range(steps)]
    assert Keep.rows == phases


def test_validation_is_whole_and_free_running_in_every_phase(data: PoetryData) -> None:
    task, trainer = make_task(data.spec), make_trainer(max_epochs=EPOCHS, limit_train_batches=1)
    trainer.fit(task, data)
    batch = whole(data, "val")
    assert float(trainer.callback_metrics["val/token_cosine"]) == pytest.approx(
        token_cosine(decoded(task, batch), batch), rel=1e-4
    )


def test_coins_are_drawn_from_torchs_generator(data: PoetryData) -> None:
    task, trainer = make_task(data.spec, curriculum=Curriculum([1], [0.5], [None])), make_trainer(max_epochs=1)
    trainer.fit(task, data)
    batch = whole(data, "train")
    losses = []
    for seed in (1, 1, 2, 3):
        torch.manual_seed(seed)
        losses.append(task.teacher_forcing.run(task.model, batch["x"], batch["mask"], 0.5).sum().item())
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_a_decoder_that_gives_all_at_once_is_told_nothing(data: PoetryData) -> None:
    untold = {"teacher_forcing": Untold(), "curriculum": Curriculum([1, 2], [0.0, 0.0], [5, None])}
    task, trainer = make_task(data.spec, decoder=Parallel, **untold), make_trainer(max_epochs=2)
    trainer.fit(task, data)
    assert "train/teacher_forcing" not in trainer.callback_metrics
    assert float(trainer.callback_metrics["train/max_tokens"]) == N
    (logged,) = trainer.test(task, data, verbose=False)
    assert "exposure_gap" not in logged
    assert "teacher_forced/token_cosine" not in logged
    assert "ablation/z_shuffled_token_cosine" in logged
    assert len(bars_of(task.figures()["code_use"])[1]) == 3


def test_padding_changes_no_figure_and_no_gradient(data: PoetryData) -> None:
    results = []
    batch = data.preprocess(data.splits["train"].__getitems__(list(range(20))))
    padded = batch["mask"] == 0
    assert padded.any()
    for filling in (0.0, 3.0):
        task = make_task(data.spec)
        task.trainer, task.log = make_trainer(), lambda *args, **options: None
        task.trainer.datamodule = data
        task.setup("fit")
        other = {**batch, "x": batch["x"].masked_fill(padded[..., None], filling)}
        loss, _ = task.loss_and_logits(other)
        loss.backward()
        task.eval().score("val", other)
        gradients = torch.cat([p.grad.flatten() for p in task.model.parameters() if p.grad is not None])
        results.append((loss.detach(), gradients, task.scalars("val")))
    (loss, gradients, figures), (loss_2, gradients_2, figures_2) = results
    assert torch.equal(loss, loss_2)
    assert torch.equal(gradients, gradients_2)
    assert all(torch.equal(value, figures_2[name]) for name, value in figures.items())


def test_unit_space_shows_and_compares_vectors_of_unit_length(data: PoetryData) -> None:
    task, trainer = make_task(data.spec, loss=hybrid("unit")), make_trainer(max_epochs=1)
    trainer.fit(task, data)
    (logged,) = trainer.test(task, data, verbose=False)
    assert not {"test/mse", "test/rmse", "test/vector_error"} & logged.keys()
    batch = whole(data, "test")
    unit = {**batch, "x": F.normalize(batch["x"], dim=-1)}
    assert logged["test/token_cosine"] == pytest.approx(token_cosine(decoded(task, unit), unit), rel=1e-4)
    assert logged["test/loss"] == pytest.approx(float(hybrid()(decoded(task, unit), unit["x"], unit["mask"])), rel=1e-2)


def test_test_chunks_of_one_poem_have_no_stranger(data: PoetryData) -> None:
    single = make_data()
    tensors = single.splits["test"].tensors
    poem = [single.chunks[number].poem for number in tensors["id"].tolist()]
    keep = torch.tensor([p == poem[0] for p in poem])
    single.splits["test"].tensors = {name: tensor[keep] for name, tensor in tensors.items()}
    task, trainer = make_task(data.spec), make_trainer()
    (logged,) = trainer.test(task, single, verbose=False)
    assert "ablation/z_shuffled_token_cosine" not in logged
    assert "ablation/z_zero_token_cosine" in logged
    assert len(bars_of(task.figures()["code_use"])[1]) == 3


def test_checkpoints_hold_the_network_alone(data: PoetryData) -> None:
    task = make_task(data.spec)
    before = task.state_dict().keys()
    make_trainer(max_epochs=1, limit_train_batches=1).fit(task, data)
    assert task.state_dict().keys() == before
    assert all(name.startswith("model.") for name in before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": nn.MSELoss()}, "MSELoss cannot compare vectors; set loss=hybrid_cosine"),
        (
            {"regularizers": {"sparsity": SparsityRegularizer(0.1)}},
            r"regularizer=\[sparsity\] acts on .*; set regularizer=none",
        ),
        (
            {"decoder": Parallel, "teacher_forcing": PerSample()},
            "PerSample tells the truth to a decoder that .*, Parallel gives all tokens at once; set teacher_forcing=no",
        ),
        (
            {"decoder": Parallel, "teacher_forcing": Untold()},
            r"\[1.0, 0.6, 0.3, 0.0\], that teacher_forcing=none does not tell; set curriculum=none, or .*=\[0,0,0,0\]",
        ),
        ({"teacher_forcing": Untold()}, "teacher_forcing=none does not tell; set curriculum=none"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict, message: str, data: PoetryData) -> None:
    with pytest.raises(ValueError, match=message):
        make_task(data.spec, **options)


def test_data_without_words_are_refused(data: PoetryData) -> None:
    task = make_task(data.spec)
    with pytest.raises(ValueError, match="NoneType has no table of words; set data=poems_embedded"):
        make_trainer(max_epochs=1).fit(task, data.train_dataloader())
