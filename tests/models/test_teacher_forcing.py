from __future__ import annotations

import pytest
import torch
from autoencoders import N, masks, recurrent, samples, stepped

from cvkan.benchmarks.poetry import PoetrySuite
from cvkan.models.teacher_forcing import PerSample, Segments, TeacherForcing, TwoPass, coins

MASK = masks(7, 4, 2)
SCHEMES = [Segments(), PerSample(), TwoPass()]


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: type(scheme).__name__)
def test_ratio_1_is_all_gold_and_the_exact_schemes_are_free_at_ratio_0(scheme: TeacherForcing) -> None:
    model, x = recurrent(), samples()
    everywhere = torch.ones(N, dtype=torch.bool)
    assert torch.equal(scheme.run(model, x, MASK, 1.0), model(x, MASK, x, everywhere))
    if not isinstance(scheme, TwoPass):
        assert torch.equal(scheme.run(model, x, MASK, 0.0), model(x, MASK))


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: type(scheme).__name__)
def test_coins_fall_as_the_seed_says(scheme: TeacherForcing) -> None:
    model, x = recurrent(), samples()

    def run(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return scheme.run(model, x, MASK, 0.5)

    assert torch.equal(run(0), run(0))
    assert any(not torch.equal(run(0), run(seed)) for seed in range(1, 5))


@pytest.mark.parametrize(("scheme", "shape"), [(Segments(), (N,)), (PerSample(), (3, N))])
@pytest.mark.parametrize("seed", range(3))
def test_exact_schemes_are_the_decoder_stepped_with_their_coins(
    scheme: TeacherForcing, shape: tuple[int, ...], seed: int
) -> None:
    model, x = recurrent(), samples()
    torch.manual_seed(seed)
    found = scheme.run(model, x, MASK, 0.6)
    torch.manual_seed(seed)
    told = torch.rand(shape) < 0.6
    expected = stepped(model.decoder, model.encode(x, MASK).z, x, told.expand(3, N))
    torch.testing.assert_close(found, expected)


def test_coins_fall_at_the_ratio() -> None:
    torch.manual_seed(0)
    assert coins(0.7, 100, 100).float().mean().item() == pytest.approx(0.7, abs=0.02)
    assert not coins(0.0, 1000).any()
    assert coins(1.0, 1000).all()


def test_two_pass_hears_outputs_of_a_pass_that_was_told_everything() -> None:
    model, x = recurrent(), samples()
    z, everywhere = model.encode(x, MASK).z, torch.ones(3, N, dtype=torch.bool)
    first = stepped(model.decoder, z, x, everywhere)
    torch.manual_seed(5)
    told = coins(0.5, N)
    assert told[1:].any()
    assert not told[1:].all()
    mixed = x.clone()
    for t in range(1, N):
        if not told[t]:
            mixed[:, t - 1] = first[:, t - 1]
    torch.manual_seed(5)
    torch.testing.assert_close(TwoPass().run(model, x, MASK, 0.5), stepped(model.decoder, z, mixed, everywhere))


def test_two_pass_learns_from_its_second_pass_alone() -> None:
    model, x = recurrent(), samples()
    grad_modes = []
    model.decoder.register_forward_hook(lambda *_: grad_modes.append(torch.is_grad_enabled()))
    TwoPass().run(model, x, MASK, 0.0)
    assert grad_modes == [False, True]
    TwoPass().run(model, x, MASK, 1.0)
    assert grad_modes == [False, True, True]


def test_benchmark_compares_equal_outputs_at_every_ratio() -> None:
    budgets = {"tiny": {"n_draws": 2, "repetitions": 2, "min_seconds": 0.0}}
    sizes = {"d_vector": 6, "d_hidden": 8, "d_latent": 4, "n_tokens": 5, "n_batch": 3}
    state = torch.get_rng_state()
    rows = list(PoetrySuite("tiny", budgets, cell="lstm", **sizes, ratios=[1.0, 0.5], seed=0).run())
    assert [row.case for row in rows] == [f"lstm 6-8-4 N=5 B=3 ratio {ratio}" for ratio in ("1", "0.5")]
    assert all(0 < row.ratio_min <= row.ratio <= row.ratio_max for row in rows)
    assert torch.equal(torch.get_rng_state(), state)
