from __future__ import annotations

import csv
from pathlib import Path

from cvkan.callbacks.history import MetricsCSV


def rows(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_rows_appear_when_saved_and_new_metrics_widen_the_table(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"train/loss": 0.5, "epoch": 0}, step=0)
    assert not logger.path.exists()
    logger.save()
    logger.log_metrics({"train/loss": 0.25, "epoch": 0}, step=1)
    logger.save()
    assert logger.path.read_text().splitlines() == ["step,epoch,train/loss", "0,0,0.5", "1,0,0.25"]
    logger.log_metrics({"val/loss": 0.75, "epoch": 0}, step=1)
    logger.finalize("success")
    assert rows(logger.path)[2] == {"step": "1", "epoch": "0", "train/loss": "", "val/loss": "0.75"}
    assert rows(logger.path)[0] == {"step": "0", "epoch": "0", "train/loss": "0.5", "val/loss": ""}


def test_an_existing_file_is_continued(tmp_path: Path) -> None:
    for step in range(2):
        logger = MetricsCSV(tmp_path / "metrics.csv")
        logger.log_metrics({"epoch": step}, step=step)
        logger.save()
    assert [row["step"] for row in rows(logger.path)] == ["0", "1"]
