"""RadioML in HDF5: which row a frame is, what is read and when, every way to be malformed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from radio_files import (
    LAYOUT,
    N_SAMPLES,
    STANDARD,
    one_file,
    options,
    signals,
    split_files,
    write_one_file,
    write_split,
)

from cvkan.domains.radio.hdf5_store import Hdf5Store
from cvkan.domains.radio.layout import RADIOML_2018, CellLayout, LayoutOptions, cell_file
from cvkan.errors import DataUnavailableError, UserError


def by_id(data: Any) -> dict[int, tuple[np.ndarray, list[int]]]:
    """Every frame of every part, by its id."""
    found = {}
    for split in data.splits.values():
        batch = split.__getitems__(range(len(split)))
        for number, frame, label in zip(batch["id"].tolist(), batch["x"].numpy(), batch["y"].tolist(), strict=True):
            assert number not in found
            found[number] = (frame, label)
    return found


def test_row_formula_of_radioml_2018() -> None:
    assert RADIOML_2018.n_rows == 2_555_904
    assert RADIOML_2018.first_row("OOK", -20) == 0
    assert RADIOML_2018.first_row("OQPSK", 30) + 4095 == 2_555_903
    m, s = RADIOML_2018.classes.index("16QAM"), RADIOML_2018.snr_db.index(6)
    assert RADIOML_2018.first_row("16QAM", 6) == (m * 26 + s) * 4096


@pytest.mark.parametrize("layout", ["one file", "split"])
def test_every_frame_has_its_row_its_label_and_its_id(tmp_path: Path, layout: str) -> None:
    if layout == "one file":
        arrays, data = write_one_file(tmp_path / "a.hdf5"), one_file(tmp_path / "a.hdf5")
    else:
        arrays, data = write_split(tmp_path / "s"), split_files(tmp_path / "s")
    assert data.spec.class_names == ("16QAM", "8PSK", "QPSK")
    assert data.spec.snr_db == (-2.0, 0.0, 4.0)
    assert (data.spec.input_shape, data.spec.n_outputs, data.spec.is_complex) == ((N_SAMPLES,), 6, True)
    data.setup()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 72, "val": 9, "test": 9}
    found = by_id(data)
    assert sorted(found) == list(range(90))
    for row, (frame, (modulation, snr)) in found.items():
        np.testing.assert_array_equal(frame, arrays["X"][row, :, 0] + 1j * arrays["X"][row, :, 1])
        assert data.spec.class_names[modulation] == LAYOUT.classes[arrays["Y"][row].argmax()]
        assert data.spec.snr_db[snr] == arrays["Z"][row, 0]


def test_a_subset_keeps_rows_ids_and_parts(tmp_path: Path) -> None:
    arrays = write_one_file(tmp_path / "a.hdf5")
    write_split(tmp_path / "s")
    whole = one_file(tmp_path / "a.hdf5")
    whole.setup()
    chosen = {"classes": ["QPSK", "16QAM"], "snr_db": [4, -2]}
    test_ids = whole.splits["test"].ids
    # 16QAM is class 2 of the layout, QPSK class 0; 4 dB is level 0, -2 dB level 1.
    rows = [m * 30 + s * 10 + i for m in (0, 2) for s in (0, 1) for i in range(10)]
    for data in (one_file(tmp_path / "a.hdf5", **chosen), split_files(tmp_path / "s", **chosen)):
        assert (data.spec.class_names, data.spec.snr_db) == (("16QAM", "QPSK"), (-2.0, 4.0))
        data.setup()
        found = by_id(data)
        assert sorted(found) == rows
        np.testing.assert_array_equal(found[75][0], arrays["X"][75, :, 0] + 1j * arrays["X"][75, :, 1])
        assert found[75][1] == [0, 0]
        assert set(data.splits["test"].ids.tolist()) == set(test_ids.tolist()) & set(rows)


def test_a_range_of_snrs(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    assert one_file(tmp_path / "a.hdf5", snr_db={"min": -2, "max": 3}).spec.snr_db == (-2.0, 0.0)


def test_both_layouts_give_the_same_parts(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    write_split(tmp_path / "s")
    one, split = one_file(tmp_path / "a.hdf5"), split_files(tmp_path / "s")
    one.setup()
    split.setup()
    for name in ("train", "val", "test"):
        assert torch.equal(one.splits[name].ids, split.splits[name].ids)


@pytest.mark.parametrize("rows", [[3, 1, 2], [89, 0, 44, 0], [5], list(range(90))[::-1], [17, 20, 24, 60]])
def test_rows_come_in_the_order_asked_for(tmp_path: Path, rows: list[int]) -> None:
    arrays = write_split(tmp_path)
    paths = [tmp_path / cell_file(name, level) for name in LAYOUT.classes for level in LAYOUT.snr_db]
    frames = Hdf5Store(paths, [10] * 9).read(np.array(rows))
    np.testing.assert_array_equal(frames.view(np.float32).reshape(len(rows), -1, 2), arrays["X"][rows])


def test_more_files_than_may_be_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvkan.domains.radio.hdf5_store.MAX_OPEN", 2)
    write_split(tmp_path)
    data = split_files(tmp_path)
    data.setup()
    assert len(by_id(data)) == 90
    assert len(data.frames.store._open) == 2


def test_two_loader_processes_read_what_one_reads(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    alone, shared = one_file(tmp_path / "a.hdf5"), one_file(tmp_path / "a.hdf5", num_workers=2)
    batches = []
    for data in (alone, shared):
        data.setup()
        data.splits["test"].__getitems__([0])  # opens the file here: the processes must not use that handle
        batches.append(list(data.train_dataloader()))
    assert len(batches[0]) == 18
    for one, other in zip(*batches, strict=True):
        for name in ("x", "y", "id"):
            assert torch.equal(one[name], other[name])


def test_a_batch_takes_the_memory_of_a_batch(tmp_path: Path) -> None:
    layout = CellLayout(("BPSK", "QPSK"), (0.0,), 2000)
    write_one_file(tmp_path / "a.hdf5", layout, X=np.zeros((4000, 1024, 2), np.float32))  # 32.8 MB
    data = one_file(tmp_path / "a.hdf5", options(layout), batch_size=16)
    tracemalloc.start()
    data.setup()
    batch = next(iter(data.train_dataloader()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert batch["x"].shape == (16, 1024)
    assert peak < 4e6


def test_power_is_one_after_preprocessing_alone(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5", X=5 * signals(90))
    data = one_file(tmp_path / "a.hdf5")
    data.setup()
    batch = next(iter(data.test_dataloader()))
    assert (batch["x"].abs().square().mean(1) > 10).all()
    torch.testing.assert_close(data.preprocess(batch)["x"].abs().square().mean(1), torch.ones(4))


def test_labels_are_read_once_and_again_when_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.hdf5"
    write_one_file(path)
    one_file(path).setup()

    def refuse(paths: list[Path]) -> None:
        raise AssertionError("labels are read again")

    with monkeypatch.context() as patch:
        patch.setattr("cvkan.domains.radio.hdf5.read_all_labels", refuse)
        again = one_file(path)
        again.setup()
    with h5py.File(path, "r+") as file:
        file["Z"][7] = 0
    with pytest.raises(UserError, match=r"row 7 is labelled QPSK at 0 dB, by its place it is QPSK at 4 dB"):
        one_file(path).setup()


def test_fingerprint_tells_data_and_split(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")

    def fingerprint(**changes: Any) -> str:
        data = one_file(tmp_path / "a.hdf5", **changes)
        data.setup()
        return data.fingerprint()

    assert fingerprint() == fingerprint(seed=5)
    assert len({fingerprint(), fingerprint(split_seed=1), fingerprint(classes=["QPSK", "8PSK"])}) == 3


@pytest.mark.parametrize("layout", ["one file", "split"])
def test_fingerprint_tells_other_signals_with_the_same_labels(tmp_path: Path, layout: str) -> None:
    path = tmp_path / cell_file("8PSK", 0) if layout == "split" else tmp_path / "a.hdf5"
    open_ = split_files if layout == "split" else one_file
    root = tmp_path if layout == "split" else path
    write_split(tmp_path) if layout == "split" else write_one_file(path)
    before = open_(root)
    before.setup()
    size = path.stat().st_size
    with h5py.File(path, "r+") as file:
        file["X"][:] = -file["X"][:]
    assert path.stat().st_size == size
    after = open_(root)
    after.setup()
    assert after.fingerprint() != before.fingerprint()


def test_labels_of_split_files_are_read_once_and_again_when_one_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(tmp_path)
    split_files(tmp_path).setup()

    def refuse(paths: list[Path]) -> None:
        raise AssertionError("labels are read again")

    with monkeypatch.context() as patch:
        patch.setattr("cvkan.domains.radio.hdf5.read_all_labels", refuse)
        split_files(tmp_path).setup()
    _one_row("Z", 6, [4])(tmp_path)
    with pytest.raises(UserError, match="row 6"):
        split_files(tmp_path).setup()


def test_limit_train_is_a_subset(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    data = one_file(tmp_path / "a.hdf5", limit_train=12)
    data.setup()
    assert sum(len(batch["x"]) for batch in data.train_dataloader()) == 12


def test_split_file_is_written_and_read(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    kept = {"split_file": str(tmp_path / "parts.npz")}
    one = one_file(tmp_path / "a.hdf5", **kept)
    one.setup()
    chosen = one_file(tmp_path / "a.hdf5", **kept)
    chosen.setup()
    assert torch.equal(one.splits["val"].ids, chosen.splits["val"].ids)
    with pytest.raises(UserError, match=r"the split was made with split_seed=42, not split_seed=5 .*parts\.npz"):
        one_file(tmp_path / "a.hdf5", split_seed=5, **kept).setup()


def test_whole_numbers_are_frames_too(tmp_path: Path) -> None:
    whole = (signals(90) * 1000).astype(np.int16)
    write_one_file(tmp_path / "a.hdf5", X=whole)
    data = one_file(tmp_path / "a.hdf5")
    found = data.frames.__getitems__(data.frames.ids.tolist())["x"]
    np.testing.assert_array_equal(torch.view_as_real(found).numpy(), whole)


def test_a_split_cell_may_hold_fewer_frames_and_keeps_its_ids(tmp_path: Path) -> None:
    write_split(tmp_path)
    path = tmp_path / cell_file("8PSK", 0)
    with h5py.File(path, "r+") as file:
        for name in "XYZ":
            rows = file[name][:4]
            del file[name]
            file[name] = rows
    data = split_files(tmp_path)
    data.setup()
    first = LAYOUT.first_row("8PSK", 0)
    assert sorted(by_id(data)) == [row for row in range(90) if not first + 4 <= row < first + 10]


def test_standard_layout_and_attributes_of_the_file(tmp_path: Path) -> None:
    assert STANDARD.resolve({}, tmp_path) == RADIOML_2018
    assert STANDARD.resolve(LAYOUT.attributes(), tmp_path) == LAYOUT
    assert LayoutOptions(None, None, 7).resolve(LAYOUT.attributes(), tmp_path).frames_per_cell == 7


def test_missing_folder_and_file(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    with pytest.raises(DataUnavailableError, match=r"no such folder \(data\.root=.*nowhere"):
        one_file(tmp_path / "nowhere" / "a.hdf5")
    with pytest.raises(DataUnavailableError, match=r"no file b\.hdf5; HDF5 files there: a\.hdf5"):
        one_file(tmp_path / "b.hdf5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataUnavailableError, match=r"no file MOD/SNR_s/MOD_SNR_s\.h5"):
        split_files(tmp_path / "empty")


NAN = np.full((90, N_SAMPLES, 2), np.nan, np.float32)
MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"X": None}, "data set X is missing, the file holds Y, Z"),
    ({"X": signals(90)[..., :1]}, "no.* frames with labels|are not frames with labels: X float32"),
    ({"X": np.full((90, N_SAMPLES, 2), 128, np.uint8)}, "are not frames with labels: X uint8"),  # 0 may be 127.5
    ({"X": signals(80)}, "are not frames with labels"),
    ({"Y": np.zeros((90, 3), int)}, "row 0 of Y is not one-hot"),
    ({"Y": np.ones((90, 3), int)}, "row 0 of Y is not one-hot"),
    ({"Y": np.eye(4, dtype=int)[np.zeros(90, int)]}, "Y has 4 columns, the layout 3 modulations"),
    ({"Z": np.zeros((90, 1))}, "row 0 is labelled QPSK at 0 dB, by its place it is QPSK at 4 dB"),
    ({"Z": np.zeros((90, 2))}, "are not frames with labels"),
    ({"id": np.zeros(90, int)}, "90 frames have the id 0"),
    ({"id": np.arange(90) - 1}, "row 0 has a negative id"),
    ({"id": np.arange(90.0)}, "the data set id holds no numbers of the rows"),
    ({"id": np.arange(80)}, "the data set id holds no numbers of the rows"),
    ({"X": NAN}, r"90 of 90 frames hold NaN or infinite samples .*a\.hdf5, row 0"),
]


@pytest.mark.parametrize(("change", "message"), MALFORMED, ids=[message[:30] for _, message in MALFORMED])
def test_malformed_file_is_named_in_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_one_file(tmp_path / "a.hdf5", **change)

    with pytest.raises(UserError, match=message) as caught:
        one_file(tmp_path / "a.hdf5").setup()
    assert "\n" not in str(caught.value)
    assert "a.hdf5" in str(caught.value)


def test_frame_that_turns_bad_during_a_training_is_named(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    data = one_file(tmp_path / "a.hdf5")
    data.setup()
    with h5py.File(tmp_path / "a.hdf5", "r+") as file:
        file["X"][37, 3, 1] = np.inf
    with pytest.raises(UserError, match=r"a\.hdf5, row 37\)"):
        by_id(data)


@pytest.mark.parametrize("cut", [0, 100, 3000])
def test_truncated_file_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.hdf5"
    write_one_file(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"the HDF5 file cannot be read: .*a\.hdf5.*Copy it again") as caught:
        one_file(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["QPSK", "64QAM"]}, r"no class '64QAM' in the data \(data\.classes\). It holds 16QAM, 8PSK, QPSK"),
        ({"classes": []}, "classes names nothing"),
        ({"classes": ["QPSK", "QPSK"]}, "one thing twice"),
        ({"snr_db": [1]}, r"no SNR of 1 dB in the data \(data\.snr_db\)\. It holds -2, 0, 4"),
        ({"snr_db": {"min": 5, "max": 9}}, r"no SNR of 5 to 9 dB in the data \(data\.snr_db\)\. It holds -2, 0, 4"),
        ({"snr_db": {"from": 5}}, "a range of the SNR has min and max"),
        ({"snr_db": {"min": "a", "max": 5}}, "a range of the SNR has min and max"),
        ({"classes": "QPSK"}, r"'QPSK' is no list \(data\.classes\)\. Write 'data\.classes=\[QPSK\]'"),
        ({"snr_db": 4}, r"4 is no list \(data\.snr_db\)\. Write 'data\.snr_db=\[4\]'"),
        ({"layout": LayoutOptions("QPSK", LAYOUT.snr_db, 10)}, r"'QPSK' is no list \(data\.layout\.classes\)"),
        ({"test_fraction": 0.95}, "do not leave three parts"),
        ({"layout": STANDARD}, r"Y has 3 columns, the layout 24 modulations"),
        ({"layout": LayoutOptions(LAYOUT.classes, LAYOUT.snr_db, 9)}, "the file has 90 rows, .* make 81"),
        ({"layout": LayoutOptions(LAYOUT.classes, LAYOUT.snr_db, 0)}, "the layout is empty or names one thing twice"),
        ({"layout": LayoutOptions(("A", "A", "B"), LAYOUT.snr_db, 10)}, "the layout is empty or names one thing twice"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_one_file(tmp_path / "a.hdf5")
    with pytest.raises(UserError, match=message):
        one_file(tmp_path / "a.hdf5", **changes)


def _rename(root: Path) -> None:
    (root / "QPSK" / "SNR_4").rename(root / "QPSK" / "4dB")


def _unknown(root: Path) -> None:
    (root / "QPSK").rename(root / "FOO")
    for path in sorted(root.glob("FOO/*/*.h5")):
        path.rename(path.with_name(path.name.replace("QPSK", "FOO")))


def _swap(root: Path) -> None:
    (root / cell_file("QPSK", 4)).replace(root / cell_file("QPSK", 0))


def _copy(root: Path) -> None:
    (root / cell_file("QPSK", 0)).write_bytes((root / cell_file("QPSK", 4)).read_bytes())


def _long(root: Path) -> None:
    with h5py.File(root / cell_file("QPSK", 4), "r+") as file:
        x = file["X"][:, :8]
        del file["X"]
        file["X"] = x


def _one_row(name: str, row: int, value: list[int]) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        with h5py.File(root / cell_file("QPSK", 0), "r+") as file:
            file[name][row] = value

    return write


def _attribute(name: str, value: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        with h5py.File(root / cell_file("QPSK", 0), "r+") as file:
            file.attrs[name] = value

    return write


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_rename, r"the folder '4dB' names no SNR .*Name it SNR_"),
        (_unknown, r"the layout has no FOO at .*data\.layout\.classes"),
        (_swap, r"there is no file QPSK_SNR_4\.h5"),
        (_copy, r"labelled QPSK at 4 dB, by its folder it is QPSK at 0 dB .*QPSK_SNR_0\.h5, row 0\)"),
        (_one_row("Z", 6, [4]), r"labelled QPSK at 4 dB, by its folder it is QPSK at 0 dB .*QPSK_SNR_0\.h5, row 6\)"),
        (_one_row("Y", 3, [0, 0, 1]), r"labelled 16QAM at 0 dB, by its folder .*QPSK_SNR_0\.h5, row 3\)"),
        (_one_row("Y", 3, [0, 0, 0]), r"row 3 of Y is not one-hot .*QPSK_SNR_0\.h5"),
        (_attribute("snr_definition", "sample"), r"the snr_definition is sample, that of other files None"),
        (_attribute("snr_definition", "loud"), r"unknown snr_definition 'loud' .*QPSK_SNR_0\.h5.*es_n0 or sample"),
        (_long, r"frames have \d+ samples, those of other files \d+"),
    ],
)
def test_malformed_split_folder(tmp_path: Path, harm: Callable[[Path], Any], message: str) -> None:
    write_split(tmp_path)
    harm(tmp_path)
    with pytest.raises(UserError, match=message):
        split_files(tmp_path).setup()


def test_a_pair_without_frames_is_named(tmp_path: Path) -> None:
    write_split(tmp_path)
    (tmp_path / cell_file("QPSK", 4)).unlink()
    (tmp_path / "QPSK" / "SNR_4").rmdir()
    with pytest.raises(UserError, match=r"1 of 9 pairs .*, such as QPSK at 4 dB"):
        split_files(tmp_path).setup()
