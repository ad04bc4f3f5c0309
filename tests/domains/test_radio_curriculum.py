"""The SNR curriculum: its weights by hand, and the samples that a data module draws by them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cvkan import build
from cvkan.cli import resolvers
from cvkan.domains.datamodule import DataModule, TensorSplit
from cvkan.domains.radio.curriculum import SnrCurriculum


def test_weights_by_hand() -> None:
    every = torch.arange(8)  # lowest SNR first
    curriculum = SnrCurriculum(epochs_per_shift=2)
    assert curriculum.weights(0, every, 8).tolist() == pytest.approx([0.1] * 4 + [0.125, 0.25, 0.5, 1])
    assert torch.equal(curriculum.weights(1, every, 8), curriculum.weights(0, every, 8))
    assert curriculum.weights(4, every, 8).tolist() == pytest.approx([0.1, 0.1, 0.125, 0.25, 0.5, 1, 1, 1])
    assert curriculum.weights(14, every, 8).tolist() == [1] * 8
    assert curriculum.weights(500, every, 8).tolist() == [1] * 8


@given(st.integers(0, 60), st.integers(1, 5), st.integers(1, 26), st.data())
def test_weights_follow_the_formula_for_any_samples(epoch: int, shift: int, n_snrs: int, data: Any) -> None:
    index = data.draw(st.lists(st.integers(0, n_snrs - 1), max_size=20))
    found = SnrCurriculum(shift).weights(epoch, torch.tensor(index, dtype=torch.long), n_snrs)
    reached = epoch // shift
    steps = [n_snrs - 1 - k - reached for k in index]
    assert found.tolist() == pytest.approx([1 if n <= 0 else 0.5**n if n <= 3 else 0.1 for n in steps])


@pytest.mark.parametrize("epochs", [0, -3])
def test_a_shift_of_no_epoch_is_refused(epochs: int) -> None:
    with pytest.raises(ValueError, match=f"epochs_per_shift must be at least 1, got {epochs}; set"):
        SnrCurriculum(epochs)


class Levels(DataModule):
    """4000 samples, evenly spread over 10 SNRs."""

    def __init__(self, curriculum: SnrCurriculum | None) -> None:
        super().__init__(batch_size=500, num_workers=0, seed=0, limit_train=None)
        self.curriculum = curriculum

    def load_splits(self) -> dict[str, TensorSplit]:
        level = torch.arange(4000) % 10
        return {name: TensorSplit(x=level, y=level) for name in ("train", "val", "test")}

    def sample_weights(self, epoch: int) -> Tensor | None:
        return self.curriculum and self.curriculum.weights(epoch, self.splits["train"].tensors["y"], 10)

    def drawn(self, epoch: int) -> Tensor:
        """How often each level comes in an epoch, as a share."""
        loader = self.train_dataloader()
        loader.sampler.set_epoch(epoch)
        levels = torch.cat([batch["y"] for batch in loader])
        assert len(levels) == 4000
        return levels.bincount(minlength=10) / len(levels)


def test_a_data_module_draws_by_the_weights_of_the_epoch() -> None:
    data, even = Levels(SnrCurriculum(epochs_per_shift=1)), torch.full((10,), 0.1)
    data.setup()
    for epoch in (0, 4):
        weights = data.curriculum.weights(epoch, torch.arange(10), 10)
        expected = weights / weights.sum()
        # Five standard deviations of a share of 4000 draws.
        assert bool(((data.drawn(epoch) - expected).abs() < 5 * (expected * (1 - expected) / 4000).sqrt()).all())
        assert float((expected - even).abs().max()) > 0.05
    assert torch.equal(data.drawn(4), data.drawn(4))
    plain = Levels(None)
    plain.setup()
    torch.testing.assert_close(plain.drawn(0), even)


@pytest.mark.parametrize(("choice", "expected"), [("none", None), ("high_to_low", SnrCurriculum)])
def test_every_choice_of_the_config_is_the_curriculum_of_the_source(choice: str, expected: type | None) -> None:
    resolvers.register()
    few = ["data.classes=[BPSK,QPSK]", "data.snr_db=[0,10]", "data.n_train=40", "data.n_val=8", "data.n_test=8"]
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        data = build.build_data(compose("train", overrides=["domain=radio", f"snr_curriculum={choice}", *few]))
    data.setup()
    weights = data.sample_weights(0)
    if expected is None:
        assert weights is None
    else:
        assert weights is not None
        assert set(weights.tolist()) == {0.5, 1.0}


@pytest.mark.parametrize("samples", [4, 8])
def test_a_token_is_a_symbol(samples: int) -> None:
    resolvers.register()
    typed = ["domain=radio", f"data.generator.samples_per_symbol={samples}", "model.d_complex=4"]
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        cfg = compose("train", overrides=typed)
    model: Any = build.build_model(cfg, build.build_data(cfg).spec)
    assert model.grid == (1024 // samples,)
