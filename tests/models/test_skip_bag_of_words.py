"""The bag of words beside a network: it starts as naive Bayes, and knows no order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.naive_bayes import MultinomialNB
from torch import Tensor

from cvkan.models.skip_bag_of_words import BagOfWordsSkip, different_words
from cvkan.spec import Batch, Spec

N_WORDS, N_CLASSES = 12, 3
SPEC = Spec((7,), "classes", N_CLASSES, vocabulary=("", "<unk>", *map(str, range(N_WORDS - 2))))


def skip(start: str = "naive_bayes", smoothing: float = 0.7) -> BagOfWordsSkip:
    return BagOfWordsSkip(SPEC, start=start, smoothing=smoothing, scale=1.0, rate=0.5)


def training(seed: int = 0, n: int = 40) -> Batch:
    """Samples with repeated words and padding; together they have every word but the padding."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(1, N_WORDS, (n, 7), generator=generator)
    length = torch.randint(1, 8, (n, 1), generator=generator)
    length[:2] = 7
    x[0], x[1] = torch.arange(1, 8), torch.arange(N_WORDS - 7, N_WORDS)
    mask = (torch.arange(7) < length).float()
    y = torch.randint(N_CLASSES, (n,), generator=generator)
    y[:N_CLASSES] = torch.arange(N_CLASSES)  # the reference knows no class without samples
    return {"x": x * mask.long(), "mask": mask, "y": y}


def presence(x: Tensor) -> Tensor:
    """(B, V) 1 where a sample has the word."""
    return torch.zeros(len(x), N_WORDS).scatter(1, x, 1.0)[:, 1:]


@given(st.integers(0, 1000), st.floats(0.1, 3.0))
def test_it_starts_as_binarised_naive_bayes(seed: int, smoothing: float) -> None:
    train = training(seed)
    model = skip(smoothing=smoothing)
    model.start_from(train)
    shares = (train["y"].bincount(minlength=N_CLASSES) + smoothing).numpy()
    reference = MultinomialNB(alpha=smoothing, class_prior=shares / shares.sum())
    reference.fit(presence(train["x"]).numpy(), train["y"].numpy())
    found = model(torch.zeros(40, N_CLASSES), train["x"], train["mask"]).log_softmax(dim=1)
    expected = reference.predict_log_proba(presence(train["x"]).numpy())
    torch.testing.assert_close(found.detach(), torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-4)


def test_words_that_no_training_sample_has_say_nothing() -> None:
    train = training()
    train["x"] = train["x"].masked_fill(train["x"] == 5, 6)
    model = skip()
    model.start_from(train)
    assert (model.start_weight[5] == 0).all()
    assert (model.start_weight[6] != 0).all()


def test_order_repetition_and_padding_play_no_part() -> None:
    model = skip()
    model.start_from(training())
    zeros = torch.zeros(1, N_CLASSES)
    expected = model(zeros, torch.tensor([[3, 4, 9]]))
    for x, mask in (([[9, 3, 4]], None), ([[3, 9, 3, 4, 9]], None), ([[3, 4, 9, 2, 0]], [[1.0, 1.0, 1.0, 0.0, 0.0]])):
        found = model(zeros, torch.tensor(x), None if mask is None else torch.tensor(mask))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("start", ["naive_bayes", "zero"])
def test_it_adds_to_the_logits_and_learns(start: str) -> None:
    model, logits, train = skip(start), torch.randn(40, N_CLASSES), training()
    assert torch.equal(model(logits, train["x"], train["mask"]), logits)  # not started yet
    model.start_from(train)
    found = model(logits, train["x"], train["mask"])
    assert torch.equal(found, logits) == (start == "zero")
    gradient = torch.autograd.grad(found.square().sum(), model.weight)[0]
    assert (gradient[0] == 0).all()  # the padding has no say
    assert (gradient[1:] != 0).all()


def test_what_is_learned_counts_by_the_rate_and_nothing_is_learned_at_0() -> None:
    model, x, logits = skip("zero"), torch.tensor([[3, 4]]), torch.zeros(1, N_CLASSES)
    with torch.no_grad():
        model.weight.copy_(torch.randn_like(model.weight))
    torch.testing.assert_close(model(logits, x)[0], 0.5 * model.weight[3:5].sum(dim=0))
    fixed = BagOfWordsSkip(SPEC, start="naive_bayes", smoothing=1.0, scale=1.0, rate=0.0)
    fixed.start_from(training())
    assert not list(fixed.parameters())
    assert (fixed(logits, x) != 0).all()


@given(st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=1, max_size=4))
def test_different_words_are_the_set_of_the_valid_ones(rows: list[list[int]]) -> None:
    words, once = different_words(torch.tensor(rows), None)
    for ids, keep, row in zip(words, once, rows, strict=True):
        assert sorted(ids[keep].tolist()) == sorted(set(row) - {0})


@pytest.mark.parametrize(
    ("spec", "change", "message"),
    [
        (Spec((7,), "classes", 2), {}, "skip=bag_of_words needs ids of words"),
        (Spec((7,), "token_mask", 1, vocabulary=("", "<unk>")), {}, "tells classes, the data has 'token_mask'"),
        (SPEC, {"start": "bayes"}, r"got 'bayes'; set skip\.start=naive_bayes"),
        (SPEC, {"smoothing": 0.0}, r"smoothing and scale must be positive, got 0\.0"),
        (SPEC, {"scale": -1.0}, r"must be positive, got 1\.0 and -1\.0"),
        (SPEC, {"rate": -1.0}, r"rate must not be negative, got -1\.0; set skip\.rate=0"),
    ],
)
def test_what_does_not_fit_is_refused(spec: Spec, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BagOfWordsSkip(spec, **{"start": "zero", "smoothing": 1.0, "scale": 1.0, "rate": 0.1, **change})
