"""What a run prints and puts on its page where its metrics hold tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvkan import report
from cvkan.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run with 26 SNRs, two classes and a confusion matrix."""
    run = RunDirectory(tmp_path / "run")
    levels = [{"snr_db": 2.0 * k - 20, "modulation_accuracy": k / 30, "count": 1000 + k} for k in range(26)]
    metrics = {
        "test/eta": None,
        "test/loss": 0.51234567,
        "per_snr": levels,
        "per_class": [{"class": "BPSK", "f1": 0.25}, {"class": "<b>", "f1": None}],
        "per_layer_recovery": [0.5, 0.75],
        "confusion_snr": [[1234, 5678], [4321, 8765]],
    }
    run.write_json("metrics.json", metrics)
    run.write_config({"seed": 0})
    run.start({})
    run.finish("completed", None, {"parameters": 5, "fit_seconds": 1.0, "samples_per_second": 2.0})
    return run


def test_the_result_table_holds_figures_and_no_tables(run: RunDirectory) -> None:
    rows = dict(report.rows(run))
    assert rows["test/eta"] == "none"
    assert rows["test/loss"] == "0.5123"
    assert rows["per_layer_recovery"] == "[0.5, 0.75]"
    assert not {"per_snr", "per_class", "confusion_snr"} & rows.keys()


def test_accuracy_over_snr_is_printed_within_80_columns(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    report.print_table(run)
    out = capsys.readouterr().out
    table = out[out.index("per_snr") :].split("run directory:")[0].splitlines()
    assert table[0].strip() == "per_snr (9 of 26; metrics.json has all)"
    rows = {words[0]: words[1:] for words in map(str.split, table[2:])}
    assert rows["snr_db"] == ["-20", "-14", "-8", "-2", "4", "10", "16", "22", "28"]
    assert rows["modulation_accuracy"] == ["0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8"]
    assert max(map(len, table)) <= 80


def test_the_page_holds_every_row_and_no_markup_of_the_data(run: RunDirectory) -> None:
    page = report.page(run)
    assert all(f"<td>{1000 + k}</td>" in page for k in range(26))
    assert "<th>modulation accuracy</th>" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert "8765" not in page  # the picture shows it
