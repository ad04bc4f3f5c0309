"""Comparison networks of sentences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvkan.models.baselines.bilstm import BiLSTM
from cvkan.models.baselines.dan import DAN
from cvkan.models.baselines.text_transformer import TextTransformer
from cvkan.models.baselines.textcnn import TextCNN
from cvkan.models.embedding import TokenEmbedding
from cvkan.models.heads import LinearHead
from cvkan.spec import Spec

SPEC = Spec((12,), "classes", 3, vocabulary=("", "<unk>", *map(str, range(20))))
PARTS = {"embedding": partial(TokenEmbedding, dropout=0.3), "head": LinearHead}
Build = Callable[..., nn.Module]


def dan(spec: Spec = SPEC, **change: object) -> nn.Module:
    return DAN(spec, **{"d_model": 8, "d_hidden": 6, "n_layers": 2, "dropout": 0.3, **PARTS, **change})


def textcnn(spec: Spec = SPEC, **change: object) -> nn.Module:
    return TextCNN(spec, **{"d_model": 8, "n_filters": 5, "widths": [2, 3], "dropout": 0.3, **PARTS, **change})


def bilstm(spec: Spec = SPEC, **change: object) -> nn.Module:
    return BiLSTM(spec, **{"d_model": 8, "d_hidden": 6, "n_layers": 2, "dropout": 0.3, **PARTS, **change})


def transformer(spec: Spec = SPEC, **change: object) -> nn.Module:
    sizes = {"d_model": 8, "n_layers": 2, "n_heads": 2, "expansion": 2.0, "dropout": 0.3}
    return TextTransformer(spec, **{**sizes, **PARTS, **change})


ALL = [dan, textcnn, bilstm, transformer]


def sentences() -> tuple[Tensor, Tensor]:
    """Ids (4, 9) and mask of sentences of 9, 1, 4 and 9 words."""
    x = torch.randint(2, 22, (4, 9), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(9) < torch.tensor([[9], [1], [4], [9]])).float()
    return x * mask.long(), mask


@pytest.mark.parametrize("build", ALL)
def test_every_parameter_learns(build: Build) -> None:
    torch.manual_seed(0)
    model, (x, mask) = build(), sentences()
    logits = model(x, mask)
    assert logits.shape == (4, 3)
    gradients = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([0, 1, 2, 0])), list(model.parameters()))
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in gradients)


@pytest.mark.parametrize("build", ALL)
def test_neither_padding_nor_other_sentences_change_an_answer(build: Build) -> None:
    torch.manual_seed(0)
    model, (x, mask) = build().eval(), sentences()
    together = model(x, mask)
    dirty = model(torch.where(mask.bool(), x, 7), mask)
    torch.testing.assert_close(dirty, together)
    for i, length in enumerate((9, 1, 4, 9)):
        torch.testing.assert_close(model(x[i : i + 1, :length])[0], together[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", ALL)
def test_only_the_averaging_network_ignores_the_order(build: Build) -> None:
    torch.manual_seed(0)
    model, (x, _) = build().eval(), sentences()
    same = torch.allclose(model(x[:1]), model(x[:1].flip(1)), rtol=1e-4, atol=1e-5)
    assert same == (build is dan)


def test_filters_give_their_strongest_answer_over_all_windows() -> None:
    torch.manual_seed(0)
    model, (x, _) = textcnn(dropout=0.0, widths=[3]).eval(), sentences()
    words = model.words.embedding.table.weight[x[0]]  # (9, 8)
    weight, bias = model.filters[0].weight, model.filters[0].bias
    around = F.pad(words, (0, 0, 2, 2))  # (13, 8)
    answers = torch.stack([(weight * around[i : i + 3].T).sum(dim=(1, 2)) + bias for i in range(11)])
    expected = model.head(answers.relu().amax(dim=0))
    torch.testing.assert_close(model(x[:1])[0], expected)


def test_an_lstm_reads_the_words_of_a_sentence_in_both_directions() -> None:
    torch.manual_seed(0)
    model, (x, mask) = bilstm(n_layers=1, dropout=0.0).eval(), sentences()
    words = model.words.embedding.table.weight[x[2, :4]]
    states, _ = model.lstm(words[None])
    torch.testing.assert_close(model(x, mask)[2], model.head(states.mean(dim=1))[0])


@pytest.mark.parametrize("build", ALL)
@pytest.mark.parametrize(
    ("spec", "change", "message"),
    [
        (Spec((12,), "classes", 3), {}, r"model=\w+ needs ids of words"),
        (Spec((12,), "token_mask", 1, vocabulary=("", "a")), {}, "one output a sample, the data asks for one a token"),
        (SPEC, {"d_model": 7}, "d_model must be even and positive"),
    ],
)
def test_other_data_and_odd_widths_are_refused(build: Build, spec: Spec, change: dict[str, int], message: str) -> None:
    change = {**change, **({"n_heads": 1} if build is transformer else {})}
    with pytest.raises(ValueError, match=message):
        build(spec, **change)


@pytest.mark.parametrize(
    ("build", "change", "message"),
    [
        (dan, {"n_layers": 0}, r"n_layers must be at least 1, got 0; set model\.n_layers"),
        (bilstm, {"d_hidden": 0}, "d_hidden must be at least 1"),
        (textcnn, {"widths": []}, r"widths must be positive numbers of words, got \[\]"),
        (textcnn, {"n_filters": 0}, "n_filters must be at least 1"),
        (transformer, {"n_heads": 3}, "n_heads must divide d_model"),
    ],
)
def test_sizes_out_of_range_are_refused(build: Build, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**change)
