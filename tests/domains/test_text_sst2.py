"""SST-2 in its two layouts, the archive, and validation sentences whose phrases are not trained on."""

from __future__ import annotations

import hashlib
import io
import re
import socket
import tarfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cvkan.domains.text import sst2
from cvkan.domains.text.archive import Archive
from cvkan.domains.text.phrases import Phrases, hold_out
from cvkan.domains.text.sst2 import SST2
from cvkan.errors import DataUnavailableError, UserError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "sst2"
SETTINGS: dict[str, Any] = {
    **{"download": False, "n_val": None, "split_seed": 0},
    **{"max_length": 64, "min_count": 1, "max_words": None, "word_dropout": 0.0},
    **{"batch_size": 4, "num_workers": 0, "seed": 0, "limit_train": None},
}
# As GLUE has it: whole sentences, phrases of them, a space at the end; the same phrase may be in two sentences.
PHRASES = {
    "a good film ": 1,
    "good ": 1,
    "a good film by a bad director ": 0,
    "a bad director ": 0,
    "bad ": 0,
    "not a bad film at all ": 1,
    "a bad film ": 0,
    "at all ": 0,
    "dull from start to end ": 0,
    "dull ": 0,
}
WHOLE = ["not a bad film at all", "a good film by a bad director", "dull from start to end"]


def source(root: Path, **options: Any) -> SST2:
    return SST2(root=str(root), **{**SETTINGS, **options})


def loaded(root: Path, **options: Any) -> SST2:
    data = source(root, **options)
    data.prepare_data()
    data.setup()
    return data


def texts_of(data: SST2, name: str) -> list[str]:
    words = data.spec.vocabulary
    return [" ".join(words[number] for number in row if number) for row in data.splits[name].tensors["x"].tolist()]


def write_sentences(folder: Path, **tables: str) -> Path:
    folder.mkdir(exist_ok=True)
    rows = {"train": "1\tgood , good .\n0\tbad .\n", "dev": "1\tgood !\n", "test": '0\t"bad .\n1\tgood\n'}
    for name, content in {**rows, **tables}.items():
        (folder / f"{name}.tsv").write_text(f"label\tsentence\n{content}")
    return folder


def write_glue(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    train = "".join(f"{text}\t{label}\n" for text, label in PHRASES.items())
    (folder / "train.tsv").write_text(f"sentence\tlabel\n{train}")
    (folder / "dev.tsv").write_text("sentence\tlabel\na film \t1\n")
    (folder / "test.tsv").write_text("index\tsentence\n0\tunknown film \n")
    return folder


def test_tables_of_sentences_are_the_three_parts(tmp_path: Path) -> None:
    data = loaded(write_sentences(tmp_path))
    assert data.spec.class_names == ("negative", "positive")
    assert data.spec.vocabulary == ("", "<unk>", ".", "good", ",", "bad")
    assert texts_of(data, "train") == ["good , good .", "bad ."]
    assert texts_of(data, "test") == ["<unk> .", "good"]
    assert data.splits["test"].tensors["y"].tolist() == [0, 1]


def test_glue_is_tested_on_its_dev_table_and_validated_on_sentences_of_train(tmp_path: Path) -> None:
    data = loaded(write_glue(tmp_path / "SST-2").parent)
    assert texts_of(data, "test") == ["a film"]
    assert {name: len(split) for name, split in data.splits.items()}["val"] == 1
    two = loaded(tmp_path, n_val=2)
    assert len(two.splits["val"]) == 2


@pytest.mark.parametrize("seed", range(6))
def test_no_phrase_of_a_validation_sentence_is_trained_on(seed: int) -> None:
    phrases = [text.split() for text in PHRASES]
    train, val = hold_out(phrases, 1, seed)
    (held_out,) = [" ".join(phrases[number]) for number in val]
    assert held_out in WHOLE
    trained = [" ".join(phrases[number]) for number in train]
    assert [text for text in trained if f" {text} " in f" {held_out} "] == []
    expected = [text.strip() for text in PHRASES if f" {text.strip()} " not in f" {held_out} "]
    assert trained == expected


def test_every_sentence_can_be_held_out() -> None:
    phrases = [text.split() for text in PHRASES]
    chosen = {hold_out(phrases, 1, seed)[1][0] for seed in range(20)}
    assert {" ".join(phrases[number]) for number in chosen} == set(WHOLE)


@given(st.lists(st.lists(st.sampled_from("ab"), min_size=1, max_size=5), min_size=1, max_size=12))
def test_whole_phrases_are_those_in_no_other(lists: list[list[str]]) -> None:
    texts = {" ".join(words) for words in lists}
    expected = {text for text in texts if not any(f" {text} " in f" {other} " for other in texts - {text})}
    found = Phrases(texts).whole()
    assert set(found) == expected
    assert len(found) == len(expected)
    assert found == Phrases(sorted(texts)).whole()


def test_a_phrase_of_ten_thousand_words_holds_the_others_up_only_briefly() -> None:
    endless = [f"w{number}" for number in range(10_000)]
    train, val = hold_out([*(text.split() for text in PHRASES), endless, endless[5000:5003]], 3, 0)
    assert len(train) + len(val) <= len(PHRASES) + 2


@pytest.mark.parametrize("n_val", [0, 3])
def test_n_val_must_leave_training_sentences(tmp_path: Path, n_val: int) -> None:
    write_glue(tmp_path)
    with pytest.raises(UserError, match=rf"of 3 sentences {n_val} cannot be held out \(data.n_val\)"):
        loaded(tmp_path, n_val=n_val)


def test_n_val_is_refused_where_there_is_a_validation_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"have a validation part \(data.n_val\)"):
        loaded(write_sentences(tmp_path), n_val=100)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"train": "1\tgood\n2\tfine\n"}, r"label '2' is not one of 0, 1 \(.*train.tsv, line 3\)"),
        ({"dev": "1\t \n"}, r"the cell of column 'sentence' is empty \(.*dev.tsv, line 2\)"),
        ({"test": "1\tgood\tbad\n"}, r"the row has 3 cells, the header 2 \(.*test.tsv, line 2\)"),
    ],
)
def test_damaged_tables_are_refused_by_line(tmp_path: Path, tables: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        loaded(write_sentences(tmp_path, **tables))


def test_missing_tables_name_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError) as caught:
        loaded(tmp_path)
    assert all(way in str(caught.value) for way in ("data.root=DIR", "data.download=true", "data=grammar"))
    write_sentences(tmp_path)
    (tmp_path / "dev.tsv").unlink()
    with pytest.raises(DataUnavailableError, match=r"no such file \(.*dev.tsv\)"):
        loaded(tmp_path)


def zipped(folder: Path, path: Path) -> str:
    """Address of a zip of a folder, and its checksum."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{folder.name}/{file.name}")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_archive_is_fetched_once_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = tmp_path / "SST-2.zip"
    digest = zipped(write_glue(tmp_path / "SST-2"), packed)
    monkeypatch.setattr(sst2, "GLUE", Archive(packed.as_uri(), digest, "SST-2"))
    root = tmp_path / "data"
    assert texts_of(loaded(root, download=True), "test") == ["a film"]
    assert [path.name for path in root.iterdir()] == ["SST-2"]
    packed.unlink()
    assert texts_of(loaded(root, download=True), "test") == ["a film"]


def test_an_archive_with_another_checksum_leaves_nothing_behind(tmp_path: Path) -> None:
    packed = tmp_path / "SST-2.zip"
    zipped(write_glue(tmp_path / "SST-2"), packed)
    root = tmp_path / "data"
    with pytest.raises(DataUnavailableError, match=r"SST-2.zip is not the expected file: its SHA-256 is"):
        Archive(packed.as_uri(), "0" * 64, "SST-2").fetch(root)
    assert list(root.iterdir()) == []


def test_an_archive_that_cannot_be_fetched_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match=r"could not fetch SST-2.zip: .*Check the network") as caught:
        sst2.GLUE.fetch(tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_put_there_by_hand_is_taken(tmp_path: Path) -> None:
    digest = zipped(write_glue(tmp_path / "SST-2"), tmp_path / "packed")
    root = tmp_path / "data"
    root.mkdir()
    own = (tmp_path / "packed").rename(root / "SST-2.zip")
    archive = Archive("http://localhost:1/SST-2.zip", digest, "SST-2")
    archive.fetch(root)
    assert (root / "SST-2" / "train.tsv").is_file()
    own.write_bytes(b"cut off")
    with pytest.raises(DataUnavailableError, match=rf"is not the expected file: .* \({re.escape(str(own))}\)"):
        archive.fetch(root)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", None])
def test_a_server_without_an_answer_is_not_waited_for(
    answer: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvkan.domains.text.archive.TIMEOUT_S", 0.2)
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                if answer is None:
                    time.sleep(0.5)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/SST-2.zip"
        with pytest.raises(DataUnavailableError, match=r"could not fetch .*or put the file into .* by hand") as caught:
            Archive(url, "0" * 64, "SST-2").fetch(tmp_path)
        thread.join()
    assert "\n" not in str(caught.value)
    assert url in str(caught.value)


def test_tar_archives_write_nothing_outside_their_folder(tmp_path: Path) -> None:
    packed = tmp_path / "set.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        entry = tarfile.TarInfo("../../outside.txt")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"bad"))
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    with pytest.raises(DataUnavailableError, match="could not fetch"):
        Archive(packed.as_uri(), digest, "set").fetch(tmp_path / "data")
    assert not list(tmp_path.rglob("outside.txt"))


@pytest.mark.shared_data
def test_shared_sentences_and_their_bag_of_words() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not on this machine")
    data = loaded(SHARED)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 6920, "val": 872, "test": 1581}
    assert len(data.spec.vocabulary) == 14828 + 2
    counts = [torch.bincount(data.splits[name].tensors["y"]).tolist() for name in ("train", "val", "test")]
    assert counts == [[3310, 3610], [428, 444], [792, 789]]
    assert max(split.tensors["x"].shape[1] for split in data.splits.values()) == 56
    assert data.baselines()["baseline/bag_of_words_accuracy"] == pytest.approx(0.81, abs=0.005)
