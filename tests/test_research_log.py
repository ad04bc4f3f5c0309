"""The research log keeps its form, and ``scripts/log_finding.py`` adds to it without breaking it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts/log_finding.py"
sys.path.insert(0, str(SCRIPT.parent))

from log_finding import CATEGORIES, LOG, STATUSES, Entry, figures, fill, read_log, with_entry  # noqa: E402

from cvkan.errors import UserError  # noqa: E402

ENTRY = Entry(
    date(2026, 11, 20),
    "A title",
    "Data",
    "Open",
    ("README.md", "conf/**/*.yaml"),
    "something was seen.",
    "something follows.",
    ((False, "Look again"), (True, "Look")),
)
EMPTY = "# Research log\n"
ACCURACIES = (0.8, 0.9, 1.0)
Tool = Callable[..., subprocess.CompletedProcess[str]]


def test_the_log_of_this_repository_is_well_formed() -> None:
    entries = read_log(LOG.read_text(), ROOT, "docs/research_log.md")
    assert len(entries) >= 8


def words(min_size: int = 1) -> st.SearchStrategy[str]:
    """Text of one space between words, marks of Markdown among them."""
    marks = st.sampled_from(["-", "*", "#", "##", ">", "1.", "2)", "[x]", "Finding:", "Impact:", "===", "```", "\\0"])
    word = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=40)
    return st.lists(word | marks, min_size=min_size, max_size=60).map(" ".join)


entries = st.builds(
    Entry,
    st.just(ENTRY.date),
    words(),
    st.sampled_from(CATEGORIES),
    st.sampled_from(STATUSES),
    st.just(ENTRY.related),
    words(),
    words(),
    st.lists(st.tuples(st.booleans(), words()), min_size=1, max_size=3).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(entry=entries)
def test_what_is_written_is_read_back(entry: Entry) -> None:
    assert read_log(EMPTY + "\n" + entry.text(), ROOT) == [entry]


@settings(max_examples=60, deadline=None)
@given(text=words(min_size=50))
def test_no_written_line_becomes_a_list_a_heading_or_a_quote(text: str) -> None:
    body = replace(ENTRY, finding=text).text().partition("Finding: ")[2].partition("\n\nImpact")[0]
    starts = [line.split()[0] for line in body.splitlines()[1:]]
    assert not {"-", "*", "#", "##", "1.", "2)", "===", "```"} & set(starts)
    assert not any(start.startswith(">") for start in starts)


def test_a_new_entry_stands_on_top_and_the_rest_is_unchanged() -> None:
    before = LOG.read_text()
    newest = read_log(before, ROOT)[0].date
    after = with_entry(before, replace(ENTRY, date=newest), ROOT)
    assert read_log(after, ROOT) == [replace(ENTRY, date=newest), *read_log(before, ROOT)]
    place = before.index("\n## ")
    assert after.startswith(before[:place])
    assert after.endswith(before[place:])


def log(*entries: Entry) -> str:
    return EMPTY + "".join("\n" + entry.text() for entry in entries)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (log(replace(ENTRY, category="Luck")), "unknown category 'Luck'"),
        (log(replace(ENTRY, status="Done")), "unknown status 'Done'"),
        (log(replace(ENTRY, related=("README.md", "nowhere.py"))), "related nowhere.py does not exist"),
        (log(replace(ENTRY, related=("conf/*.py7",))), r"conf/\*.py7 does not exist"),
        (log(replace(ENTRY, related=("/etc/passwd",))), "'/etc/passwd' is no path inside the repository"),
        (log(replace(ENTRY, related=("conf/../../x",))), "no path inside the repository"),
        (log(ENTRY).replace("2026-11-20", "2026-11-31"), "'2026-11-31' is no date"),
        (log(ENTRY).replace("2026-11-20", "20.11.2026"), "'20.11.2026' is no date"),
        (log(ENTRY, ENTRY), "two entries 2026-11-20 'A title'"),
        (log(ENTRY, replace(ENTRY, date=date(2026, 11, 21))), "2026-11-21 stands below one of 2026-11-20"),
        (log(ENTRY).replace("- [x] ", "- "), "departs from the form"),
        (log(ENTRY).replace("- [x] ", "- [X] "), "departs from the form"),
        (log(ENTRY).replace("**Status**: Open\n", ""), r"no '\*\*Status\*\*:' in its place"),
        (log(ENTRY).replace("Finding:", "Found:"), "no 'Finding:' in its place"),
        (log(ENTRY).partition("Action")[0], "no 'Action items:' in its place"),
        (ENTRY.text(), "does not start with its title"),
    ],
)
def test_a_fault_in_the_log_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"{said}.*line \d+"):
        read_log(text, ROOT, "log")


def test_fields_in_another_order_are_refused() -> None:
    text = log(ENTRY)
    swapped = text.replace("**Category**: Data\n**Status**: Open", "**Status**: Open\n**Category**: Data")
    with pytest.raises(UserError, match="in its place"):
        read_log(swapped, ROOT)


def test_runs_may_be_named_where_they_no_longer_are() -> None:
    entry = replace(ENTRY, related=("multirun/2026-11-20_10-00-00",))
    assert read_log(log(entry), ROOT) == [entry]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three finished runs."""
    for seed, accuracy in enumerate(ACCURACIES):
        run = tmp_path / "sweep" / str(seed)
        run.mkdir(parents=True)
        own = {"only/first": 1.0} if seed == 0 else {"only/first": None}
        (run / "metrics.json").write_text(json.dumps({"test/accuracy": accuracy, **own}))
        record = {"seed": seed, "parameters": 1234, "device": "cpu", "fit_seconds": 10.0 + seed, "error": None}
        (run / "run.json").write_text(json.dumps(record))
    return tmp_path / "sweep"


def test_figures_are_the_mean_and_sample_deviation_over_all_runs(sweep: Path) -> None:
    expected = f"{statistics.mean(ACCURACIES):.4f} ± {statistics.stdev(ACCURACIES):.4f}"
    several = [sweep / str(seed) for seed in range(3)]
    # A run below two of the folders counts once.
    for folders in ([sweep], several, [*several, sweep]):
        known = figures(folders)
        assert (known["test/accuracy"], known["runs"]) == (expected, "3")
        assert (known["parameters"], known["device"], known["fit_seconds"]) == ("1234", "cpu", "11.0000 ± 1.0000")


def test_a_single_run_is_quoted_without_deviation(sweep: Path) -> None:
    known = figures([sweep / "1"])
    assert known == {
        **{"runs": "1", "test/accuracy": "0.9000", "seed": "1"},
        **{"parameters": "1234", "device": "cpu", "fit_seconds": "11.0"},
    }


def test_figures_that_only_some_runs_have_are_left_out(sweep: Path) -> None:
    assert "only/first" not in figures([sweep])
    assert figures([sweep / "0"])["only/first"] == "1.0000"


def test_doubled_braces_stand_for_themselves() -> None:
    assert fill("{{a}} is {a}, {{{a}}}", {"a": "1"}) == "{a} is 1, {1}"


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    """The script on a log of its own, with arguments that are right unless they are given again."""
    (tmp_path / "log.md").write_text(log(ENTRY))
    usual = {
        "--title": "Another  title",
        "--category": "training",
        "--status": "Resolved",
        "--related": "./Makefile",
        "--finding": "seen.",
        "--impact": "none.",
        "--action": "[x] Done",
        "--date": "2026-11-21",
        "--log": str(tmp_path / "log.md"),
    }

    def run(*further: str, **changed: str | None) -> subprocess.CompletedProcess[str]:
        options = {**usual, **{f"--{name}": value for name, value in changed.items()}}
        typed = [word for name, value in options.items() if value is not None for word in (name, value)]
        command = [sys.executable, str(SCRIPT), *typed, *further]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return run


def test_the_tool_writes_an_entry_with_the_figures_of_its_runs(tool: Tool, sweep: Path, tmp_path: Path) -> None:
    ended = tool(
        *("--run", str(sweep), "--related", "docs/*.md", "--action", "Try {again}"),
        finding="accuracy was {test/accuracy} over {runs} seeds,\n{parameters} parameters.",
        impact="a set {{1, 2}}.",
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    expected = Entry(
        date(2026, 11, 21),
        "Another title",
        "Training",
        "Resolved",
        ("Makefile", "docs/*.md"),
        "accuracy was 0.9000 ± 0.1000 over 3 seeds, 1234 parameters.",
        "a set {1, 2}.",
        ((True, "Done"), (False, "Try {again}")),
    )
    assert (tmp_path / "log.md").read_text() == log(expected, ENTRY)
    assert ended.stdout == expected.text()


@pytest.mark.parametrize(
    ("changed", "further", "said"),
    [
        ({"category": "Luck"}, (), ["--category", "Architecture"]),
        ({"status": "Done"}, (), ["--status", "Workaround"]),
        ({"title": None}, (), ["--title"]),
        ({"title": " "}, (), ["the title is empty"]),
        ({"action": "[x] "}, (), ["the action is empty"]),
        ({"related": "nowhere.py"}, (), ["nowhere.py does not exist"]),
        ({"related": "multirun/nowhere"}, (), ["multirun/nowhere does not exist"]),
        ({"date": "2026-11-19"}, (), ["before the newest entry"]),
        ({"date": "yesterday"}, (), ["'yesterday' is no date"]),
        ({"date": "2026-11-20", "title": "A title"}, (), ["already", "another title"]),
        ({"finding": "{test/accuracy}"}, (), ["{test/accuracy}", "--run"]),
        ({"finding": "{test/f1}"}, ("--run", "sweep"), ["{test/f1}", "test/accuracy"]),
        ({}, ("--run", "nowhere"), ["no metrics.json below"]),
        ({"log": "nowhere.md"}, (), ["nowhere.md: No such file"]),
    ],
)
def test_a_fault_of_the_command_line_is_one_line_and_leaves_the_log_alone(
    tool: Tool, sweep: Path, tmp_path: Path, changed: dict[str, str], further: tuple[str, ...], said: list[str]
) -> None:
    ended = tool(*(str(sweep) if word == "sweep" else word for word in further), **changed)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    for text in said:
        assert text in ended.stderr
    assert (tmp_path / "log.md").read_text() == log(ENTRY)
