from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cvkan.radio.bayes import bayes_accuracy
from cvkan.radio.bound import TABLES, bound_for, crlb_db, eta, load_bound
from cvkan.radio.constellations import DEFAULT_CLASSES
from cvkan.radio.likelihood import SETTINGS

SCRIPT = Path(__file__).parents[2] / "scripts/radio_bound.py"
LEVELS = [float(level) for level in range(-20, 31, 2)]
FIVE = ("BPSK", "QPSK", "8PSK", "16QAM", "64QAM")
# Means over the levels, as published with the tables: known SNR, then modulation, SNR and both with the SNR unknown.
MEANS = {
    "N1": (0.589, 0.551, 0.649, 0.525),
    "E8": (0.523, 0.519, 0.717, 0.495),
    "S8": (0.685, 0.681, 0.878, 0.668),
}


@pytest.mark.parametrize("name", MEANS)
def test_tables_have_their_published_means(name: str) -> None:
    bound = load_bound(name)
    columns = (bound.known.modulation, bound.blind.modulation, bound.blind.snr, bound.blind.combined)
    # S8 with known SNR is shipped as 1 from 20 dB up, where it was published as 0.993 to 0.999.
    assert [column.mean().item() for column in columns] == pytest.approx(MEANS[name], abs=0.0012)


@pytest.mark.parametrize("name", [*MEANS, "E8-5"])
def test_tables_are_shares_and_nobody_gets_both_right_more_often_than_one(name: str) -> None:
    bound = load_bound(name)
    assert bound.source
    assert list(bound.blind.snr_db) == list(bound.known.snr_db) == LEVELS
    blind = bound.blind
    for column in (bound.known.modulation, blind.modulation, blind.snr, blind.combined):
        assert column.shape == (26,)
        assert ((column >= 0) & (column <= 1)).all()
    # The best joint decision and the best single ones are different decisions: noise alone may set them apart.
    slack = 4 * blind.standard_error(blind.combined)
    assert (blind.combined <= torch.minimum(blind.modulation, blind.snr) + slack).all()
    assert (bound.known.combined == bound.known.modulation).all()
    assert (blind.rmse_db >= 0).all()


def assert_same_shares(measured: Tensor, table: Tensor, n_measured: int, n_table: int) -> None:
    """Two shares of one thing: within 4 standard errors of their difference, the table rounded to three places."""
    pooled = (measured * n_measured + table * n_table) / (n_measured + n_table)
    deviation = (pooled * (1 - pooled) * (1 / n_measured + 1 / n_table)).sqrt()
    assert ((measured - table).abs() <= 4 * deviation + 1e-3).all()


@pytest.mark.parametrize(("name", "levels", "n_frames"), [("E8", [4, 12], 680), ("S8", [-6, 4], 680), ("N1", [4], 170)])
def test_known_columns_are_what_we_measure(name: str, levels: list[float], n_frames: int) -> None:
    table = load_bound(name).known
    ours = bayes_accuracy(DEFAULT_CLASSES, levels, setting=name, n_frames=n_frames, seed=1, snr_known=True)
    cells = [LEVELS.index(level) for level in levels]
    assert_same_shares(ours.modulation, table.modulation[cells], ours.n_frames, table.n_frames)


def test_columns_of_unknown_snr_are_what_we_measure() -> None:
    table = load_bound("E8-5").blind
    ours = bayes_accuracy(FIVE, LEVELS, setting="E8", n_frames=40, seed=2, snr_known=False)
    for name in ("modulation", "snr", "combined"):
        assert_same_shares(getattr(ours, name), getattr(table, name), ours.n_frames, table.n_frames)


@pytest.mark.slow
def test_the_script_measures_a_table() -> None:
    options = ("--setting", "S8", "--classes", "BPSK", "OOK", "--snr-db", "10", "20", "5", "--n-frames", "4")
    ended = subprocess.run([sys.executable, SCRIPT, "tiny", *options], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    table = json.loads(ended.stdout)["tiny"]
    shipped = json.loads(TABLES.read_text())["E8-5"]
    assert table.keys() == shipped.keys()
    assert table["blind"].keys() == shipped["blind"].keys()
    assert table["setting"] == {"n_symbols": 128, "samples_per_symbol": 8, "snr_definition": "sample"}
    assert table["snr_db"] == [10, 15, 20]
    assert table["known"]["modulation"] == table["blind"]["combined"] == [1, 1, 1]


def test_a_table_is_found_by_what_it_is_about() -> None:
    def found(**change: object) -> str | None:
        usual = {"samples_per_symbol": 8, "snr_definition": "es_n0", "n_samples": 1024}
        classes, levels = change.pop("classes", DEFAULT_CLASSES), change.pop("levels", LEVELS)
        bound = bound_for(classes, levels, **(usual | change))
        names = [name for name in (*MEANS, "E8-5") if bound is load_bound(name)]
        return names[0] if names else None

    assert found() == "E8"
    assert found(classes=sorted(DEFAULT_CLASSES), levels=LEVELS[::-1]) == "E8"
    assert found(snr_definition="sample") == "S8"
    assert found(samples_per_symbol=1) == found(samples_per_symbol=1, snr_definition="sample") == "N1"
    assert found(classes=FIVE) == "E8-5"
    for other in (
        {"classes": FIVE[:4]},
        {"levels": LEVELS[10:]},
        {"n_samples": 512},
        {"n_samples": 1027},
        {"samples_per_symbol": 4},
    ):
        assert found(**other) is None


def test_unknown_tables_and_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no table 'E4'.*N1, E8, S8"):
        load_bound("E4")
    with pytest.raises(ValueError, match="too short"):
        bound_for(FIVE, LEVELS, samples_per_symbol=0, snr_definition="es_n0", n_samples=1024)


@given(bound=st.lists(st.floats(0.5, 1), min_size=1, max_size=5), share=st.floats(-0.2, 1.2), n=st.integers(5, 442))
def test_eta_is_the_share_of_the_way_from_chance_to_the_bound(bound: list[float], share: float, n: int) -> None:
    limit = torch.tensor(bound, dtype=torch.float64)
    assert eta(1 / n + share * (limit - 1 / n), limit, n) == pytest.approx(share, abs=1e-9)


def test_eta_ignores_levels_where_even_the_optimum_guesses() -> None:
    bound = torch.tensor([0.06, 0.11, 0.5, 1.0])  # 2 / C = 0.118
    accuracy = torch.tensor([0.9, 0.0, 0.5, 1 / 17])
    assert eta(accuracy, bound, 17) == pytest.approx(0.5, abs=1e-6)


def test_eta_of_nothing_to_win_or_of_other_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to win"):
        eta(torch.tensor([0.06]), torch.tensor([0.1]), 17)
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        eta(torch.ones(2), torch.ones(3), 17)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("N1", {-20: 1.92, -10: 0.62, 0: 0.24, 30: 0.14}),
        ("E8", {-20: 5.43, -10: 1.72, 0: 0.56, 30: 0.14}),
        ("S8", {-20: 1.92, -10: 0.62, 0: 0.24, 30: 0.14}),
    ],
)
def test_cramer_rao_bound_has_the_published_values(name: str, expected: dict[int, float]) -> None:
    ours = crlb_db([float(level) for level in expected], SETTINGS[name])
    assert ours.tolist() == pytest.approx(list(expected.values()), abs=0.0051)


def test_cramer_rao_bound_is_reached_by_the_known_symbol_estimate() -> None:
    """Many frames of known symbols, fitted by least squares: 10 log10(A^2 / s^2) has the bound for a deviation."""
    generator, n, snr_db = torch.Generator().manual_seed(0), 1024, 3.0
    noise = torch.randn(4000, n, 2, generator=generator, dtype=torch.float64) * math.sqrt(10 ** (-snr_db / 10) / 2)
    amplitude = 1 + noise[..., 0].mean(dim=1, keepdim=True)  # all symbols are 1
    residual = (1 + noise[..., 0] - amplitude).square() + noise[..., 1].square()
    estimate = 10 * torch.log10(amplitude[:, 0].square() / residual.mean(dim=1))
    assert estimate.std().item() == pytest.approx(crlb_db([snr_db], SETTINGS["N1"]).item(), rel=0.05)
