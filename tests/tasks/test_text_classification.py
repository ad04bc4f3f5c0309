"""The task of sentences: what starts from the training part, and what is shown of words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module

from cvkan import build
from cvkan.cli import resolvers
from cvkan.domains.datamodule import DataModule
from cvkan.spec import Batch
from cvkan.tasks.text_classification import N_EXAMPLES, TextClassificationTask

TINY = ["domain.cvkan.d_complex=4", "domain.cvkan.n_layers=2", "domain.cvkan.n_heads=2"]
SMALL = ["data.n_train=200", "data.n_val=40", "data.n_test=60", "data.batch_size=32"]


def built(*overrides: str) -> tuple[TextClassificationTask, DataModule]:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        cfg = compose("train", overrides=["domain=text", *TINY, *SMALL, *overrides])
    data = build.build_data(cfg)
    data.prepare_data()
    data.setup()
    task = build.build_task(cfg, data)
    assert isinstance(task, TextClassificationTask)
    task.log = task.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]  # no trainer to log to
    return task.eval(), data


def seen_by(task: TextClassificationTask, data: DataModule) -> list[Batch]:
    """The test as the trainer runs it; the batches that the network saw."""
    batches = [data.preprocess(batch) for batch in data.test_dataloader()]
    task.on_test_start()
    with torch.no_grad():
        for i, batch in enumerate(batches):
            task.test_step(batch, i)
    return batches


@pytest.fixture(scope="module")
def run() -> tuple[TextClassificationTask, list[Batch]]:
    torch.manual_seed(0)
    task, data = built()
    task.before_fit(data)
    return task, seen_by(task, data)


def test_the_bag_of_words_starts_from_all_training_sentences() -> None:
    task, data = built()
    assert (task.model.skip.start_weight == 0).all()
    task.before_fit(data)
    x, y = (data.splits["train"].tensors[name] for name in "xy")
    expected = torch.stack([((x == 5).any(dim=1) & (y == k)).sum() + 1.0 for k in (0, 1)])
    n_words = len(data.spec.vocabulary) - 1
    totals = [sum(len(set(row.tolist()) - {0}) for row in x[y == k]) + n_words for k in (0, 1)]
    log_p = (expected / torch.tensor(totals)).log()
    torch.testing.assert_close(task.model.skip.start_weight[5], log_p - log_p.mean())


def test_examples_are_those_the_network_was_most_sure_of(run: tuple[TextClassificationTask, list[Batch]]) -> None:
    task, batches = run
    rows = task.results()["examples"]
    wrong = [row for row in rows if row["true"] != row["predicted"]]
    assert rows == [*wrong, *(row for row in rows if row not in wrong)]
    for part in (wrong, rows[len(wrong) :]):
        assert 0 < len(part) <= N_EXAMPLES
        assert [row["probability"] for row in part] == sorted((row["probability"] for row in part), reverse=True)
    with torch.no_grad():
        p = torch.cat([task.model(batch["x"], batch["mask"]).softmax(dim=1) for batch in batches])
    y = torch.cat([batch["y"] for batch in batches])
    sure, given = p.max(dim=1)
    assert wrong[0]["probability"] == pytest.approx(float(sure[given != y].max()), abs=1e-6)
    json.dumps(rows)


def test_pictures_show_the_words_of_the_first_sentences(run: tuple[TextClassificationTask, list[Batch]]) -> None:
    task, batches = run
    figures = task.figures()
    assert set(figures) == {"polarization", "polarization_layers", "confusion_matrix", "words_behind"}
    words = [text.get_text() for text in figures["polarization"].axes[0].texts]
    ids = batches[0]["x"][0][batches[0]["mask"][0].bool()]
    assert words[: len(ids)] == [task.spec.vocabulary[i] for i in ids.tolist()]


def test_a_network_without_complex_tokens_shows_no_gains() -> None:
    task, data = built("model=dan", "model.d_model=8", "model.d_hidden=8")
    seen_by(task, data)
    assert set(task.figures()) == {"confusion_matrix"}
    assert task.results()["examples"]


def test_without_the_leading_words_nothing_is_said_of_them() -> None:
    task, data = built("task.leading=[nowhere]")
    seen_by(task, data)
    assert "words_behind" not in task.figures()


@pytest.mark.slow
def test_a_run_leaves_examples_and_pictures(train_here: Callable[..., Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train_here("domain=text", *TINY, *SMALL, "trainer.max_epochs=1", f"output_dir={run}")
    assert result.code == 0, result.err
    assert json.loads((run / "metrics.json").read_text())["examples"]
    names = {path.name for path in (run / "plots").glob("*.png")}
    assert {"polarization.png", "words_behind.png", "confusion_matrix.png"} <= names
    assert "examples" in (run / "report.html").read_text()
