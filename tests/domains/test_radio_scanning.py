"""Every stored frame is read once before a training: what is no signal is named then, and what is known is kept."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from radio_files import LAYOUT, STORED, one_file, signals, split_files, write_one_file, write_split

from cvkan.domains.radio import scanning
from cvkan.domains.radio.hdf5_store import Hdf5Store
from cvkan.domains.radio.iq_npz import IqNpz
from cvkan.domains.radio.layout import cell_file
from cvkan.domains.radio.recordings import Recordings, SignalStore
from cvkan.domains.radio.rml2016 import RML2016
from cvkan.domains.radio.signal_files import open_npy, open_raw
from cvkan.errors import UserError

CUT: dict[str, Any] = {"n_samples": 8, "hop": None, "split_by": "time"}
LABELS = [(name, level) for name in ("BPSK", "QPSK") for level in (-4, 10)]


def iq(seed: int, n: int = 240) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 2)).astype(np.float32).view(np.complex64)[:, 0]


def recordings(root: Path, **changes: Any) -> Recordings:
    return Recordings(**{"root": str(root), "index": None, "assumed_snr_db": None, **CUT, **STORED, **changes})


def write_signals(root: Path, suffix: str = ".cf32") -> None:
    """A recording of 30 frames for each of four cells."""
    for k, (name, level) in enumerate(LABELS):
        path = root / name / f"SNR_{level}" / f"a{suffix}"
        path.parent.mkdir(parents=True)
        if suffix == ".npy":
            np.save(path, iq(k))
        else:
            iq(k).tofile(path)


def harm(path: Path, sample: int, value: float = np.nan, header: int = 0) -> None:
    """Change the real part of one sample of a complex64 file."""
    with path.open("r+b") as file:
        file.seek(header + 8 * sample)
        file.write(np.float32(value).tobytes())


def harmed_hdf5(path: Path, *rows: int) -> None:
    with h5py.File(path, "r+") as file:
        for row in rows:
            file["X"][row, 3, 1] = np.inf


def _one_file(root: Path) -> Any:
    write_one_file(root / "a.hdf5")
    test = one_file(root / "a.hdf5")
    test.setup()
    harmed_hdf5(root / "a.hdf5", int(test.splits["test"].rows[-1]))
    return one_file(root / "a.hdf5")


def _split_files(root: Path) -> Any:
    write_split(root)
    harmed_hdf5(root / cell_file("16QAM", 0), 6)
    return split_files(root)


def _raw(root: Path) -> Any:
    write_signals(root)
    harm(root / "QPSK" / "SNR_10" / "a.cf32", 239)
    return recordings(root)


def _npy(root: Path) -> Any:
    write_signals(root, ".npy")
    harm(root / "QPSK" / "SNR_10" / "a.npy", 239, header=128)
    return recordings(root)


def _npz(root: Path) -> Any:
    rows = np.stack([iq(k) for k in range(4)])
    rows[3, 239] = np.inf
    labels = {"label": np.array([0, 0, 1, 1]), "snr_db": np.array([-4, 10, -4, 10]), "classes": np.array(["A", "B"])}
    np.savez(root / "a.npz", iq=rows, **labels)
    return IqNpz(**{"root": str(root), "file": "a.npz", **CUT, **STORED})


def _pickle(root: Path) -> Any:
    cells = {label: signals(10, 8).transpose(0, 2, 1).copy() for label in LABELS}
    cells["QPSK", 10][9, 0, 7] = np.nan
    (root / "a.pkl").write_bytes(pickle.dumps(cells))
    return RML2016(root=str(root), file="a.pkl", **STORED)


@pytest.mark.parametrize(
    ("source", "where"),
    [
        (_one_file, r"a\.hdf5, row \d+"),
        (_split_files, r"16QAM_SNR_0\.h5, row 6"),
        (_raw, r"QPSK/SNR_10/a\.cf32, samples from 232"),
        (_npy, r"QPSK/SNR_10/a\.npy, samples from 232"),
        (_npz, r"frame 119 of a\.npz"),
        (_pickle, r"frame 39 of a\.pkl"),
    ],
)
def test_bad_frame_is_found_before_any_is_trained_on(tmp_path: Path, source: Callable, where: str) -> None:
    data = source(tmp_path)
    for again in (data, data):  # found twice: that it was found is kept, not that it is well
        with pytest.raises(UserError, match=rf"a frame holds NaN or infinite samples \(.*{where}\)") as caught:
            again.setup()
        again.splits = {}
        assert "\n" not in str(caught.value)


def test_all_bad_frames_are_counted(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    harmed_hdf5(tmp_path / "a.hdf5", 71, 17, 89)
    with pytest.raises(UserError, match=r"3 of 90 frames hold NaN or infinite samples \(.*a\.hdf5, row 17\)"):
        one_file(tmp_path / "a.hdf5").setup()


def test_only_chosen_frames_are_looked_at(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    harmed_hdf5(tmp_path / "a.hdf5", LAYOUT.first_row("8PSK", 0) + 3)
    one_file(tmp_path / "a.hdf5", classes=["QPSK", "16QAM"]).setup()
    one_file(tmp_path / "a.hdf5", snr_db=[-2, 4]).setup()
    with pytest.raises(UserError, match="NaN"):
        one_file(tmp_path / "a.hdf5", classes=["8PSK"], snr_db=[0]).setup()


def _open_one(root: Path, **changes: Any) -> Any:
    return one_file(root / "a.hdf5", **changes)


@pytest.mark.parametrize(
    ("write", "open_", "store", "bad"),
    [
        (
            lambda root: write_one_file(root / "a.hdf5"),
            _open_one,
            Hdf5Store,
            lambda root: harmed_hdf5(root / "a.hdf5", 5),
        ),
        (write_split, split_files, Hdf5Store, lambda root: harmed_hdf5(root / cell_file("QPSK", 4), 5)),
        (write_signals, recordings, SignalStore, lambda root: harm(root / "BPSK" / "SNR_-4" / "a.cf32", 5)),
    ],
    ids=["one file", "split files", "recordings"],
)
def test_files_are_read_again_only_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable, open_: Callable, store: type, bad: Callable
) -> None:
    write(tmp_path)
    open_(tmp_path).setup()

    def refuse(self: Any, rows: np.ndarray) -> None:
        raise AssertionError("frames are read again")

    with monkeypatch.context() as patch:
        patch.setattr(store, "read", refuse)
        open_(tmp_path).setup()
        open_(tmp_path, val_fraction=0.2, seed=3).setup()
    bad(tmp_path)
    with pytest.raises(UserError, match="a frame holds NaN or infinite samples"):
        open_(tmp_path).setup()


def test_what_is_known_of_some_cells_is_not_taken_for_others(tmp_path: Path) -> None:
    write_split(tmp_path)
    harmed_hdf5(tmp_path / cell_file("8PSK", 0), 3)
    split_files(tmp_path, classes=["QPSK"]).setup()  # the same numbers of rows, in other files
    with pytest.raises(UserError, match=r"8PSK_SNR_0\.h5, row 3"):
        split_files(tmp_path, classes=["8PSK"]).setup()


def test_what_is_known_of_some_frames_is_not_taken_for_other_cuts(tmp_path: Path) -> None:
    write_signals(tmp_path)
    harm(tmp_path / "QPSK" / "SNR_10" / "a.cf32", 7)
    recordings(tmp_path, n_samples=7, hop=8).setup()
    with pytest.raises(UserError, match="a frame holds NaN"):
        recordings(tmp_path, n_samples=8, hop=8).setup()
    with pytest.raises(UserError, match="samples from 7"):
        recordings(tmp_path, n_samples=7, hop=7).setup()


def test_long_scan_is_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    caplog.set_level("INFO", "cvkan")
    write_one_file(tmp_path / "a.hdf5")
    one_file(tmp_path / "a.hdf5", snr_db=[0]).setup()
    assert not caplog.messages
    monkeypatch.setattr(scanning, "LONG", 1000)
    for _ in range(2):
        one_file(tmp_path / "a.hdf5").setup()
    assert caplog.messages == ["looking through 90 frames for NaN, 0.0 GB; the result is kept"]


@given(data=st.data())
def test_frames_of_signals_come_in_the_order_asked_for(tmp_path_factory: Any, data: Any) -> None:
    root = tmp_path_factory.mktemp("signals", numbered=True)
    held = [iq(0, 40), iq(1, 25)]
    held[0].tofile(root / "a.cf32")
    np.save(root / "b.npy", held[1])
    files = [open_raw(root / "a.cf32", "cf32_le"), open_npy(root / "b.npy")]
    n_samples, hop = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 12))
    places = [(s, t) for s, x in enumerate(held) for t in range(0, len(x) - n_samples + 1, hop)]
    store = SignalStore(files, *np.array(places).T, n_samples)
    rows = data.draw(st.lists(st.integers(0, len(places) - 1), min_size=1, max_size=12))
    expected = [held[s][t : t + n_samples] for s, t in (places[row] for row in rows)]
    np.testing.assert_array_equal(store.read(np.array(rows)), expected)
