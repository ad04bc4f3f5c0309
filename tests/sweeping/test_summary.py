from __future__ import annotations

import csv
import io
import itertools
import json
import re
import statistics
from pathlib import Path

import pytest
from sweeps import make_job

from cvkan.sweeping import summary
from cvkan.sweeping.records import FINISHED, write_plan
from cvkan.sweeping.rows import groups, read_rows, short_names
from cvkan.sweeping.watching import Lines, live_table, read_states

ACCURACY = {("mean", 0): 0.5, ("mean", 1): 0.75, ("attention", 0): 0.9, ("attention", 1): 0.7}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two poolings of two seeds, a diverged job, a refused one, and one that waits."""
    for number, ((pooling, seed), value) in enumerate(ACCURACY.items()):
        figures = {"best/val/accuracy": value, "test/accuracy": value - 0.1, "per_layer": [1, 2], "test/loss": None}
        make_job(tmp_path, str(number), "domain=audio", f"pooling={pooling}", f"seed={seed}", figures=figures)
    make_job(tmp_path, "4", "domain=audio", "pooling=max", "seed=0", exit_code=3, error="training diverged | at step 1")
    make_job(tmp_path, "5", "domain=audio", "pooling=max", "seed=-1", exit_code=2, error="seed must be positive")
    write_plan(tmp_path, None, [["domain=audio", "pooling=max", "seed=0"], ["domain=audio", "pooling=max", "seed=3"]])
    return tmp_path


def test_csv_has_a_row_a_job(sweep: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(summary.as_csv(read_rows(sweep)))))
    assert [row["status"] for row in rows] == [*["completed"] * 4, "diverged", "refused", "waiting"]
    assert [row["pooling"] for row in rows] == [*["mean"] * 2, *["attention"] * 2, *["max"] * 3]
    assert [row["best/val/accuracy"] for row in rows] == ["0.5", "0.75", "0.9", "0.7", "", "", ""]
    assert rows[0]["parameters"] == "7319"
    assert rows[4]["error"] == "training diverged | at step 1"


def test_groups_differ_in_more_than_the_seed_and_know_their_best(sweep: Path) -> None:
    table = summary.group_table(read_rows(sweep))
    assert table[0][:5] == ["runs", "pooling", "best job", "test/accuracy", "best/val/accuracy"]
    spread = f"{statistics.mean((0.5, 0.75)):.4f} ± {statistics.stdev((0.5, 0.75)):.4f}"
    assert table[1][:3] == ["2 of 2", "mean", "1"]
    assert table[1][4] == spread
    assert [row[2] for row in table[1:]] == ["1", "2", ""]
    assert table[3][0] == "0 of 3"
    assert summary.best_table(read_rows(sweep))[1] == ["val/accuracy", "2", "pooling=attention seed=0", "0.9"]


def test_best_is_the_smallest_of_a_metric_to_be_minimised(tmp_path: Path) -> None:
    for seed, value in enumerate((3.0, 1.0, 2.0)):
        # No validation score: its twin in the test stands in.
        make_job(tmp_path, str(seed), f"seed={seed}", figures={"test/mse": value}, monitor="val/mse", mode="min")
    (group,) = groups(read_rows(tmp_path))
    assert group.best is not None
    assert group.best.job == "1"


def test_pruned_jobs_are_no_part_of_means_and_nothing_is_left_of_them(tmp_path: Path) -> None:
    make_job(tmp_path, "0", "optimizer.lr=1", "seed=0", figures={"best/val/accuracy": 0.9})
    make_job(tmp_path, "1", "optimizer.lr=1", "seed=1", figures={"best/val/accuracy": 0.1})
    run = tmp_path / "1/run.json"
    run.write_text(json.dumps({**json.loads(run.read_text()), "pruned": "after epoch 1 of 4"}))
    rows = read_rows(tmp_path)
    assert [(row.status, row.error, row.exit_code) for row in rows] == [
        ("completed", None, 0),
        ("pruned", "after epoch 1 of 4", 0),
    ]
    (group,) = groups(rows)
    assert [row.job for row in group.completed] == ["0"]
    assert rows[1].status in FINISHED


def test_domains_are_not_compared(tmp_path: Path) -> None:
    for number, (domain, value) in enumerate([("audio", 0.9), ("image", 0.5)]):
        make_job(tmp_path, str(number), f"domain={domain}", figures={"best/val/accuracy": value})
    assert [row[1] for row in summary.best_table(read_rows(tmp_path))[1:]] == ["0", "1"]


def test_pages_name_what_failed_and_need_no_network(sweep: Path) -> None:
    rows = read_rows(sweep)
    summary.write(sweep, rows)
    markdown, page = ((sweep / f"summary.{kind}").read_text() for kind in ("md", "html"))
    assert "7 jobs: 4 completed" in markdown
    assert "| 4 | diverged | pooling=max seed=0 | training diverged \\| at step 1 |" in markdown
    assert "All: `domain=audio`" in markdown
    assert "training diverged | at step 1" in page
    assert "http" not in page
    assert [row.exit_code for row in rows] == [0, 0, 0, 0, 3, 2, 0]


def test_jobs_that_end_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_job(tmp_path, "0", "seed=0")  # of the sweep that is resumed
    view = Lines(tmp_path)
    make_job(tmp_path, "1", "seed=1")
    make_job(tmp_path, "2", "seed=2", exit_code=2, error="seed is wrong (seed). Mend it.")
    make_job(tmp_path, "3", "seed=3", exit_code=None)
    (tmp_path / "1/metrics.csv").write_text("step,epoch,val/accuracy\n1,0,0.5\n")
    for _ in range(2):
        view.show(read_states(tmp_path, {}), [])
    told = capsys.readouterr()
    assert told.out == "job 1 (seed=1)  completed  val/accuracy 0.5  30 s\n"
    assert told.err == "error: job 2 (seed=2) refused: seed is wrong (seed). Mend it.\n"


def test_live_table_keeps_what_runs_in_sight(tmp_path: Path) -> None:
    from rich.console import Console

    for number in range(30):
        make_job(tmp_path, str(number), f"seed={number}", exit_code=None if number == 17 else 0)
    (tmp_path / "17").mkdir()
    (tmp_path / "17/metrics.csv").write_text("step,epoch,val/accuracy\n1,1,0.5\n")
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(live_table(read_states(tmp_path, {}), [["seed=99"]], height=5))
    lines = console.export_text().splitlines()
    assert lines[0].startswith("1 running, 29 completed, 1 waiting")
    header, _, *rows = [line.split() for line in lines[2:] if line.strip()]
    assert header == ["job", "seed", "status", "epoch", "val/accuracy", "time"]
    assert rows[0][:5] == ["17", "17", "running", "2/4", "0.5"]
    assert rows[0][-2:] == ["to", "go"]
    assert len(rows) == 5


def test_tables_of_four_choices_fit_eighty_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    monkeypatch.setenv("COLUMNS", "80")
    choices = itertools.product(("0.001", "0.002"), ("none", "pre_rms"), ("[mean,local]", "mean"), ("0", "1"))
    for number, (rate, norm, aggregation, seed) in enumerate(choices):
        typed = ["domain=image", f"optimizer.lr={rate}", f"norm={norm}", f"aggregation={aggregation}", f"seed={seed}"]
        make_job(tmp_path, str(number), *typed, figures={"best/val/accuracy": 0.1, "test/accuracy": 0.2})
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(live_table(read_states(tmp_path, {}), [], height=20))
    live = console.export_text()
    summary.print_summary(tmp_path, read_rows(tmp_path))
    final = capsys.readouterr().out
    for table in (live, final):
        assert all(len(line) <= 80 for line in table.splitlines()[:-1])  # the last names a long folder
        assert "…" not in table
        assert "[mean,local]" in table  # and is no markup
        assert "image" not in table
        assert re.search(r"lr +norm +aggregation", table)
    assert "2 of 2 runs each" in final


def test_short_names_tell_keys_apart() -> None:
    keys = ["optimizer.lr", "model.dropout", "domain.cvkan.dropout", "seed", "+data.x", "a.model.dropout"]
    names = ["lr", "model.dropout", "cvkan.dropout", "seed", "x", "a.model.dropout"]
    assert list(short_names(keys).values()) == names


def test_outdated_jobs_are_no_part_of_means_and_nothing_is_left_of_them(tmp_path: Path) -> None:
    for folder, value in (("0", 0.1), ("0_ab", 0.9)):
        make_job(tmp_path, folder, "seed=0", figures={"best/val/accuracy": value}, outdated=folder == "0")
    make_job(tmp_path, "1", "seed=1", exit_code=3, outdated=True)
    write_plan(tmp_path, None, [["seed=0"], ["seed=1"]])
    rows = read_rows(tmp_path)
    assert [(row.job, row.status) for row in rows] == [
        *[("0", "outdated"), ("0_ab", "completed"), ("1", "outdated"), ("", "waiting")]
    ]
    assert [row.exit_code for row in rows] == [0] * 4
    (group,) = groups(rows)
    assert [row.job for row in group.rows] == ["0_ab", ""]
    assert summary.best_table(rows)[1][1] == "0_ab"
