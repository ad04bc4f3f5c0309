"""The default network keeps something of poems that it has never seen, on a small budget."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_default_network_is_above_the_constant_and_uses_its_code(train_here: Callable, tmp_path: Path) -> None:
    ended = train_here("domain=poetry", "trainer.max_epochs=8", "output_dir=run")
    assert ended.code == 0, ended.err
    figures = json.loads((tmp_path / "run/metrics.json").read_text())
    found = figures["test/token_cosine"]
    assert found > figures["baseline/mean_vector_cosine"] + 0.03
    assert found > figures["ablation/z_shuffled_token_cosine"] + 0.015
    assert figures["train_eval/token_cosine"] > figures["baseline/mean_vector_cosine"] + 0.03
    assert figures["compression"] == 937.5
