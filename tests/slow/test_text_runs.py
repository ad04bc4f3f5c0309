"""Whole runs on sentences: the vocabulary is saved with the model, and only the same one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cvkan.api import composed
from cvkan.build import build_data
from cvkan.data_facts import check_data
from cvkan.domains.datamodule import DataModule
from cvkan.errors import UserError

SMALL = ("model.d_complex=8", "model.n_layers=1", "model.n_heads=2", "trainer.max_epochs=1", "output_dir=run")

pytestmark = pytest.mark.slow


def reviews(good: str) -> str:
    """Sixty sentences of two classes, as CSV."""
    rows = [f"film {number} is {'dull' if number % 2 else good},{number % 2}" for number in range(60)]
    return "\n".join(["text,label", *rows])


def source(table: Path) -> DataModule:
    """The table as ``data=text_csv`` reads it."""
    data = build_data(composed(["domain=text", "data=text_csv", f"data.path={table}"]))
    data.setup()
    return data


def test_vocabulary_is_in_the_checkpoint_and_another_one_is_refused(
    train_here: Callable[..., Any], tmp_path: Path
) -> None:
    table = tmp_path / "reviews.csv"
    table.write_text(reviews("good"))
    trained = train_here("domain=text", "data=text_csv", f"data.path={table}", *SMALL)
    assert trained.code == 0, trained.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"test/accuracy", "baseline/majority_accuracy", "baseline/bag_of_words_accuracy"} <= set(metrics)
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    vocabulary = checkpoint["cvkan"]["data"]["vocabulary"]
    assert vocabulary[:2] == ["", "<unk>"]
    assert {"film", "is", "dull", "good"} <= set(vocabulary)
    check_data(checkpoint, source(table), nn.Identity(), "last.ckpt")
    table.write_text(reviews("best"))
    with pytest.raises(UserError, match=r"the checkpoint is of other data: vocabulary\[\d+\] is .* and best here"):
        check_data(checkpoint, source(table), nn.Identity(), "last.ckpt")


def test_grammar_is_the_default_and_takes_a_bag_of_words_as_a_bar(
    train_here: Callable[..., Any], tmp_path: Path
) -> None:
    sizes = ("data.n_train=600", "data.n_val=100", "data.n_test=400")
    trained = train_here("domain=text", *sizes, *SMALL)
    assert trained.code == 0, trained.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["baseline/bag_of_words_accuracy"] < 0.65


def test_a_faulty_table_is_one_line_and_exit_code_2(train_here: Callable[..., Any], tmp_path: Path) -> None:
    table = tmp_path / "reviews.csv"
    table.write_text(reviews("good") + "\n,1\n")
    refused = train_here("domain=text", "data=text_csv", f"data.path={table}", *SMALL)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "error: the cell of column 'text' is empty" in refused.err
    assert "line 62" in refused.err
