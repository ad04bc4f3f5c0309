"""Tables of series: every fault is named by line and column, and what is read is what the file says."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvkan.domains.timeseries import table
from cvkan.domains.timeseries.dates import check_order, read_date
from cvkan.domains.timeseries.table import Layout, Series, read_table
from cvkan.errors import DataUnavailableError, UserError

START = datetime(2024, 1, 1)
HOUR = timedelta(hours=1)
LAYOUT = {"date_column": "date", "date_format": None, "decimal": "point", "columns": None, "allow_gaps": False}


def hours(n: int) -> list[str]:
    return [str(START + i * HOUR) for i in range(n)]


def rows(n: int) -> list[list[Any]]:
    """A header and n rows: hours, a rising and a falling column."""
    return [["date", "up", "down"], *([date, i, -i] for i, date in enumerate(hours(n)))]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Series]:
    """Write rows to a file and read it back."""

    def write_and_read(content: list[list[Any]], delimiter: str = ",", **options: Any) -> Series:
        path = tmp_path / "table.csv"
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter=delimiter).writerows(content)
        return read_table(path, Layout(**{**LAYOUT, **options}))

    return write_and_read


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_columns_come_as_they_stand_or_as_they_are_chosen(read: Callable[..., Series], delimiter: str) -> None:
    series = read(rows(5), delimiter=delimiter)
    assert series.names == ("up", "down")
    assert series.values.tolist() == [[i, -i] for i in range(5)]
    assert series.dates[[0, -1]].tolist() == [START, START + 4 * HOUR]
    chosen = read(rows(5), delimiter=delimiter, columns=["down"])
    assert (chosen.names, chosen.values.tolist()) == (("down",), [[-i] for i in range(5)])


def test_a_long_file_is_read_whole_and_its_lines_are_counted_through(
    read: Callable[..., Series], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "CHUNK", 7)
    content = rows(30)
    content.insert(4, [])  # a blank line is passed over, and counted
    assert read(content).values[:, 0].tolist() == list(range(30))
    content[25][1] = "x"
    with pytest.raises(UserError, match=r"'x' is not a finite number .*line 26, column up"):
        read(content)


@pytest.mark.parametrize("cell", ["n/a", "1,5", "nan", "inf", "--"])
def test_a_cell_that_is_no_number_is_named(read: Callable[..., Series], cell: str) -> None:
    content = rows(6)
    content[3][2] = cell
    with pytest.raises(UserError, match=f"'{cell}' is not a finite number .*line 4, column down"):
        read(content)
    assert read(content, columns=["up"]).names == ("up",)  # a column that nobody asked for may hold anything


def test_an_empty_cell_is_named_even_in_the_first_row(read: Callable[..., Series]) -> None:
    content = rows(6)
    content[1][1] = ""
    with pytest.raises(UserError, match=r"the cell is empty .*line 2, column up"):
        read(content)


def test_a_column_of_words_is_left_out_and_told(read: Callable[..., Series], caplog: pytest.LogCaptureFixture) -> None:
    content = [[*row, place] for row, place in zip(rows(4), ["place", *"abba"], strict=True)]
    with caplog.at_level(logging.WARNING):
        assert read(content).names == ("up", "down")
    assert "left out, as they hold no number: place" in caplog.text
    with pytest.raises(UserError, match=r"'a' is not a finite number .*line 2, column place"):
        read(content, columns=["place"])
    with pytest.raises(UserError, match="no column but the date's holds a number"):
        read([[row[0], row[3]] for row in content])


@pytest.mark.parametrize(
    ("line", "date", "message"),
    [
        (
            4,
            START + HOUR,
            r"the date 2024-01-01 01:00:00 stands twice .*line 4, column date.*offset from UTC .*\+01:00",
        ),
        (4, START, "not in order: 2024-01-01 00:00:00 follows 2024-01-01 01:00:00 .*line 4"),
        (7, START + 9 * HOUR, "09:00:00 follows 2024-01-01 04:00:00, but most rows are 1:00:00 apart .*line 7"),
        (3, "yesterday", "'yesterday' is no date such as 2016-07-01 00:00:00 .*line 3, column date"),
        (3, "", "'' is no date .*line 3, column date"),
    ],
)
def test_dates_must_rise_evenly(read: Callable[..., Series], line: int, date: Any, message: str) -> None:
    content = rows(6)
    content[line - 1][0] = date
    with pytest.raises(UserError, match=message):
        read(content)


def test_gaps_are_admitted_on_demand_and_disorder_never(read: Callable[..., Series]) -> None:
    months = [["date", "up"], *([f"2024-{month:02}-01", month] for month in range(1, 13) if month != 5)]
    with pytest.raises(
        UserError, match=r"2024-06-01 .* but most rows are 1 month apart .*line 6.*data\.allow_gaps=true"
    ):
        read(months)
    assert read(months, allow_gaps=True).values[:, 0].tolist() == [1, 2, 3, 4, *range(6, 13)]
    months[3], months[4] = months[4], months[3]
    with pytest.raises(UserError, match="not in order"):
        read(months, allow_gaps=True)


@pytest.mark.parametrize(
    ("text", "date_format"),
    [
        ("1704067200", "unix"),
        ("1704067200.0", "unix"),
        ("1704067200000", "unix_ms"),
        ("1.1.2024", "%d.%m.%Y"),
        ("2024-01", "%Y-%m"),
        ("2024", "%Y"),
        ("20240101", None),
    ],
)
def test_first_of_january_2024(text: str, date_format: str | None) -> None:
    assert read_date(f" {text} ", date_format) == START


@pytest.mark.parametrize(
    ("cell", "date_format", "message"),
    [
        ("1704067200", None, r"is no date such as .*Set data\.date_format=unix if these are seconds"),
        # ISO 8601 would take it for the year 1711.
        ("1711122312345", None, r"Set data\.date_format=unix_ms if these are milliseconds"),
        ("1704067200", "%Y", r"is no date in %Y .*Set data\.date_format=unix "),
        ("1704067200000000", "unix_ms", r"Divide by 1000 first \(nanoseconds by 1000000\)"),
        ("1704067200000000000", "unix", r"Divide by 1000 first .* set data\.date_format=unix_ms"),
        ("202401010000", None, r"Set data\.date_format='%Y%m%d%H%M'\."),
        ("20240101000000", None, r"Set data\.date_format='%Y%m%d%H%M%S'\."),
        ("2024010123", None, r"Set data\.date_format='%Y%m%d%H'\."),
        ("2024010130", None, r"Set data\.date_format=unix if"),
        ("nan", "unix", "'nan' is no date in unix .*Correct the cell"),
        ("inf", "unix_ms", "'inf' is no date in unix_ms"),
        ("01/02/2024", None, r"set data\.date_format, such as"),
    ],
)
def test_dates_that_need_a_format_say_which(
    read: Callable[..., Series], cell: str, date_format: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        read([["date", "up"], [cell, 1]], date_format=date_format)
    assert "line 2, column date" in str(error.value)


def test_decimal_commas_are_numbers_on_demand(read: Callable[..., Series]) -> None:
    content = [["date", "up", "whole"], *([date, f"{i},5", -i] for i, date in enumerate(hours(4)))]
    for delimiter in (";", ","):  # between commas such cells stand in quotes
        series = read(content, delimiter=delimiter, decimal="comma")
        assert series.values.tolist() == [[i + 0.5, -i] for i in range(4)]
        with pytest.raises(
            UserError, match=r"'0,5' is not a finite number .*line 2, column up\)\. Set data\.decimal=comma"
        ):
            read(content, delimiter=delimiter)


def test_the_other_decimal_sign_is_never_read_as_a_separator_of_thousands(read: Callable[..., Series]) -> None:
    content = [["date", "up", "few"], *([date, "", f"{i}.234"] for i, date in enumerate(hours(4)))]
    content[3][1] = "1,5"  # behind empty cells, and the only number of its column
    with pytest.raises(UserError, match=r"'0\.234' .*line 2, column few\)\. Set data\.decimal=point"):
        read(content, decimal="comma", columns=["few"])
    with pytest.raises(UserError, match=r"'1,5' .*line 4, column up\)\. Set data\.decimal=comma"):
        read(content)
    content[1][2] = "1,234.5"
    with pytest.raises(UserError, match=r"'1,234\.5' .*line 2, column few\)\. .*write numbers plainly"):
        read(content, columns=["few"])
    with pytest.raises(UserError, match=r"no decimal 'dot' \(data\.decimal\)\. Choose point or comma"):
        read(content, decimal="dot")


@pytest.mark.parametrize(
    ("cell", "decimal", "advice"),
    [
        ("1.200,50", "comma", r"such as 1234,5, without units or separators of thousands"),
        ("1.200.000", "comma", r"such as 1234,5, without"),
        ("1,200.50", "comma", r"Set data\.decimal=point"),
        ("1.200,50", "point", r"Set data\.decimal=comma if .*; take separators of thousands out"),
        ("1,200.50", "point", r"such as 1234\.5, without units or separators"),
        ("1,200,000", "point", r"such as 1234\.5, without"),
        ("1\u00a0200,5", "point", r"Set data\.decimal=comma"),
        ("1'200.5", "point", r"such as 1234\.5, without"),
        (",5", "point", r"Set data\.decimal=comma"),
        ("1,5E+03", "point", r"Set data\.decimal=comma"),
        ("0.5 EUR", "point", r"such as 1234\.5, without units"),
        ("12%", "point", r"such as 1234\.5, without units"),
        ("\u22123.5", "point", r"such as 1234\.5, without"),
    ],
)
def test_a_column_of_numbers_in_another_form_is_never_left_out(
    read: Callable[..., Series], cell: str, decimal: str, advice: str
) -> None:
    content = [[*row, other] for row, other in zip(rows(3), ["cost", "", cell, cell], strict=True)]
    with pytest.raises(UserError, match=rf"column cost\)\. .*{advice}"):
        read(content, decimal=decimal)


@pytest.mark.parametrize("cell", ["01.02.2024", "2024-01-02", "12:30", "10.0.0.1", "A12", "3rd", "", "-", "+.", "n/a"])
def test_other_columns_are_left_out(read: Callable[..., Series], cell: str) -> None:
    content = [[*row, other] for row, other in zip(rows(3), ["other", *3 * [cell]], strict=True)]
    assert read(content).names == ("up", "down")


def test_a_column_may_be_named_by_a_number(read: Callable[..., Series]) -> None:
    content = [["date", "1", "2"], *rows(3)[1:]]
    assert read(content, columns=[2]).names == ("2",)


def test_dates_of_another_form_and_of_another_zone(read: Callable[..., Series]) -> None:
    german = [["Zeit", "up"], *([f"{day:02}.02.2024 06:00", day] for day in range(1, 9))]
    series = read(german, date_column="Zeit", date_format="%d.%m.%Y %H:%M")
    assert series.dates[-1].item() == datetime(2024, 2, 8, 6)
    with pytest.raises(UserError, match=r"is no date such as .*set data\.date_format"):
        read(german, date_column="Zeit")
    # The hour that a clock shows twice in autumn is two hours, if the offset is told.
    autumn = ["2024-10-27T01:00+02:00", "2024-10-27T02:00+02:00", "2024-10-27T02:00+01:00", "2024-10-27T03:00+01:00"]
    series = read([["date", "up"], *([date, i] for i, date in enumerate(autumn))])
    assert series.dates[0].item() == datetime(2024, 10, 26, 23)


@given(order=st.permutations(range(6)), gap=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_only_rising_even_dates_pass(order: list[int], gap: int) -> None:
    steps = [3 * i + (i > gap) for i in order]  # rising by 3, once by 4 where the gap is not behind the end
    dates = np.datetime64("2024-01-01", "h") + np.array(steps)
    is_rising, is_even = order == sorted(order), gap >= 5
    for allow_gaps in (False, True):
        passes = is_rising and (is_even or allow_gaps)
        try:
            check_order(dates, range(2, 8), Path("t.csv"), "date", allow_gaps)
        except UserError:
            assert not passes
        else:
            assert passes


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ([], {}, "no date column 'date'; columns: none"),
        ([["date", "up"]], {}, "the table has no rows"),
        ([["time", "up"], [START, 1]], {}, "no date column 'date'; columns: time, up .*data.date_column"),
        ([["date", "up", "up"], [START, 1, 2]], {}, "two columns have one name: up"),
        ([["date", "up"], [START, 1], [START + HOUR]], {}, "the row has 1 cells, the header 2 .*line 3"),
        (rows(3), {"columns": ["up", "left"]}, "no series left .*Choose data.columns of: up, down"),
        (rows(3), {"columns": ["date"]}, "no series date"),
        (rows(3), {"columns": [1]}, "no series 1 "),
        (rows(3), {"columns": ["up", "up"]}, "names none, or one twice"),
        (rows(3), {"columns": []}, "names none, or one twice"),
    ],
)
def test_what_is_no_table_is_refused(
    read: Callable[..., Series], content: list[list[Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(content, **options)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    def read_file(path: Path) -> Series:
        return read_table(path, Layout(**LAYOUT))

    with pytest.raises(DataUnavailableError, match="there is no such table"):
        read_file(tmp_path / "missing.csv")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_file(tmp_path)
    latin = tmp_path / "latin.csv"
    latin.write_bytes("date,Höhe\n2024-01-01,1\n".encode("latin-1"))
    with pytest.raises(UserError, match="Save it as CSV in UTF-8"):
        read_file(latin)
    marked = tmp_path / "marked.csv"
    marked.write_text("date,up\n2024-01-01,1\n2024-01-02,2\n", encoding="utf-8-sig")
    assert read_file(marked).names == ("up",)
