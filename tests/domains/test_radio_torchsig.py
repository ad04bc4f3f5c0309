"""Frames of TorchSig: its own samples, our labels; and a plain word where it is not installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from cvkan.benchmarks.frames import frame_rows
from cvkan.domains.radio.torchsig import NAMES, TorchSigGenerator
from cvkan.errors import UserError
from cvkan.radio.constellations import constellation

INSTALLED = find_spec("torchsig") is not None
with_torchsig = pytest.mark.skipif(not INSTALLED, reason="the extra torchsig is not installed")
SETTINGS: dict[str, Any] = {
    "classes": list(NAMES),
    "n_samples": 1024,
    "samples_per_symbol": 8,
    "rolloff": (0.1, 0.4),
    "random_phase": True,
    "snr_definition": "es_n0",
}


@pytest.mark.skipif(INSTALLED, reason="TorchSig is installed")
def test_missing_torchsig_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(UserError, match=r"pip install 'cvkan\[torchsig\]'"):
        TorchSigGenerator(**SETTINGS)
    with pytest.raises(UserError, match=r"pip install 'cvkan\[torchsig\]'"):
        next(frame_rows(2, 64, 8, 1, 0.0, 0))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": ["OQPSK"]}, "no OQPSK frames"),
        ({"samples_per_symbol": 1}, "2 samples a symbol"),
        ({"rolloff": (0.0, 0.4)}, "between 0 and 1"),
        ({"snr_definition": "eb_n0"}, "es_n0 or sample"),
    ],
)
def test_impossible_settings_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TorchSigGenerator(**{**SETTINGS, **changed})


@with_torchsig
def test_every_name_is_a_constellation_of_torchsig_with_as_many_points() -> None:
    from torchsig.signals.builders.constellation_maps import all_symbol_maps

    assert {name: len(all_symbol_maps[theirs]) for name, theirs in NAMES.items()} == {
        name: len(constellation(name)) for name in NAMES
    }


@with_torchsig
def test_frames_depend_on_seed_and_number_alone() -> None:
    generator = TorchSigGenerator(**SETTINGS)
    index = torch.arange(2 * len(NAMES))
    modulation, snr_db = index % len(NAMES), torch.linspace(-20, 30, len(index))
    x = generator.frames(modulation, snr_db, 0, index)
    assert x.dtype == torch.complex64
    assert x.shape == (len(index), 1024)
    assert torch.equal(generator.frames(modulation.flip(0), snr_db.flip(0), 0, index.flip(0)), x.flip(0))
    other = generator.clean(modulation, 1, index)
    clean = generator.clean(modulation, 0, index)
    overlap = (other * clean.conj()).mean(dim=1).abs() / (other.abs() * clean.abs()).mean(dim=1)
    assert overlap[modulation != list(NAMES).index("OOK")].max() < 0.4


@with_torchsig
def test_frames_have_no_transients_and_the_snr_of_their_label() -> None:
    generator = TorchSigGenerator(**{**SETTINGS, "classes": ["QPSK"]})
    index = torch.arange(400)
    modulation, snr_db = torch.zeros_like(index), torch.full((400,), 5.0)
    clean = generator.clean(modulation, 0, index)
    power = clean.abs().square().mean(dim=0)  # (n,)
    assert 0.8 < power[:8].mean() / power.mean() < 1.2
    assert 0.8 < power[-8:].mean() / power.mean() < 1.2
    noise = generator.frames(modulation, snr_db, 0, index) - clean
    snr = 8 * clean.abs().square().mean() / noise.abs().square().mean()
    assert abs(10 * snr.log10() - 5) < 0.05


@with_torchsig
def test_benchmark_compares_modulation_and_noise_with_those_of_torchsig() -> None:
    rows = list(frame_rows(4, 256, 8, 2, 0.0, 0))
    assert [row.against for row in rows] == ["TorchSig modulator", "TorchSig modulator and noise"]
    assert all(row.value > 0 and 0 < row.ratio_min <= row.ratio <= row.ratio_max for row in rows)
