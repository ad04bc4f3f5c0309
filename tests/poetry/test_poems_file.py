"""Files of poems: every form is known by its content, and what is wrong with one is said in one line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cvkan.errors import DataUnavailableError, UserError
from cvkan.poetry.poems_file import Poem, embedded_poems, read_poems
from cvkan.poetry.tokens import tokenize

SHARED = Path(__file__).parents[3] / "shared" / "data"
TEXTS = ["Low tide, and the stones\nall dark.\n\nA bird.", 'He said: "Stay; [or go]" 🌊', "{sic}"]


def written(folder: Path, content: str | bytes, name: str = "poems.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_csv(delimiter: str, header: str) -> str:
    cells = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
    return f"id{delimiter}{header}\n" + "\n".join(f"{i}{delimiter}{cell}" for i, cell in enumerate(cells)) + "\n"


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([{"text": text} for text in TEXTS], indent=1),
        json.dumps({"about": "sea", "poems": [{"content": text} for text in TEXTS]}),
        json.dumps({"poems": TEXTS}),
        json.dumps(TEXTS, ensure_ascii=False),
        "\n" + "\n\n".join(json.dumps({"Body": text}) for text in TEXTS) + "\n",
        "\n".join(json.dumps({"poem": text}, indent=2) for text in TEXTS),
        as_csv(",", "Poem"),
        as_csv(";", "text"),
        as_csv("\t", "Content "),
        as_csv("|", "body"),
        json.dumps({"data": TEXTS, "version": 2}),
        json.dumps({f"poem {i}": text for i, text in enumerate(TEXTS)}),
        json.dumps({"Poems": {str(i): {"body": text} for i, text in enumerate(TEXTS)}}),
        json.dumps([{"title": "a", "lines": text.split("\n"), "linecount": "4"} for text in TEXTS]),
        json.dumps([[f"{line}\n" for line in text.split("\n")] for text in TEXTS]),
        json.dumps([{"stanzas": text.split("\n\n")} for text in TEXTS]),
        json.dumps([{"Stanzas": [stanza.split("\n") for stanza in text.split("\n\n")]} for text in TEXTS]),
        "\n---\n".join(TEXTS),
        "\n\n* * *\n\n".join(TEXTS),
        "\n\f\n".join(TEXTS),
        "***\n" + "\n *****\n\n".join(TEXTS) + "\n***\n",
        "\n<|endoftext|>\n".join(TEXTS) + "\n<|endoftext|>",
        "\n\n" + "\n\n \n".join(TEXTS) + "\n\n\n",
    ],
)
@pytest.mark.parametrize("change", [str, lambda text: "\ufeff" + text, lambda text: text.replace("\n", "\r\n")])
def test_forms_are_known_by_their_content(content: str, change, tmp_path: Path) -> None:
    assert [poem.text for poem in read_poems(written(tmp_path, change(content)))] == TEXTS


def test_plain_text_without_markers_or_wide_gaps_is_parted_by_every_blank_line(tmp_path: Path) -> None:
    poems = read_poems(written(tmp_path, "\n\n  one\ntwo\n \t\nthree\n\n\n"))
    assert [poem.text for poem in poems] == ["  one\ntwo", "three"]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("Poem, by night\nthe sea is wide, and dark\n", ["Poem, by night\nthe sea is wide, and dark"]),
        ("[Untitled]\nno name, no text", ["[Untitled]\nno name, no text"]),
        ("Text\n\nalone", ["Text", "alone"]),
        ("one line", ["one line"]),
    ],
)
def test_plain_text_is_not_taken_for_a_table_or_json(content: str, texts: list[str], tmp_path: Path) -> None:
    assert [poem.text for poem in read_poems(written(tmp_path, content))] == texts


def test_one_object_with_all_its_fields(tmp_path: Path) -> None:
    record = {
        "Title": 1984,
        "poet": " Ann ",
        "text": "\nthe sea\n",
        "url": "x",
        "line_count": 1,
        "tags": ["a", {"b": 2}],
    }
    expected = Poem("the sea", "1984", "Ann", {"url": "x", "line_count": 1, "tags": ["a", {"b": 2}]})
    assert read_poems(written(tmp_path, json.dumps(record))) == [expected]


def test_text_is_taken_before_other_names_and_empty_names_are_none(tmp_path: Path) -> None:
    record = {"poem": "7", "content": "other", "text": "sea", "title": None, "author": " "}
    assert read_poems(written(tmp_path, json.dumps([record]))) == [
        Poem("sea", None, None, {"poem": "7", "content": "other"})
    ]


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"text": None, "lines": ["low", "tide"]}, "low\ntide"),
        ({"text": " ", "Body": "sea"}, "sea"),
        ({"lines": 14, "verses": ["low", "tide"]}, "low\ntide"),
        ({"lines": "14", "verses": "sea"}, "sea"),
        ({"text": "low\r\ntide\r"}, "low\ntide"),
        ({"lines": ["low\r\n", "tide\r\n"]}, "low\ntide"),
        ({"stanzas": ["low\r\ntide\r\n", "a bird\r\n"]}, "low\ntide\n\na bird"),
    ],
)
def test_the_field_that_holds_a_text_is_taken_with_plain_line_ends(
    record: dict[str, object], text: str, tmp_path: Path
) -> None:
    (poem,) = read_poems(written(tmp_path, json.dumps([record])))
    assert poem.text == text


@pytest.mark.parametrize(
    ("value", "poems"),
    [
        (
            {"Keats": ["a\nb", "c\nd"], "Blake": ["e\nf", "g"]},
            [("Keats", None, "a\nb"), ("Keats", None, "c\nd"), ("Blake", None, "e\nf"), ("Blake", None, "g")],
        ),
        ({"Keats": {"Ode": "a\nb", "2": ["c", "d"]}}, [("Keats", "Ode", "a\nb"), ("Keats", None, "c\nd")]),
        (
            {"Keats": [{"text": "a"}, {"text": "b", "Author": "John Keats"}], "1819": [{"poem": "c", "title": "Ode"}]},
            [("Keats", None, "a"), ("John Keats", None, "b"), (None, "Ode", "c")],
        ),
        ({"Ode": "a", "Sea": ["b", "c"], "7": "d"}, [(None, "Ode", "a"), (None, "Sea", "b\nc"), (None, None, "d")]),
        (
            {"x": {"text": "a", "title": "Ode"}, "y": {"text": "b", "Title": ""}},
            [(None, "Ode", "a"), (None, "y", "b")],
        ),
        ({"author": "Keats", "data": ["a", "b"]}, [(None, None, "a"), (None, None, "b")]),
        ({"author": "Keats", "text": "a", "data": ["b"]}, [("Keats", None, "a")]),
    ],
)
def test_names_of_an_object_are_titles_or_authors(
    value: object, poems: list[tuple[str | None, str | None, str]], tmp_path: Path
) -> None:
    read = read_poems(written(tmp_path, json.dumps(value)))
    assert [(poem.author, poem.title, poem.text) for poem in read] == poems


def test_a_name_that_is_no_title_is_kept(tmp_path: Path) -> None:
    poems = read_poems(written(tmp_path, '{"7": "a", "x": {"text": "b", "title": "Ode"}}'))
    assert [poem.metadata for poem in poems] == [{"id": "7"}, {"id": "x"}]


def test_rows_of_a_table_keep_their_other_columns(tmp_path: Path) -> None:
    # The first column of a table that pandas wrote has no name.
    content = ',Title,Poem,Poet\n0,Sea,"a, b\n\nc",Ann\n1,,d,\n'
    assert read_poems(written(tmp_path, content)) == [
        Poem("a, b\n\nc", "Sea", "Ann", {"": "0"}),
        Poem("d", None, None, {"": "1"}),
    ]


def test_a_table_of_one_column_is_known_by_its_name(tmp_path: Path) -> None:
    poems = read_poems(written(tmp_path, 'text\nsea\n\n"a, b"\n', "poems.csv"))
    assert [poem.text for poem in poems] == ["sea", "a, b"]


@pytest.mark.parametrize(("header", "name"), [("id,text", "p.txt"), ("text", "p.csv")])
def test_a_cell_may_be_longer_than_the_csv_module_allows(header: str, name: str, tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = "the sea, and\n" * 20_000
    assert len(long) > before
    row = f'"{long}"' if header == "text" else f'0,"{long}"'
    (poem,) = read_poems(written(tmp_path, f"{header}\n{row}\n", name))
    assert poem.text == long.strip("\n")
    with pytest.raises(UserError, match="broken CSV in poem 0"):
        read_poems(written(tmp_path, f"{header}\n{row[:-1]}\n", "broken.csv"))
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("form", ["# {}\n{}\n", "## {}\n\n\n{}\n\n", "{}\n\n\n{}\n\n\n\n"])
def test_titles_of_plain_text_are_no_poems(form: str, tmp_path: Path) -> None:
    titles = ["LOW TIDE", "II.", "THE CAT, 1911"]
    content = "".join(form.format(title, text) for title, text in zip(titles, TEXTS, strict=True))
    poems = read_poems(written(tmp_path, content))
    assert [(poem.title, poem.text) for poem in poems] == list(zip(titles, TEXTS, strict=True))


@pytest.mark.parametrize("line", ["=======", "---"])
@pytest.mark.parametrize("between", ["", "\n\n***\n", "\n----\n"])
def test_underlined_titles_are_no_poems(line: str, between: str, tmp_path: Path) -> None:
    titles = ["The Sea", "Low tide, 1911", "III"]
    pairs = zip(titles, TEXTS, strict=True)
    content = "".join(f"{title}\n{line}\n\n{text}\n{between}\n" for title, text in pairs)
    poems = read_poems(written(tmp_path, content))
    assert [(poem.title, poem.text) for poem in poems] == list(zip(titles, TEXTS, strict=True))


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("a\nb\n---\nc", ["a\nb", "c"]),
        ("a\n---\nb\n---\nc", ["a", "b", "c"]),
        ("a\n---\n\nb\n---\n\nc", ["a", "b", "c"]),  # a title has a text behind it
        ("a\n===\n\nb\nc\n===\nd", ["a", "b\nc", "d"]),
        ("a\nb\n\nc\n---\nd\n\ne\n---\nf", ["a\nb\n\nc", "d\n\ne", "f"]),  # it begins with no title
        ("---\ntitle: A\ntags:\n  - sea\n---\na\nb\n---\nc", ["a\nb", "c"]),
        ("---\ntitle: A\n---\n\na\n\n\nb\nc", ["a", "b\nc"]),
        ("---\na: b\nc\n---\nd", ["a: b\nc", "d"]),  # no front matter
        ("---\na\n---\nb", ["a", "b"]),
    ],
)
def test_lines_of_markers_part_poems_unless_they_underline_titles(
    content: str, texts: list[str], tmp_path: Path
) -> None:
    assert [poem.text for poem in read_poems(written(tmp_path, content))] == texts


def test_title_lines_keep_stanzas_together(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = written(tmp_path, "SEA\n\nI\n\none\ntwo\n\nthree\n\nII\n\nfour\n\nHILL\n")
    poems = read_poems(path)
    assert [(poem.title, poem.text) for poem in poems] == [
        ("SEA, I", "one\ntwo\n\nthree"),
        ("II", "four"),
        (None, "HILL"),  # nothing is lost
    ]
    assert caplog.messages == [
        f"{path}: plain text of 3 poems, parted by title lines; put lines of --- between the poems to part it otherwise"
    ]


def test_one_line_in_capitals_parts_nothing(tmp_path: Path) -> None:
    poems = read_poems(written(tmp_path, "one\n\nHURRY UP\n\ntwo\n\nTIME"))
    assert [poem.text for poem in poems] == ["one", "HURRY UP", "two", "TIME"]


@pytest.mark.parametrize(
    ("content", "level", "said"),
    [
        ("one\ntwo\n\nthree\n---\nfour", "INFO", "2 poems, parted by lines of markers"),
        ("one\n\n\ntwo\n\nthree", "INFO", "2 poems, parted by two or more blank lines; put lines of ---"),
        ("one\ntwo\n\nthree\n\nfour", "WARNING", "3 poems, parted by blank lines; if these part stanzas, put lines"),
        ("A\n===\none\n\nB\n===\ntwo", "INFO", "2 poems, parted by underlined titles; blank lines above"),
        ("one\ntwo", "INFO", "one poem; lines of --- would part several"),
        ('{"a": "one", "b": ["two"]}', "INFO", "an object, taken as 2 poems under 2 names"),
        (
            '{"by": "PD", "a": "one\\ntwo", "b": ["1", "2"]}',
            "WARNING",
            "3 poems under 3 names; these have one line: by;",
        ),
        ('{"Keats": {"in": "Rome", "a": "1\\n2"}}', "WARNING", "2 poems under 1 names; these have one line: in;"),
    ],
)
def test_what_was_taken_for_a_poem_is_told(
    content: str, level: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = written(tmp_path, content)
    read_poems(path)
    (record,) = caplog.records
    assert record.levelname == level
    assert record.getMessage().startswith(f"{path}: ")
    assert said in record.getMessage()


GOOD = '{"text": "sea"}'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", "", "the file is empty"),
        ("p.txt", " \n\t\n", "the file is empty"),
        ("p.json", "[]", "holds no poem"),
        ("p.txt", "\n---\n", "holds no poem"),
        ("p.csv", "text,title\n", "holds no poem"),
        ("p.json", f'[{GOOD}, {{"text": " \\n"}}]', "poem 1 is empty"),
        ("p.json", f'[{GOOD}, ""]', "poem 1 is empty"),
        ("p.txt", "sea\n---\n\n---\nsky", "poem 1 is empty"),
        ("p.csv", "text,title\nsea,a\n,b\n", "poem 1 is empty"),
        ("p.json", f'[{GOOD}, {{"text": 5}}]', "poem 1 must be text, got a number"),
        ("p.json", f'[{GOOD}, {{"text": ["a", 2]}}]', "poem 1 must be text, got a list"),
        ("p.json", f'[{GOOD}, {{"text": [["a", ["b"]]]}}]', "poem 1 must be text, got a list"),
        ("p.json", f"[{GOOD}, []]", "poem 1 is empty"),
        ("p.json", f'[{GOOD}, {{"text": null, "lines": []}}]', "poem 1 must be text, got null"),
        ("p.json", f'[{GOOD}, {{"text": "14"}}]', "poem 1 is nothing but a number, '14'"),
        ("p.csv", "title,text\nSea,14\n", "poem 0 is nothing but a number, '14'"),
        ("p.csv", "title,lines,verse\nSea,14,low tide\n", "no text column among title, lines, verse"),
        ("p.json", '{"a": {"title": "x", "verse": "y"}, "b": "z"}', "poem 0 has no text: its fields are a, b"),
        ("p.json", '{"Keats": {"Ode": "a", "year": 1819}}', "poem 0 has no text: its fields are Keats"),
        ("p.json", '{"verse": ["a", "b"]}', "poem 0 has no text: its fields are verse"),
        ("p.json", f"[{GOOD}, {GOOD}, null]", "poem 2 must be text, got null"),
        ("p.json", f'[{GOOD}, {{"text": "a", "author": ["b"]}}]', "poem 1: author must be text, got a list"),
        ("p.json", "3", "poem 0 must be text, got a number"),
        ("p.json", f'[{GOOD}, {{"title": "a", "verse": "b"}}]', "poem 1 has no text: its fields are title, verse"),
        ("p.json", "{}", "poem 0 has no text: its fields are none"),
        ("p.txt", '{"poems": "a"}', '"poems" must be a list, got a text'),
        ("p.txt", '{"poems": {"a": "b"}}', "poem 0 has no text: its fields are a"),
        ("p.txt", '{"a": "b", "c": 3}', "poem 0 has no text: its fields are a, c"),
        ("p.json", json.dumps(dict.fromkeys(range(99), 1)), r"poem 0 has no text: its fields are 0, 1, 2, .* 7, … \("),
        ("p.json", "<html>Not found</html>", r"broken JSON: .*line 1, column 1\)"),
        ("p.txt", f'[{GOOD}, {{"te', r"broken JSON: .*line 1, column 20\)"),
        ("p.txt", f'{GOOD}\n{GOOD}\n{{"text": ', r"broken JSON in poem 2: .*line 3, column 10\)"),
        ("p.txt", "[" * 100_000, "JSON of too many levels"),
        ("p.json", "[" + "1" * 5000 + "]", "broken JSON: Exceeds the limit"),
        ("p.csv", "title,verse\na,b\n", "no text column among title, verse"),
        ("p.csv", '"Low tide\n\nand stones, all of them",x\na,b\n', "among Low tide and stones, all…, x, which"),
        ("p.csv", "text,text\na,b\n", "two columns have one name"),
        ("p.csv", "text,title\nsea,a\nlow, high,b\n", r"poem 1 has 3 cells, the header 2 \(.*line 3\)"),
        ("p.csv", 'text,title\nsea,a\n"never closed,b\n', "broken CSV in poem 1"),
        ("p.txt", b"sea\n---\ncaf\xe9 noir", r"poem 1 is not UTF-8: byte 0xE9 after .*caf'"),
        ("p.json", b'[{"text": "sea"}, {"text": "caf\xe9"}]', r"poem 1 is not UTF-8: byte 0xE9 after .*caf'"),
        ("p.json", b'[{"text": "sea"}, {"text": "a", "author": "Ren\xe9"}]', r"poem 1 is not UTF-8: byte 0xE9 after"),
        ("p.csv", b"title,text\nA,sea\nB,caf\xe9\n", r"poem 1 is not UTF-8: byte 0xE9"),
        ("p.json", f'[{GOOD}, {{"text": "a\\ud83c"}}]', r"poem 1 is not UTF-8: half a character, U\+D83C"),
        ("p.txt", "the sea".encode("utf-16"), "zero bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(name: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, content, name)
    with pytest.raises(UserError, match=message) as error:
        read_poems(path)
    assert str(path) in error.value.where
    assert error.value.fix
    assert "\n" not in str(error.value)
    str(error.value).encode()


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match=r"no such file.*none\.json"):
        read_poems(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_poems(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.binary() | st.text().map(str.encode), st.sampled_from(["p.txt", "p.json", "p.csv"]))
@example(b"\xef\xbb\xbf", "p.txt")
@example(b'["\xf0\x9f"]', "p.json")
def test_any_bytes_are_poems_or_a_users_error(tmp_path: Path, content: bytes, name: str) -> None:
    try:
        poems = read_poems(written(tmp_path, content, name))
    except UserError:
        return
    assert poems
    for poem in poems:
        assert tokenize(poem.text)
        poem.text.encode()


def test_embedded_poems_are_many_and_short_and_share_their_words() -> None:
    poems = embedded_poems()
    assert len(poems) >= 80
    assert len({poem.text for poem in poems}) == len({poem.title for poem in poems}) == len(poems)
    assert {len([p for p in poems if p.author == author]) >= 20 for author in {p.author for p in poems}} == {True}
    for poem in poems:
        assert 4 <= sum(bool(line.strip()) for line in poem.text.split("\n")) <= 16, poem.title
    words = [{token.lower() for token in tokenize(poem.text)} for poem in poems]
    for i, own in enumerate(words):
        others = set().union(*words[:i], *words[i + 1 :])
        assert len(own & others) > 0.6 * len(own), poems[i].title


@pytest.mark.shared_data
@pytest.mark.skipif(not (SHARED / "poems264").is_dir(), reason="needs the shared data folder")
def test_real_file_of_poems() -> None:
    poems = read_poems(SHARED / "poems264" / "poems.json")
    assert len(poems) == 264
    assert (poems[0].title, poems[0].author) == ("An End", "Christina Georgina Rossetti")
    assert poems[0].text.startswith("Love, strong as Death, is dead.\n")
    assert poems[0].metadata["n_lines"] == 20
