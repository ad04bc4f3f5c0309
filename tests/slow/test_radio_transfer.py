"""A network trained on our generator alone reads signals that others made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from cvkan import build
from cvkan.checkpointing import read_checkpoint
from cvkan.cli import resolvers

AWGN3 = REPOSITORY.parent / "shared/data/radio_awgn3"
SYMBOL_RATE = (
    *("data.generator.samples_per_symbol=1", "data.generator.rolloff=null", "data.generator.span=null"),
    *("data.generator.random_timing=false", "data.generator.random_phase=false"),
    *("embedding.n_taps=1", "embedding.n_bands=1"),  # a token a symbol, by itself
    *("embedding.estimate_timing=false", "embedding.estimate_phase=false"),
)
SMALL = ("data.n_train=512", "data.n_val=15", "data.n_test=15", "trainer.max_epochs=2", "optimizer.lr=1e-2")


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.skipif(not AWGN3.exists(), reason="needs the shared data folder beside the repository")
def test_symbols_of_another_simulator_are_told_apart_at_20_db_and_above(train_here: Callable, tmp_path: Path) -> None:
    ours = ("data.classes=[QPSK,16QAM,64QAM]", "data.snr_db=[10,15,20,25,30]")
    ended = train_here("domain=radio", *ours, *SYMBOL_RATE, *SMALL, "output_dir=run")
    assert ended.code == 0, ended.err

    resolvers.register()
    with initialize_config_module("cvkan.conf", version_base="1.3"):
        chosen = (f"data.root={AWGN3}", "data.snr_db=[10,15,20,25,30]")
        data = build.build_data(compose("train", overrides=["domain=radio", "data=iq_npz", *chosen]))
    data.setup()
    model = build.build_model(OmegaConf.load(tmp_path / "run/config.yaml"), data.spec)  # type: ignore[arg-type]
    state = read_checkpoint(tmp_path / "run/checkpoints/best.ckpt")["state_dict"]
    model.load_state_dict({name.removeprefix("model."): w for name, w in state.items() if name.startswith("model.")})
    model.eval()
    right = []
    for split in data.splits.values():
        batch = data.preprocess(split.__getitems__(list(range(len(split)))))
        clear = torch.tensor(data.spec.snr_db)[batch["y"][:, 1]] >= 20
        with torch.no_grad():
            found = model(batch["x"][clear])[:, :3].argmax(dim=1)
        right.append(found == batch["y"][clear, 0])
    assert len(torch.cat(right)) == 72
    assert torch.cat(right).float().mean() >= 0.97
