"""Word vectors: what is read of which files, how tokens are looked up, what stands for unknown words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cvkan.errors import DataUnavailableError, UserError
from cvkan.poetry.tokens import GLUE, LINE_BREAK, PAD, SPECIAL, UNK
from cvkan.poetry.vector_files import N_INSPECTED, N_SAMPLED, read_first, read_vectors
from cvkan.poetry.vectors import Kind, Table, WordVectors, build_table, hash_vectors, needed_words

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "word_vectors"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="no shared data")


def vectors(*words: str, dimension: int = 3) -> WordVectors:
    """Word number i has the vector (i + 1, 0, ...)."""
    matrix = torch.zeros(len(words), dimension)
    matrix[:, 0] = torch.arange(len(words)) + 1.0
    return WordVectors(words, matrix, 2.0, matrix.mean(dim=0))


def line(word: str, *numbers: float) -> bytes:
    return f"{word} {' '.join(map(str, numbers))}\n".encode()


def save_text(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(lines))
    return path


def save_npz(path: Path, **arrays: object) -> Path:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    return path


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".txt", ".npz"])
def test_text_and_npz_give_the_same_whatever_their_names(tmp_path: Path, suffix: str) -> None:
    numbers = np.random.default_rng(0).normal(size=(5, 4)).round(3)
    words = ["the", "été", "don't", "🌙", ","]
    text = save_text(tmp_path / f"text{suffix}", *(line(w, *v) for w, v in zip(words, numbers, strict=True)))
    npz = save_npz(tmp_path / f"npz{suffix}", words=np.array(words), vectors=numbers)
    for path in (text, npz):
        found = read_vectors(path, 4, {"🌙", "the", "été", "moon"})
        assert found.words == ("the", "été", "🌙")
        np.testing.assert_allclose(found.matrix, numbers[[0, 1, 3]], rtol=1e-6)
        np.testing.assert_allclose(found.mean, numbers.mean(axis=0), rtol=1e-5)
        assert found.median_norm == pytest.approx(np.median(np.linalg.norm(numbers, axis=1)), rel=1e-6)
        assert found.n_malformed == 0


def test_words_with_spaces_a_header_a_byte_order_mark_and_odd_line_ends_are_read(tmp_path: Path) -> None:
    path = save_text(
        tmp_path / "v.txt",
        b"\xef\xbb\xbf4 3\n",
        line("sea", 1, 2, 3),
        b"moon 4 5 6 \r\n",
        line("new york", 7, 8, 9),
        line(". . .", 7, 8, 9),
        b"\n",
    )
    found = read_vectors(path, 3, {"sea", "moon", "new", "york", ".", "4"})
    assert found.words == ("sea", "moon")
    assert found.matrix.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert found.n_malformed == 0


def test_malformed_lines_are_counted_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = [line(f"w{i}", i, 0, 1) for i in range(6)]
    path = save_text(tmp_path / "v.txt", *good, line("short", 1, 2), b"alone\n", line("bad", 1, 2, "x"), b"cut 0.5 0.")
    found = read_vectors(path, 3, {"w3", "short", "alone", "bad", "cut"})
    assert found.words == ("w3",)
    assert found.n_malformed == 4
    assert "4 lines" in caplog.text


def test_the_first_of_equal_words_counts(tmp_path: Path) -> None:
    text = save_text(tmp_path / "v.txt", line("a", 1, 1), line("a", 2, 2))
    npz = save_npz(tmp_path / "v.npz", words=np.array(["a", "a"]), vectors=np.array([[1.0, 1], [2, 2]]))
    assert read_vectors(text, 2, {"a"}).matrix.tolist() == read_vectors(npz, 2, {"a"}).matrix.tolist() == [[1, 1]]


def test_scale_of_a_long_text_does_not_depend_on_the_words_asked_for(tmp_path: Path) -> None:
    n = 3 * N_SAMPLED
    norms = np.random.default_rng(0).uniform(1, 9, n).round(4)
    path = save_text(tmp_path / "v.txt", *(line(f"w{i}", norm, 0) for i, norm in enumerate(norms)))
    few, many = read_vectors(path, 2, {"w7"}), read_vectors(path, 2, {f"w{i}" for i in range(100)})
    assert few.median_norm == many.median_norm == pytest.approx(np.median(norms), rel=0.05)
    assert torch.equal(few.mean, many.mean)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no word vectors"),
        ([b"\xff\xfe\x00binary\x00\n"], "no word vectors"),
        ([b"Shall I compare thee to a summer's day?\n"], "no word vectors"),
        ([line("a", 1, 2), line("b", 1, 2)], "have 2 numbers, data.dimension is 3"),
        ([line("a", 1, 2, 3, 4), line("b", 1, 2, 3, 4)], "have 4 numbers, data.dimension is 3"),
        ([b"2 3\n", line("1", 1, 2, 3, 4)], "have 4 numbers, data.dimension is 3"),
        ([line("b", 1, 2, 3), line("a", 1, "nan", 3)], "not finite .*line 2"),
        ([line("a", 1, "1e39", 3)], "not finite"),
        ([line("a", 0, 0, 0)], "every vector is zero"),
        ([b"a\t1\t2\t3\n"], "no line of the file can be read"),
    ],
)
def test_other_texts_are_refused(tmp_path: Path, lines: list[bytes], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_vectors(save_text(tmp_path / "v.txt", *lines), 3, {"a"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": np.ones((2, 4))}, "have 4 numbers, data.dimension is 3"),
        ({"vectors": np.ones(2)}, "data.dimension is 3"),
        ({"vectors": np.ones((3, 3))}, "not a table"),
        ({"vectors": np.array([["1"] * 3] * 2)}, "not a table"),
        ({"words": np.array([1, 2])}, "not a table"),
        ({"words": np.array(["a", "b"], dtype=object)}, "not a readable npz file"),
        ({"vectors": np.array([[1, 1, 1], [1, np.inf, 1]])}, "'b' is not finite .*row 1"),
        ({"vectors": np.full((2, 3), 1e300)}, "not finite"),
        ({"vectors": np.zeros((2, 3))}, "every vector is zero"),
        ({"words": np.array([], dtype=str), "vectors": np.ones((0, 3))}, "holds no vectors"),
    ],
)
def test_other_npz_files_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    arrays = {"words": np.array(["a", "b"]), "vectors": np.ones((2, 3)), **change}
    with pytest.raises(UserError, match=message):
        read_vectors(save_npz(tmp_path / "v.npz", **arrays), 3, {"a"})


def test_missing_and_truncated_npz_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match="no such file"):
        read_vectors(tmp_path / "v.npz", 3, {"a"})
    whole = save_npz(tmp_path / "whole.npz", words=np.array(["a"] * 50), vectors=np.ones((50, 3))).read_bytes()
    for kept in (10, len(whole) // 2, len(whole) - 30):
        (tmp_path / "cut.npz").write_bytes(whole[:kept])
        with pytest.raises(UserError, match="not a readable npz file"):
            read_vectors(tmp_path / "cut.npz", 3, {"a"})


def test_header_and_one_line_are_enough_and_inspection_sees_no_further(tmp_path: Path) -> None:
    assert read_vectors(save_text(tmp_path / "a.txt", b"1 3\n", line("a", 1, 2, 3)), 3, {"a"}).words == ("a",)
    lines = [line(f"w{i}", 1, 2, 3) for i in range(N_INSPECTED)] + [line("late", 1, 2)] * (2 * N_INSPECTED)
    found = read_vectors(save_text(tmp_path / "b.txt", *lines), 3, {"w1", "late"})
    assert (found.words, found.n_malformed) == (("w1",), 2 * N_INSPECTED)


def test_arrays_give_the_vectors_back(tmp_path: Path) -> None:
    before = WordVectors(("été", "🌙"), torch.rand(2, 3), 2.5, torch.rand(3), n_malformed=7)
    for each in (before, WordVectors((), torch.zeros(0, 3), 1.0, torch.zeros(3))):
        after = WordVectors.from_arrays(each.arrays())
        assert (after.words, after.median_norm, after.n_malformed) == (each.words, each.median_norm, each.n_malformed)
        assert torch.equal(after.matrix, each.matrix)
        assert torch.equal(after.mean, each.mean)


# --- look-up ---------------------------------------------------------------------------------------------------------


def kinds(table: Table, *tokens: str) -> list[int]:
    return [int(table.kind[table.ids[token]]) for token in tokens]


def test_look_up_order_is_exact_lower_stripped_unknown() -> None:
    source = vectors("May", "may", "tis", "Brave", "brave", "o'er")
    tokens = ["May", "MAY", "may", "'Tis", "tis'", "'Brave'", "O'er", "oer", "!?", "🌙"]
    table = build_table(tokens, source, "hash")
    assert kinds(table, *tokens) == [2, 3, 2, 4, 4, 4, 3, 5, 5, 5]
    first = table.matrix[table.encode(["May", "MAY", "'Tis", "'Brave'", "O'er"])][:, 0]
    assert first.tolist() == [1, 2, 3, 4, 6]


def test_the_gap_before_a_token_is_no_part_of_its_word() -> None:
    tokens = [" ,", ",", "    Sea", f"{GLUE}sea", " zorg", "zorg"]
    table = build_table(tokens, vectors(",", "sea"), "hash")
    assert kinds(table, *tokens) == [2, 2, 3, 2, 5, 5]
    assert torch.equal(*table.matrix[table.encode([" zorg", "zorg"])])
    assert [table.words[i] for i in table.candidates] == [",", f"{GLUE}sea"]


def test_ids_are_the_marks_then_the_tokens_sorted_and_padding_is_zero() -> None:
    table = build_table(["b", LINE_BREAK, "a", "b", UNK], vectors("a", "b"), "hash")
    assert table.words == (*SPECIAL, "a", "b")
    assert table.encode([PAD, "a", "b"]).tolist() == [0, len(SPECIAL), len(SPECIAL) + 1]
    assert kinds(table, *SPECIAL) == [Kind.PAD] + [Kind.SPECIAL] * (len(SPECIAL) - 1)
    assert not table.matrix[0].any()
    torch.testing.assert_close(table.matrix[1 : len(SPECIAL)].norm(dim=1), torch.full((len(SPECIAL) - 1,), 2.0))


def test_marks_keep_their_vectors_whatever_the_file_holds() -> None:
    one, other = (build_table(["a"], vectors("a", word), "hash") for word in (UNK, "b"))
    assert torch.equal(one.matrix, other.matrix)


def test_candidates_are_the_different_vectors_of_found_words() -> None:
    table = build_table(["The", "the", "THE", "Sea", "zorg", LINE_BREAK], vectors("the", "sea"), "hash")
    assert [table.words[i] for i in table.candidates] == ["the", "Sea"]
    places = table.candidate[table.encode(["The", "the", "THE", "Sea", "zorg", LINE_BREAK])]
    assert places.tolist() == [0, 0, 0, 1, -1, -1]
    known = table.candidate >= 0
    assert torch.equal(table.matrix[table.candidates[table.candidate[known]]], table.matrix[known])


def test_shares_count_words_and_no_marks() -> None:
    tokens = ["the", "the", "The", "'the'", "zorg", LINE_BREAK, PAD]
    table = build_table(tokens, vectors("the"), "hash")
    expected = {"exact": 0.4, "lower": 0.2, "stripped": 0.2, "oov": 0.2}
    assert table.shares(table.encode(tokens)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("oov", "expected"),
    [
        ("zero", lambda source: torch.zeros(2, 3)),
        ("mean", lambda source: source.mean.repeat(2, 1)),
        ("unk", lambda source: build_table([], source, "hash").matrix[[SPECIAL.index(UNK)] * 2]),
        ("hash", lambda source: hash_vectors(["listen", "silent"], 3, source.median_norm)),
    ],
)
def test_unknown_words_have_the_vector_that_was_asked_for(
    oov: str, expected: Callable[[WordVectors], torch.Tensor]
) -> None:
    source = vectors("a", "b")
    table = build_table(["a", "silent", "listen"], source, oov)
    assert torch.equal(table.matrix[table.encode(["listen", "silent"])], expected(source))


def test_what_cannot_be_looked_up_is_refused() -> None:
    with pytest.raises(UserError, match="oov=nearest is not known"):
        build_table(["a"], vectors("a"), "nearest")
    with pytest.raises(UserError, match="none of the 2 different words"):
        build_table(["mer", "lune", LINE_BREAK], vectors("sea", "moon"), "hash")


TEXT = st.text("aAéÉ'.-🌙", min_size=1, max_size=4)


@given(st.lists(TEXT, max_size=8), st.lists(TEXT, max_size=8, unique=True))
def test_words_that_are_not_needed_change_no_table(tokens: list[str], words: list[str]) -> None:
    tokens, words = ["a", *tokens], ["a", *(word for word in words if word != "a")]
    source = vectors(*words)
    kept = [row for row, word in enumerate(words) if word in needed_words(tokens)]
    part = WordVectors(tuple(words[row] for row in kept), source.matrix[kept], source.median_norm, source.mean)
    whole, of_part = (build_table(tokens, each, "hash") for each in (source, part))
    assert torch.equal(whole.matrix, of_part.matrix)
    assert torch.equal(whole.kind, of_part.kind)
    assert torch.equal(whole.candidates, of_part.candidates)


# --- hash vectors ----------------------------------------------------------------------------------------------------


def test_hash_vectors_stay_what_they_are() -> None:
    """A checkpoint meets them again: on other machines, under other versions of every library."""
    bits = np.frombuffer(hashlib.shake_256("zörg".encode()).digest(16), dtype="<u4")
    normal = stats.norm.ppf((bits + 0.5) / 2**32)
    found = hash_vectors(["zörg"], 4, 2.0)[0]
    np.testing.assert_allclose(found, 2 * normal / np.linalg.norm(normal), rtol=1e-5)
    np.testing.assert_allclose(found, [-1.2711989, -0.28183976, 0.04339817, -1.5174769], rtol=1e-5)


def test_hash_vectors_are_directions_of_words_and_not_of_letters() -> None:
    words = ["listen", "silent", "été", "Été", "e\u0301te\u0301", "🌙"]
    found = hash_vectors(words, 300, 5.7)
    torch.testing.assert_close(found.norm(dim=1), torch.full((len(words),), 5.7))
    directions = found / 5.7
    assert (directions @ directions.T - torch.eye(len(words))).abs().max() < 0.25  # 300 random numbers: 0.06
    assert torch.equal(hash_vectors(words[::-1], 300, 5.7).flip(0), found)


def test_hash_vectors_fill_the_sphere_evenly() -> None:
    found = hash_vectors([f"word{i}" for i in range(2000)], 8, 1.0)
    # The projection of a uniform direction in 8 dimensions on an axis: (1 + t) / 2 ~ Beta(7/2, 7/2).
    for axis in found.T:
        assert stats.kstest((1 + axis.double()) / 2, stats.beta(3.5, 3.5).cdf).pvalue > 1e-4
    assert np.abs(np.corrcoef(found.T) - np.eye(8)).max() < 0.1


# --- real vectors ----------------------------------------------------------------------------------------------------


@pytest.mark.shared_data
@needs_shared
def test_glove_has_its_norm_and_unknown_words_take_it() -> None:
    found = read_vectors(SHARED / "glove6b_300_small.npz", 300, {"love", "the", "moon"})
    assert set(found.words) == {"love", "the"}
    assert found.median_norm == pytest.approx(6.35, abs=0.01)
    table = build_table(["love", "moon"], found, "hash")
    assert float(table.matrix[table.ids["moon"]].norm()) == pytest.approx(found.median_norm, rel=1e-5)


@pytest.mark.shared_data
@needs_shared
def test_half_precision_vectors_are_read() -> None:
    found = read_vectors(SHARED / "poetry_ppmi_svd_300.npz", 300, {"sea", "ocean", "of"})
    sea, ocean, of = (found.matrix[found.words.index(word)] for word in ("sea", "ocean", "of"))
    assert found.matrix.dtype == torch.float32
    assert torch.cosine_similarity(sea, ocean, dim=0) > torch.cosine_similarity(sea, of, dim=0)


def test_first_vectors_are_those_that_a_file_begins_with(tmp_path: Path) -> None:
    matrix = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
    words = ["the", "new york", "sea", "moon"]
    text, npz = tmp_path / "vectors.txt", tmp_path / "vectors.npz"
    text.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words, matrix, strict=True)))
    np.savez(npz, words=np.array(words), vectors=matrix)
    for path in (text, npz):
        for n in (2, 9):
            np.testing.assert_array_equal(read_first(path, 3, n), matrix[:n])
