"""The figures of given-back vectors and of codes, against references that go token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from cvkan.poetry.nearest import NearestWord
from cvkan.poetry.vectors import Kind, Table, WordVectors, build_table
from cvkan.tasks.code_ablation import in_place_of, strangers
from cvkan.tasks.reconstruction_scores import CodeStatistics, ReconstructionScores

N, D = 23, 5  # the last ten places are only three
LENGTHS = (23, 4, 11, 1, 20, 12)
WORDS = ("air", "bell", "crow", "dusk", "ember")


def table() -> Table:
    """Five words with vectors, two of them in another spelling, and two words without."""
    draw = torch.Generator().manual_seed(1)
    matrix = torch.randn(len(WORDS), D, generator=draw)
    vectors = WordVectors(WORDS, matrix, float(matrix.norm(dim=1).median()), matrix.mean(dim=0))
    return build_table([*WORDS, "Bell", "AIR", "zyx", "qqq"], vectors, oov="hash")


TABLE = table()
CONSTANT = torch.tensor([0.3, -0.2, 0.5, 0.1, 0.0])


def batch(noise: float = 0.7) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Decoded vectors (6, N, D), the true ones, their ids and the mask."""
    draw = torch.Generator().manual_seed(2)
    mask = (torch.arange(N) < torch.tensor(LENGTHS)[:, None]).float()
    ids = torch.randint(1, len(TABLE.words), (len(LENGTHS), N), generator=draw) * mask.long()
    target = TABLE.matrix[ids]
    return target + noise * torch.randn(target.shape, generator=draw), target, ids, mask


def scores(**options: Any) -> ReconstructionScores:
    everything = torch.ones(len(TABLE.words), dtype=torch.bool)
    given = {"trained": everything, "has_lengths": True, **options}
    return ReconstructionScores(TABLE, CONSTANT, 2 * CONSTANT, max_length=N, **given)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


class Reference:
    """All tokens of :func:`batch` one by one, in float64."""

    def __init__(self) -> None:
        output, target, ids, _ = (tensor.double().numpy() for tensor in batch())
        candidates = TABLE.matrix[TABLE.candidates].double().numpy()
        constant = CONSTANT.double().numpy()
        self.rows: list[dict[str, float]] = []
        self.sequences: list[tuple[float, float]] = []
        for sample, length in enumerate(LENGTHS):
            for place in range(length):
                x, y, k = output[sample, place], target[sample, place], int(ids[sample, place])
                best = max(range(len(candidates)), key=lambda c: cosine(x, candidates[c]))
                self.rows.append(
                    {
                        "cosine": cosine(x, y),
                        "constant": cosine(constant, y),
                        "squared": float(((x - y) ** 2).sum()),
                        "word": Kind(int(TABLE.kind[k])) in (Kind.EXACT, Kind.LOWER, Kind.STRIPPED),
                        "right": np.array_equal(candidates[best], TABLE.matrix[k].double().numpy()),
                        "place": place + 1,
                        "length": length,
                    }
                )
            pooled, true = output[sample, :length].mean(axis=0), target[sample, :length].mean(axis=0)
            self.sequences.append((cosine(pooled, true), cosine(pooled - 2 * constant, true - 2 * constant)))

    def mean(self, name: str, **only: bool) -> float:
        return float(np.mean([row[name] for row in self.rows if all(row[key] == value for key, value in only.items())]))


REFERENCE = Reference()


def expected() -> dict[str, float]:
    c, k, squared = (REFERENCE.mean(name) for name in ("cosine", "constant", "squared"))
    return {
        "token_cosine": c,
        "skill": (c - k) / (1 - k),
        "word_accuracy": REFERENCE.mean("right", word=True),
        "words_token_cosine": REFERENCE.mean("cosine", word=True),
        "others_token_cosine": REFERENCE.mean("cosine", word=False),
        "sequence_cosine": float(np.mean([plain for plain, _ in REFERENCE.sequences])),
        "sequence_cosine_centered": float(np.mean([centered for _, centered in REFERENCE.sequences])),
        "mse": squared / D,
        "rmse": (squared / D) ** 0.5,
        "vector_error": squared**0.5,
    }


def found(metric: ReconstructionScores) -> dict[str, float]:
    return {name: float(value) for name, value in metric.compute().items()}


def test_every_figure_equals_a_slow_reference() -> None:
    metric = scores()
    metric.update(*batch())
    assert found(metric) == pytest.approx(expected(), rel=1e-4)
    assert 0.2 < expected()["word_accuracy"] < 1  # some of both, or nothing was compared


@pytest.mark.parametrize("sizes", [[1] * 6, [5, 1], [2, 4]])
def test_figures_do_not_depend_on_how_samples_fall_into_batches(sizes: list[int]) -> None:
    metric = scores()
    for parts in zip(*(tensor.split(sizes) for tensor in batch()), strict=True):
        metric.update(*parts)
    assert found(metric) == pytest.approx(expected(), rel=1e-4)


@pytest.mark.parametrize("filling", [5.0, float("nan")])
def test_padding_has_no_part_in_any_figure(filling: float) -> None:
    output, target, ids, mask = batch()
    padded = mask == 0
    metrics = [scores(), scores()]
    metrics[0].update(output, target, ids, mask)
    filled = (tensor.masked_fill(padded[..., None], filling) for tensor in (output, target))
    metrics[1].update(*filled, ids.masked_fill(padded, 3), mask)
    for name, tensor in metrics[0].metric_state.items():
        assert torch.equal(tensor, metrics[1].metric_state[name]), name


def test_tables_by_place_and_by_length_are_those_of_the_reference() -> None:
    metric = scores()
    metric.update(*batch())
    for rows, column, key in ((metric.places(), "tokens", "place"), (metric.lengths(), "chunk_length", "length")):
        groups = {"1-10": range(1, 11), "11-20": range(11, 21), "21-23": range(21, 24)}
        wanted = []
        for name, numbers in groups.items():
            own = [row for row in REFERENCE.rows if row[key] in numbers]
            means = {
                "token_cosine": float(np.mean([row["cosine"] for row in own])),
                "constant_cosine": float(np.mean([row["constant"] for row in own])),
            }
            wanted.append({column: name, **means, "count": len(own)})
        assert [row.pop(column) for row in rows] == [row.pop(column) for row in wanted]
        for row, reference in zip(rows, wanted, strict=True):
            assert row == pytest.approx(reference, rel=1e-4)


def test_rows_without_tokens_are_left_out() -> None:
    metric = scores()
    metric.update(*(tensor[1:4] for tensor in batch()))
    assert [row["chunk_length"] for row in metric.lengths()] == ["1-10", "11-20"]
    assert [row["count"] for row in metric.lengths()] == [5, 11]


def test_perfect_vectors_have_perfect_figures_and_the_constant_has_no_skill() -> None:
    _, target, ids, mask = batch()
    perfect, constant = scores(), scores()
    perfect.update(target, target, ids, mask)
    constant.update(CONSTANT.expand_as(target), target, ids, mask)
    best = found(perfect)
    assert [best.pop(name) for name in ("mse", "rmse", "vector_error")] == [0, 0, 0]
    assert best == pytest.approx(dict.fromkeys(best, 1.0))
    assert found(constant)["skill"] == pytest.approx(0, abs=1e-6)


def test_vectors_without_lengths_have_no_squared_error() -> None:
    metric = scores(has_lengths=False)
    metric.update(*batch())
    assert found(metric) == pytest.approx({k: v for k, v in expected().items() if "error" not in k and "mse" not in k})


def test_a_batch_without_words_or_without_others_is_counted() -> None:
    output, target, ids, mask = batch()
    for is_word, empty in ((False, "word"), (True, "others")):
        metric = scores()
        metric.update(output, target, ids, mask * ((TABLE.candidate[ids] >= 0) == is_word))
        nothing = {name for name, value in found(metric).items() if np.isnan(value)}
        assert nothing == {name for name in expected() if name.startswith(empty)}


def test_words_that_training_had_not_are_counted_apart() -> None:
    ids = TABLE.encode(["<LINE_BREAK>", "AIR", "bell", "Bell", "crow", "zyx", "air"])[None]
    target = TABLE.matrix[ids]
    output = target.clone()
    output[0, 2] = -target[0, 2]  # bell; Bell and crow come back as they are
    trained = torch.zeros(len(TABLE.words), dtype=torch.bool)
    trained[TABLE.encode(["air", "dusk", "zyx"])] = True  # AIR has the vector of air
    metric = ReconstructionScores(TABLE, CONSTANT, CONSTANT, trained, N, has_lengths=True)
    metric.update(output, target, ids, torch.ones(1, 7))
    figures = found(metric)
    assert figures["unseen_words"] == 3
    assert figures["unseen_words_share"] == pytest.approx(3 / 5)
    assert figures["unseen_words_token_cosine"] == pytest.approx((-1 + 1 + 1) / 3)
    assert figures["words_token_cosine"] == pytest.approx(3 / 5)
    metric.reset()
    metric.update(output[:, :2], target[:, :2], ids[:, :2], torch.ones(1, 2))
    assert not any(name.startswith("unseen") for name in found(metric))


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(1, 6), st.integers(1, 4), st.floats(0, 1e4), st.integers(0, 1000))
@example(2, 3, 1, 4097.0, 197)
def test_effective_dimensions_are_those_of_the_covariance(n: int, d: int, rank: int, off: float, seed: int) -> None:
    draw = np.random.default_rng(seed)
    codes = (draw.normal(size=(n, rank)) * 3.0 ** -np.arange(rank)) @ draw.normal(size=(rank, d)) + off
    codes = codes.astype(np.float32)
    assume(np.ptp(codes, axis=0).any())
    metric = CodeStatistics(d)
    for part in np.array_split(codes, draw.integers(1, n + 1)):
        metric.update(torch.from_numpy(part))
    eigenvalues = np.linalg.eigvalsh(np.atleast_2d(np.cov(codes.astype(float).T)))[::-1].clip(0)
    kept = np.cumsum(eigenvalues) / eigenvalues.sum()
    result = metric.compute()
    assert float(result["effective_dimensions"]) == pytest.approx(
        eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-2
    )
    n_99 = int(result["dimensions_99"])
    assert kept[n_99 - 1] >= 0.99 - 1e-3
    assert n_99 == 1 or kept[n_99 - 2] < 0.99 + 1e-3


def test_a_round_cloud_fills_all_dimensions_and_a_line_one_whatever_their_scale() -> None:
    draw = torch.Generator().manual_seed(0)
    cloud, line = CodeStatistics(4), CodeStatistics(4)
    cloud.update(torch.randn(20000, 4, generator=draw))
    line.update(torch.randn(50, 1, generator=draw) * torch.tensor([1.0, 1e-3, 2.0, 30.0]) + 5)
    assert float(cloud.compute()["effective_dimensions"]) == pytest.approx(4, rel=1e-2)
    assert float(cloud.compute()["dimensions_99"]) == 4
    assert float(line.compute()["effective_dimensions"]) == pytest.approx(1, rel=1e-3)
    assert float(line.compute()["dimensions_99"]) == 1


def test_codes_of_two_processes_are_pooled() -> None:
    codes = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([1.0, 5, 0])
    whole, *halves = (CodeStatistics(3) for _ in range(3))
    whole.update(codes)
    for half, part in zip(halves, codes.split([8, 22]), strict=True):
        half.update(part)
    pooled = CodeStatistics(3)
    pooled.update(codes)  # torchmetrics warns of a metric that has seen nothing
    for name in pooled.metric_state:  # as torchmetrics gathers what it must not sum
        setattr(pooled, name, torch.stack([getattr(half, name) for half in halves]))
    torch.testing.assert_close(pooled.compute(), whole.compute())


@pytest.mark.parametrize("codes", [torch.ones(1, 3), torch.ones(7, 3)])
def test_codes_without_variance_have_no_dimensions(codes: Tensor) -> None:
    metric = CodeStatistics(3)
    metric.update(codes)
    assert all(torch.isnan(value) for value in metric.compute().values())


def test_nearest_word_does_not_depend_on_how_many_are_compared_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    candidates, vectors = torch.randn(37, D, generator=draw), torch.randn(50, D, generator=draw)
    expected = [max(range(37), key=lambda c: cosine(v, candidates[c].numpy())) for v in vectors.numpy()]
    for budget in (1, 100, 2**24):
        monkeypatch.setattr("cvkan.poetry.nearest.SIMILARITIES", budget)
        nearest = NearestWord(candidates)
        assert nearest(vectors).tolist() == expected
        assert nearest(vectors[:0]).tolist() == []


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 99))
def test_strangers_are_of_another_poem(poems: list[int], seed: int) -> None:
    poem = torch.tensor(poems)
    found = strangers(poem, torch.Generator().manual_seed(seed))
    if len(set(poems)) == 1:
        assert found is None
    else:
        assert (poem[found] != poem).all()


def test_every_chunk_of_another_poem_is_equally_likely() -> None:
    poem = torch.tensor([7, 2, 7, 2, 9, 2])
    draw = torch.Generator().manual_seed(0)
    drawn = torch.stack([strangers(poem, draw) for _ in range(3000)])  # (3000, 6)
    for chunk, own in enumerate(poem.tolist()):
        others = (poem != own).nonzero().squeeze(1)
        counts = (drawn[:, chunk, None] == others).sum(dim=0)
        assert counts.sum() == 3000
        assert chisquare(counts.numpy()).pvalue > 1e-3


def test_codes_of_tokens_are_repeated_where_their_sequence_is_shorter() -> None:
    code = torch.arange(8.0).view(2, 4, 1)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    assert in_place_of(code, mask).squeeze(-1).tolist() == [[0, 1, 0, 1], [4, 5, 6, 7]]
    assert torch.equal(in_place_of(code[:, 0], mask), code[:, 0])
