"""Gradients of all kinds of parameters are of one order at the start (docs/research_log.md)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

import pytest
import torch
from hydra import compose, initialize_config_module

from cvkan import build
from cvkan.cli import resolvers

SMALL = {
    "image": [],
    "audio": ["data.n_train=256", "data.n_val=16", "data.n_test=16"],
    "synthetic": ["data.n_train=256", "data.n_val=16", "data.n_test=16"],
}
# The first that matches a parameter's name is its kind; a factor, gain or bias is a number a channel, head or token.
KINDS = {
    "psi": r"\.psi\w*\.",
    "phi": r"\.phi\.",
    "factors": r"norm\.|scale\.|agreement|\.tau$|layers\.\d\.(1|4)\.|level_norm",
    "offsets": r"bias$|position\.|\.level",
    "matrices": r"weight",
}


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        yield


def kind_of(name: str) -> str:
    return next(kind for kind, pattern in KINDS.items() if re.search(pattern, name))


@pytest.mark.slow
@pytest.mark.parametrize("domain", SMALL)
def test_no_kind_of_parameter_has_thirty_times_the_gradient_of_another(domain: str) -> None:
    cfg = compose("train", overrides=[f"domain={domain}", *SMALL[domain]])
    squares: dict[str, float] = defaultdict(float)
    numbers: dict[str, int] = defaultdict(int)
    for seed in range(3):
        torch.manual_seed(seed)
        data = build.build_data(cfg)
        data.prepare_data()
        data.setup()
        task = build.build_task(cfg, data).train()
        batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
        task.loss_and_logits(batch)[0].backward()
        for name, parameter in task.model.named_parameters():
            assert parameter.grad is not None, name
            squares[kind_of(name)] += float(parameter.grad.square().sum())
            numbers[kind_of(name)] += parameter.numel()
    rms = {kind: (squares[kind] / numbers[kind]) ** 0.5 for kind in squares}  # number by number
    assert rms.keys() == KINDS.keys()
    assert max(rms.values()) < 30 * min(rms.values()), rms
    norm = {kind: squares[kind] ** 0.5 for kind in squares}  # of a kind as a whole
    assert max(norm.values()) < 30 * min(norm.values()), norm
