from __future__ import annotations

import csv
import math
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path

import pytest
import reference
import torch
from cases import N_TOKENS, D, assert_same, gaussian, planes_of, ragged_mask
from conftest import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cvkan.core import regularizers as reg
from cvkan.core.aggregation import AgreementAggregation
from cvkan.core.polarizing import PolarBlock
from cvkan.core.pooling import MeanPooling, NoPooling, Readout
from cvkan.core.position import NoPosition
from cvkan.core.regularizers import Regularizer
from cvkan.models.cvkan import CVKAN
from cvkan.models.embedding import IdentityEmbedding
from cvkan.spec import Spec
from cvkan.tasks.base import Task
from cvkan.tasks.classification import ClassificationTask
from cvkan.tasks.token_selection import TokenSelectionTask

Reference = Callable[[Tensor, Tensor], Tensor]
LABELS = torch.tensor([1, 0, 1, 2, 0])  # class 2 has one sample
MASKS = pytest.mark.parametrize("mask", [None, ragged_mask(5)], ids=["full", "ragged"])


def diversity(z: Tensor, valid: Tensor) -> Tensor:
    u = reference.unit(z)[valid]  # (M, D)
    pairs = [(u[:, i] * u[:, j].conj()).mean().abs() ** 2 for i, j in combinations(range(D), 2)]
    return torch.stack(pairs).mean()


def anchor(z: Tensor, valid: Tensor, n: int) -> Tensor:
    u = reference.unit(z)[valid]
    return ((1 - u.abs() ** n * torch.cos(n * u.angle())) / 2).mean()


def sparsity(z: Tensor, valid: Tensor, measure: str) -> Tensor:
    values = []
    for sample, rows in zip(z, valid, strict=True):
        r = reference.radius(sample[rows]).mean(dim=1)
        if len(r) < 2:
            continue
        p = r / r.sum()
        entropy = -(p * torch.log(p)).sum() / math.log(len(r))
        hoyer = 1 - (math.sqrt(len(r)) - r.sum() / r.norm()) / (math.sqrt(len(r)) - 1)
        values.append(hoyer if measure == "hoyer" else entropy)
    return torch.stack(values).mean()


def coherence(z: Tensor, valid: Tensor) -> Tensor:
    u = reference.unit(torch.stack([sample[rows].mean(dim=0) for sample, rows in zip(z, valid, strict=True)]))
    return torch.stack([1 - reference.radius(u[LABELS.eq(k)].mean(dim=0)).mean() for k in (0, 1)]).mean()


CASES: dict[str, tuple[Regularizer, Reference]] = {
    "diversity": (reg.DiversityRegularizer(0.01), diversity),
    "anchor1": (reg.AnchorRegularizer(0.01, n=1), partial(anchor, n=1)),
    "anchor4": (reg.AnchorRegularizer(0.01, n=4), partial(anchor, n=4)),
    "hoyer": (reg.SparsityRegularizer(0.01), partial(sparsity, measure="hoyer")),
    "entropy": (reg.SparsityRegularizer(0.01, measure="entropy"), partial(sparsity, measure="entropy")),
    "coherence": (reg.CoherenceRegularizer(0.01), coherence),
}
ALL = pytest.mark.parametrize("name", list(CASES))


@MASKS
@ALL
def test_value_and_gradient_equal_the_reference(name: str, mask: Tensor | None) -> None:
    module, theirs = CASES[name]
    valid = torch.ones(5, N_TOKENS, dtype=torch.bool) if mask is None else mask
    z = gaussian(5, N_TOKENS, D) + 0.5
    assert_same(lambda planes: module(planes, mask, LABELS), lambda z: theirs(z, valid), z, module)


@ALL
@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
def test_padded_tokens_change_nothing_forward_or_backward(name: str, poison: float) -> None:
    module, mask = CASES[name][0], ragged_mask(5)
    z = gaussian(5, N_TOKENS, D)
    dirty = z.clone()
    dirty[~mask] = complex(-poison, poison)
    results = []
    for x in (z, dirty):
        planes = [plane.requires_grad_() for plane in planes_of(x)]
        value = module(tuple(planes), mask, LABELS)
        results.append([value, *torch.autograd.grad(value, planes)])
    for clean, other in zip(*results, strict=True):
        assert torch.equal(clean, other)
        assert clean.isfinite().all()


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(list(CASES)),
    exponent=st.integers(-12, 6),
    n_silent=st.integers(0, N_TOKENS),
    n_tokens=st.sampled_from([1, N_TOKENS]),
    d_complex=st.sampled_from([1, D]),
    n_padded_samples=st.integers(0, 5),
    autocast=st.booleans(),
)
def test_value_lies_in_the_unit_interval_and_gradients_are_finite(
    name: str, exponent: int, n_silent: int, n_tokens: int, d_complex: int, n_padded_samples: int, autocast: bool
) -> None:
    z = gaussian(5, n_tokens, d_complex, scale=10.0**exponent)
    z[:, :n_silent] = 0
    mask = ragged_mask(5)[:, :n_tokens]
    mask[:n_padded_samples] = False
    planes = [plane.float().requires_grad_() for plane in planes_of(z)]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value = CASES[name][0](tuple(planes), mask, LABELS)
    assert value.dtype == torch.float32
    assert -1e-5 <= value.item() <= 1 + 1e-5
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value, planes))


@ALL
def test_autocast_changes_nothing(name: str) -> None:
    module, z = CASES[name][0], gaussian(5, N_TOKENS, D).to(torch.complex64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = module(z, None, LABELS)
    assert torch.equal(value, module(z, None, LABELS))


def test_diversity_is_one_for_equal_channels_and_zero_for_orthogonal_ones() -> None:
    turn = torch.exp(2j * math.pi * torch.arange(N_TOKENS) / N_TOKENS)[None, :, None]
    together = turn * torch.exp(1j * torch.arange(D))  # a constant between channels does not count
    apart = turn ** torch.arange(1, D + 1)
    module = reg.DiversityRegularizer(1.0)
    assert module(1e3 * together).item() == pytest.approx(1, abs=1e-5)
    assert module(1e3 * apart).item() == pytest.approx(0, abs=1e-5)
    assert module(together[..., :1]).item() == 0


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_anchor_is_zero_at_the_roots_of_unity_and_one_between_them(n: int) -> None:
    roots = 1e3 * torch.exp(2j * math.pi * torch.arange(12) / n)[None, :, None]
    between = roots * complex(math.cos(math.pi / n), math.sin(math.pi / n))
    assert reg.AnchorRegularizer(1.0, n=n)(roots).item() == pytest.approx(0, abs=1e-5)
    assert reg.AnchorRegularizer(1.0, n=n)(between).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("measure", ["hoyer", "entropy"])
def test_sparsity_is_one_for_equal_tokens_and_zero_for_a_single_loud_one(measure: str) -> None:
    module, phases = reg.SparsityRegularizer(1.0, measure), torch.exp(1j * gaussian(2, 16, D).real)
    single = phases * torch.where(torch.arange(16) == 5, 1e5, 0.0)[:, None]
    half = phases * torch.where(torch.arange(16) < 4, 1e5, 0.0)[:, None]
    assert module(phases).item() == pytest.approx(1, abs=1e-5)
    assert module(single).item() == pytest.approx(0, abs=1e-4)
    expected = (math.sqrt(4) - 1) / (math.sqrt(16) - 1) if measure == "hoyer" else math.log(4) / math.log(16)
    assert module(half).item() == pytest.approx(expected, abs=1e-4)


def test_coherence_is_zero_for_classes_with_a_phase_of_their_own_and_one_for_opposite_samples() -> None:
    module = reg.CoherenceRegularizer(1.0)
    own = 1e3 * torch.exp(1j * LABELS)[:, None, None].expand(5, N_TOKENS, D)
    opposite = own * torch.tensor([1, 1, -1, 1, -1])[:, None, None]
    assert module(own, None, LABELS).item() == pytest.approx(0, abs=1e-5)
    assert module(opposite, None, LABELS).item() == pytest.approx(1, abs=2e-3)
    assert module(opposite, None, torch.arange(5)).item() == 0  # one sample a class


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: reg.DiversityRegularizer(-0.1), "must not be negative, got -0.1; set 0.01"),
        (lambda: reg.AnchorRegularizer(math.nan), "must not be negative, got nan"),
        (lambda: reg.AnchorRegularizer(0.1, n=0), "n must be at least 1, got 0; set"),
        (lambda: reg.SparsityRegularizer(0.1, "gini"), "measure must be 'hoyer' or 'entropy', got 'gini'; set"),
        (
            lambda: reg.CoherenceRegularizer(0.1)(gaussian(2, 3, D), None, torch.zeros(2, 3)),
            r"one label a sample \(B,\), got targets of shape \(2, 3\); set regularizer=none",
        ),
        (lambda: reg.CoherenceRegularizer(0.1)(gaussian(2, 3, D)), r"one label a sample \(B,\), got none; set"),
    ],
)
def test_impossible_choices_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


class Linear(nn.Module):
    """A model without complex tokens."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x.real.mean(dim=1)


def make_task(regularizers: dict[str, Regularizer], per_token: bool = False, model: nn.Module | None = None) -> Task:
    torch.manual_seed(0)
    spec = Spec((N_TOKENS, D), "token_mask" if per_token else "classes", 1 if per_token else 3, is_complex=True)
    network = CVKAN(
        spec,
        d_complex=D,
        n_layers=1,
        n_heads=2,
        embedding=IdentityEmbedding,
        position=NoPosition,
        block=partial(PolarBlock, aggregations={"agreement": AgreementAggregation}),
        pooling=NoPooling if per_token else MeanPooling,
        readout=Readout("all"),
        dropout=0.0,
    )
    schedule = partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: 1.0)
    kind = TokenSelectionTask if per_token else ClassificationTask
    loss = nn.BCEWithLogitsLoss() if per_token else nn.CrossEntropyLoss()
    task = kind(spec, model or network, loss, torch.optim.SGD, schedule, None, regularizers)
    task.logged = {}
    task.log = lambda name, value, **options: task.logged.update({name: value})  # there is no trainer to log to
    return task


def a_batch(per_token: bool = False) -> dict[str, Tensor]:
    x = gaussian(5, N_TOKENS, D).to(torch.complex64)
    y = (torch.arange(5 * N_TOKENS).view(5, N_TOKENS) % 3 == 0).float() if per_token else LABELS
    return {"x": x, "y": y, "mask": ragged_mask(5)}


@pytest.mark.parametrize(
    ("name", "per_token"), [*((name, False) for name in CASES), ("diversity", True), ("hoyer", True)]
)
def test_training_adds_weight_times_value_to_the_loss_and_evaluation_does_not(name: str, per_token: bool) -> None:
    kind, batch = CASES[name][0], a_batch(per_token)
    plain, task = make_task({}, per_token), make_task({"one": kind, "two": kind}, per_token)
    parts, whole = plain.training_step(batch, 0), task.training_step(batch, 0)
    _, z, mask = task.model(batch["x"], batch["mask"], return_tokens=True)
    value = kind(z, mask, batch["y"])
    torch.testing.assert_close(whole, parts + 2 * 0.01 * value)
    torch.testing.assert_close(task.logged, {"train/loss": parts, "train/one": value, "train/two": value})
    assert plain.logged.keys() == {"train/loss"}
    assert torch.equal(task.loss_and_logits(batch)[0], plain.loss_and_logits(batch)[0])
    moved = [
        not torch.allclose(mine, other, rtol=1e-5, atol=1e-8)
        for mine, other in zip(
            torch.autograd.grad(whole, list(task.model.backbone.parameters())),
            torch.autograd.grad(parts, list(plain.model.backbone.parameters())),
            strict=True,
        )
    ]
    assert sum(moved) > 0.5 * len(moved)


def test_regularizers_need_complex_tokens() -> None:
    with pytest.raises(ValueError, match=r"regularizer=\[a,b\] acts on .*, Linear has none; set regularizer=none or"):
        make_task({"a": CASES["diversity"][0], "b": CASES["hoyer"][0]}, model=Linear())


def test_coherence_needs_classes() -> None:
    with pytest.raises(ValueError, match=r"regularizer=coherence compares .* kind 'token_mask'; set regularizer=none"):
        make_task({"coherence": CASES["coherence"][0]}, per_token=True)


@pytest.mark.slow
def test_a_run_logs_every_regularizer(train_here: Callable[..., Result]) -> None:
    small = ("data.limit_train=64", "trainer.max_epochs=1")
    result = train_here(*small, "regularizer=[diversity,sparsity]", "output_dir=run")
    assert result.code == 0, result.err
    with open("run/metrics.csv", newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert 0 < float(row["train/diversity"]) < 1
    assert 0 < float(row["train/sparsity"]) < 1
    assert {name for name in row if name.startswith("train/")} == {"train/loss", "train/diversity", "train/sparsity"}

    assert train_here(*small, "output_dir=plain").code == 0
    header = Path("plain/metrics.csv").read_text().splitlines()[0]
    assert "diversity" not in header


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["model=convnet", "regularizer=diversity"], "ConvNet has none (task). Set regularizer=none or model=cvkan."),
        (["domain=synthetic", "regularizer=coherence"], "'token_mask' (task). Set regularizer=none."),
        (["regularizer=anchor", "regularizer.anchor.n=0"], "(regularizer.anchor). Set the number of anchors"),
    ],
)
def test_faults_are_named_in_one_line(train_here: Callable[..., Result], typed: list[str], said: str) -> None:
    result = train_here(*typed)
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert said in result.err
