"""Words as vectors: which of them a file gives, and how its vectors are brought to another size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import nn

from cvkan.errors import DataUnavailableError, UserError
from cvkan.models.embedding import TokenEmbedding
from cvkan.models.starting import start
from cvkan.models.words import WordTable, brought_to, pretrained
from cvkan.spec import Batch, Spec

VOCABULARY = ("", "<unk>", "The", "plot", "dull", "n't")
TRAIN: Batch = {"x": torch.tensor([[2, 3]]), "y": torch.tensor([0])}


def numbers(n: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, size)).astype(np.float32)


def saved(path: Path, words: list[str], vectors: np.ndarray) -> Path:
    """As text, or as npz where the name says so."""
    if path.suffix == ".npz":
        with path.open("wb") as file:
            np.savez(file, words=np.array(words), vectors=vectors)
    else:
        rows = zip(words, vectors, strict=True)
        path.write_text("".join(f"{word} {' '.join(map(repr, row.tolist()))}\n" for word, row in rows))
    return path


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.npz"])
def test_words_are_found_as_they_stand_or_in_lower_case(tmp_path: Path, name: str) -> None:
    vectors = numbers(4, 3)
    ids, found = pretrained(VOCABULARY, saved(tmp_path / name, ["the", "dull", "Plot", "n't"], vectors))
    assert ids.tolist() == [2, 4, 5]
    np.testing.assert_allclose(found.numpy(), vectors[[0, 1, 3]])


def test_only_words_of_the_file_change_and_take_the_size_of_the_others(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(200)]
    path = saved(tmp_path / "v.npz", words[:150], 6 * numbers(150, 20))
    torch.manual_seed(0)
    table = WordTable(tuple(words), 8, std=0.1, vectors=str(path))
    before = table.weight.detach().clone()
    start(nn.Sequential(table), TRAIN)
    assert torch.equal(table.weight[150:], before[150:])
    assert not torch.isclose(table.weight[:150], before[:150]).any(dim=1).all()
    assert table.weight[:150].square().mean().sqrt().item() == pytest.approx(0.1, rel=1e-4)


def test_without_a_file_the_start_changes_nothing() -> None:
    embedding = TokenEmbedding(Spec((4,), "classes", 2, vocabulary=VOCABULARY), 4, dropout=0.0)
    before = embedding.table.weight.detach().clone()
    start(embedding, TRAIN)
    assert torch.equal(embedding.table.weight, before)


def test_a_trained_network_needs_the_file_no_more(tmp_path: Path) -> None:
    spec = Spec((4,), "classes", 2, vocabulary=VOCABULARY)
    path = saved(tmp_path / "v.txt", ["dull", "plot", "the"], numbers(3, 5))
    options = {"d_complex": 4, "dropout": 0.0, "std": 0.3, "vectors": str(path)}
    embedding = TokenEmbedding(spec, **options)
    start(embedding, TRAIN)
    path.unlink()
    again = TokenEmbedding(spec, **options)
    again.load_state_dict(embedding.state_dict())
    assert torch.equal(again.table.weight, embedding.table.weight)


@given(st.integers(1, 12), st.integers(1, 12))
def test_the_map_keeps_what_principal_components_keep_and_all_of_it_where_there_is_room(size: int, wanted: int) -> None:
    vectors = torch.from_numpy(numbers(30, size) @ np.diag(np.arange(1.0, size + 1)).astype(np.float32))
    brought = brought_to(vectors, wanted)
    assert brought.shape == (30, wanted)
    kept = PCA(min(size, wanted)).fit_transform(vectors.numpy())
    np.testing.assert_allclose(brought @ brought.T, kept @ kept.T, rtol=1e-3, atol=1e-2)  # a turn apart


def test_no_number_of_a_vector_is_much_louder_than_the_others() -> None:
    torch.manual_seed(0)
    loud = torch.from_numpy(numbers(500, 100)) * torch.logspace(1, -2, 100)
    variance = brought_to(loud, 50).var(dim=0)
    assert variance.max() < 20 * variance.min()


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (None, DataUnavailableError, r"no such file of word vectors .*embedding\.vectors=FILE or null"),
        (["chat", "noir"], UserError, "has a vector for none of the words"),
    ],
)
def test_files_of_no_use_are_refused(
    tmp_path: Path, words: list[str] | None, error: type[Exception], message: str
) -> None:
    path = tmp_path / "v.txt"
    if words is not None:
        saved(path, words, numbers(len(words), 3))
    with pytest.raises(error, match=message):
        pretrained(VOCABULARY, path)


def test_a_size_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"std must be positive, got 0\.0; set embedding\.std"):
        TokenEmbedding(Spec((4,), "classes", 2, vocabulary=VOCABULARY), 4, dropout=0.0, std=0.0)
