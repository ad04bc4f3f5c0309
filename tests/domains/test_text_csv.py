"""The user's own table of sentences: what is read, what is drawn, and what each faulty file is told."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from cvkan.domains.text.tables import columns_of, read_table
from cvkan.domains.text.text_csv import TextCSV
from cvkan.errors import DataUnavailableError, UserError

SETTINGS: dict[str, Any] = {
    **{"text_column": "text", "label_column": "label", "split_column": None, "classes": None, "lowercase": True},
    **{"val_fraction": 0.2, "test_fraction": 0.2, "split_seed": 0},
    **{"max_length": 20, "min_count": 1, "max_words": None, "word_dropout": 0.0},
    **{"batch_size": 4, "num_workers": 0, "seed": 0, "limit_train": None},
}
ROWS = [(f"Film number {number} is {'bad' if number % 2 else 'good'}.", str(number % 2)) for number in range(20)]


def written(folder: Path, content: str | bytes, name: str = "reviews.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label"), **format_: Any) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n", **format_).writerows([header, *rows])
    return file.getvalue()


def text_csv(path: Path, **options: Any) -> TextCSV:
    return TextCSV(path=str(path), **{**SETTINGS, **options})


def loaded(path: Path, **options: Any) -> TextCSV:
    data = text_csv(path, **options)
    data.setup()
    return data


def texts_of(data: TextCSV, name: str) -> list[str]:
    words = data.spec.vocabulary
    return [" ".join(words[number] for number in row if number) for row in data.splits[name].tensors["x"].tolist()]


def test_parts_are_drawn_in_equal_shares_of_each_class(tmp_path: Path) -> None:
    data = loaded(written(tmp_path, table(ROWS)))
    sizes = {name: torch.bincount(split.tensors["y"]).tolist() for name, split in data.splits.items()}
    assert sizes == {"train": [6, 6], "val": [2, 2], "test": [2, 2]}
    assert data.spec.class_names == ("0", "1")
    assert {"film", "good", "bad", "."} <= set(data.spec.vocabulary)
    other = loaded(written(tmp_path, table(ROWS)), split_seed=1)
    assert texts_of(other, "train") != texts_of(data, "train")
    assert loaded(written(tmp_path, table(ROWS)), seed=9).fingerprint() == data.fingerprint()


def test_columns_are_found_by_name_and_the_split_column_is_followed(tmp_path: Path) -> None:
    parts = ["Training", "dev", "test", "train"]
    rows = [(str(number), label, parts[number % 4], text) for number, (text, label) in enumerate(ROWS)]
    path = written(tmp_path, table(rows, ("id", "stars", "part", "review"), delimiter=";"))
    data = loaded(path, text_column="review", label_column="stars", split_column="part", min_count=2)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 10, "val": 5, "test": 5}
    assert texts_of(data, "test")[0] == "film number <unk> is good ."
    assert data.splits["val"].tensors["y"].tolist() == [1] * 5


def test_missing_parts_of_a_split_column_are_drawn_from_train(tmp_path: Path) -> None:
    rows = [(text, label, "test" if number < 4 else "train") for number, (text, label) in enumerate(ROWS)]
    path = written(tmp_path, table(rows, ("text", "label", "split")))
    data = loaded(path, split_column="split", val_fraction=0.25)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 12, "val": 4, "test": 4}


def test_equal_texts_are_in_one_part(tmp_path: Path) -> None:
    data = loaded(written(tmp_path, table([row for row in ROWS for _ in range(3)])), lowercase=False)
    texts = {name: set(texts_of(data, name)) for name in ("train", "val", "test")}
    assert sum(len(split) for split in data.splits.values()) == 60
    # Unknown words make different texts look alike: the numbers that name the films are compared by count.
    assert [len(split) % 3 for split in data.splits.values()] == [0, 0, 0]
    assert len(texts["train"]) == 12


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"good, ""very"" good\nindeed",1\n'),
        ("a.csv", '\ufefflabel;text\r\n1;"good, ""very"" good\r\nindeed"\r\n'),
        ("a.tsv", 'text\tlabel\ngood, "very" good indeed\t1\n\n'),
        ("a.txt", 'label|text\n1|"good, ""very"" good indeed"\n'),
    ],
)
def test_quoting_delimiters_and_line_ends(tmp_path: Path, name: str, content: str) -> None:
    (row,) = read_table(written(tmp_path, content, name), "text", "label", None).rows
    assert (" ".join(row.text.split()), row.label) == ('good, "very" good indeed', "1")


def test_a_quotation_mark_that_is_not_closed_is_text_in_a_tab_separated_file(tmp_path: Path) -> None:
    content = 'label\tsentence\n1\t"good , they say\n0\tbad\n'
    rows = read_table(written(tmp_path, content, "a.tsv"), "sentence", "label", None).rows
    assert [row.text for row in rows] == ['"good , they say', "bad"]


def test_classes_of_numbers_are_ordered_by_value_or_as_given(tmp_path: Path) -> None:
    rows = [(f"{text} {number}", str(2 + 4 * (number % 3))) for number, (text, _) in enumerate(ROWS * 2)]
    path = written(tmp_path, table(rows))
    assert text_csv(path).spec.class_names == ("2", "6", "10")
    data = loaded(path, classes=[10, 6, 2])
    assert (data.spec.class_names, data.spec.n_outputs) == (("10", "6", "2"), 3)
    first = data.table[0]
    assert (first.label, data.spec.class_names.index(first.label)) == ("2", 2)


def test_a_sentence_of_ten_thousand_words_is_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path, table([*ROWS, (" ".join(["endless"] * 10_000), "0")]))
    data = loaded(path)
    assert max(split.tensors["x"].shape[1] for split in data.splits.values()) == 20
    assert "1 sentences have more than data.max_length=20 words, up to 10000" in caplog.text


def test_a_cell_may_be_longer_than_the_csv_module_allows(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    path = written(tmp_path, table([(" ".join(["endless"] * before), "0"), ("fine", "1")]))
    assert len(read_table(path, "text", "label", None).rows[0].text) == 8 * before - 1
    assert columns_of(path) == ["text", "label"]
    assert csv.field_size_limit() == before


def test_classes_are_counted_and_a_misspelt_label_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rows = [(f"{text} {number}", f"is {label}") for number, (text, label) in enumerate(ROWS * 20)]
    path = written(tmp_path, table([("first", "si 1"), *rows, ("last", "is  0"), *[("rare", "x")] * 5]))
    loaded(path)
    assert "407 sentences of 5 classes: is  0 1, is 0 200, is 1 200, si 1 1, x 5" in caplog.messages
    alike, warning = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"{path}: labels that differ in spaces or capitals only: 'is 0' in line 3, 'is  0' in line 403;" in alike
    assert f"{path}: classes of hardly any sentence: 'si 1' in line 2, 'is  0' in line 403; correct" in warning
    caplog.clear()
    loaded(path, classes=["is 0", "is 1", "si 1", "is  0", "x"])
    loaded(written(tmp_path, table([*ROWS, ("third", "2")])))  # one row of 21 is no small share
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_labels_spelt_in_several_ways_are_told_in_small_tables_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels = ["pos", "neg", "Pos", "neg ", "pos"]
    path = written(tmp_path, table([(text, labels[n % 5]) for n, (text, _) in enumerate(ROWS)]))
    loaded(path)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "'pos' in line 2, 'Pos' in line 4; write them alike" in message


@pytest.mark.parametrize(("n_classes", "end"), [(20, "class 19 1"), (21, "class 19 1, …")])
def test_long_lists_of_classes_end_in_an_ellipsis(
    n_classes: int, end: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rows = [(f"text {n}", f"class {n:02d}") for n in range(n_classes)]
    text_csv(written(tmp_path, table(rows)))._tell_classes()
    assert caplog.messages[0].endswith(end)


def test_rows_of_hardly_any_sentence_end_in_an_ellipsis(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(f"text {n}", "many") for n in range(200)] + [(f"rare {n}", f"class {n}") for n in range(21)]
    text_csv(written(tmp_path, table(rows)))._tell_classes()
    (message,) = caplog.messages
    assert "'class 19' in line 221, …; correct" in message


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["train", "validate", "test"], "(train 7, test 6, other cells 7)"),
        (["Training", "", "train", "dev"], "(training 5, train 5, dev 5, other cells 5)"),
        (["train", "training", ""], None),
        (["test", "val"], None),  # no column of parts is without a training part
    ],
)
def test_a_column_of_parts_is_known_though_some_cells_are_not(
    cells: list[str], told: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(text, label, cells[n % len(cells)]) for n, (text, label) in enumerate(ROWS)]
    loaded(written(tmp_path, table(rows, ("text", "label", "part"))))
    assert [told is not None and told in message for message in caplog.messages] == [True] * (told is not None)


def test_classes_named_as_parts_are_no_column_of_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(text, ("train", "test")[int(label)]) for text, label in ROWS]
    loaded(written(tmp_path, table(rows)))
    assert not caplog.messages


def test_a_column_of_parts_that_is_not_followed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [(text, label, ("train", "Test")[n > 15], "train") for n, (text, label) in enumerate(ROWS)]
    path = written(tmp_path, table(rows, ("text", "label", "part", "origin")))
    loaded(path)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "column 'part' names parts (train 16, test 4), but parts are drawn; set data.split_column=part" in message
    caplog.clear()
    loaded(path, split_column="part")
    assert not caplog.records


@pytest.mark.parametrize(
    ("n_rows", "shares", "message"),
    [
        (8, (0.2, 0.1), r"the test part is empty: a share of 0.1 of 8 sentences \(data.test_fraction\)\. Add some, 10"),
        (4, (0.1, 0.3), r"the val part is empty: a share of 0.1 of 4 sentences \(data.val_fraction\)\. Add some, 10"),
    ],
)
def test_too_few_sentences_for_a_part_are_refused(
    n_rows: int, shares: tuple[float, float], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, table(ROWS[:n_rows]))
    with pytest.raises(UserError, match=message):
        loaded(path, val_fraction=shares[0], test_fraction=shares[1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\ngood,1\n   ,0\n", r"the cell of column 'text' is empty \(.*reviews.csv, line 3\)"),
        ("text,label\ngood,1\nbad,\n", r"the cell of column 'label' is empty \(.*line 3\)"),
        ("text,label\ngood,1\nbad,0,2\n", r"the row has 3 cells, the header 2 \(.*line 3\)\. Quote texts"),
        ("review,label\ngood,1\n", r"no column 'text'; columns: review, label \(.*\)"),
        ("text,text,label\ngood,1,1\n", r"2 columns 'text'"),
        ("text,label\n", r"the table has no rows"),
        ("", r"no column 'text'; columns: none"),
        ('text,label\ngood,1\n"bad,0\n', r"broken CSV: unexpected end of data \(.*line 3\)"),
        ("text,label\ngood,1\nbad,1\n", r"needs different ones, got 1"),
        (b"text,label\ngood,1\ncr\xe8me,0\n", r"the file is not UTF-8: byte 0xE8 \(.*line 3\)\. Save it as UTF-8"),
        ("text,label\ngood,1\n".encode("utf-16-le"), r"it holds zero bytes"),
    ],
)
def test_faulty_tables_are_refused_by_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        text_csv(written(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_label_outside_the_given_classes_is_refused_by_line(tmp_path: Path) -> None:
    path = written(tmp_path, table([*ROWS, ("fine", "2")]))
    with pytest.raises(UserError, match=r"label '2' is not one of 0, 1 \(.*line 22\)"):
        text_csv(path, classes=["0", "1"])


def test_a_class_that_is_never_trained_on_is_refused(tmp_path: Path) -> None:
    rows = [(text, label, "train") for text, label in ROWS] + [("fine", "2", "test")]
    path = written(tmp_path, table(rows, ("text", "label", "split")))
    with pytest.raises(UserError, match=r"no training sentence has the label '2' \(.*line 22\)"):
        loaded(path, split_column="split")


@pytest.mark.parametrize(("part", "message"), [("extra", r"unknown part 'extra' \(.*line 2\)"), ("", "is empty")])
def test_unknown_parts_are_refused(tmp_path: Path, part: str, message: str) -> None:
    path = written(tmp_path, table([("fine", "0", part), ("bad", "1", "train")], ("text", "label", "split")))
    with pytest.raises(UserError, match=message):
        loaded(path, split_column="split")


def test_a_split_column_without_training_rows_is_refused(tmp_path: Path) -> None:
    rows = [(text, label, "test") for text, label in ROWS]
    with pytest.raises(UserError, match="no row is of the training part"):
        loaded(written(tmp_path, table(rows, ("text", "label", "split"))), split_column="split")


@pytest.mark.parametrize("options", [{"val_fraction": 0.0}, {"test_fraction": 1.0}, {"val_fraction": 0.9}])
def test_shares_that_leave_no_three_parts_are_refused(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="must be between 0 and 1"):
        text_csv(written(tmp_path, table(ROWS)), **options)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match=r"no such file \(.*none.csv\)"):
        text_csv(tmp_path / "none.csv")
    with pytest.raises(UserError, match="cannot be read"):
        text_csv(tmp_path)
