"""Long signals: formats, labels from folders, tables and SigMF, frames at a hop, parts that share nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from radio_files import STANDARD, STORED, one_file, split_files

from cvkan.domains.radio.convert import OneFileWriter, SplitWriter
from cvkan.domains.radio.iq_npz import IqNpz
from cvkan.domains.radio.recordings import Recordings
from cvkan.errors import DataUnavailableError, UserError

AWGN = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "radio_awgn3"
CUT: dict[str, Any] = {"n_samples": 8, "hop": None, "split_by": "recording"}


def recordings(root: Path, **changes: Any) -> Recordings:
    arguments = {"root": str(root), "index": None, "assumed_snr_db": None, **CUT, **STORED, **changes}
    return Recordings(**arguments)


def signal(n: int, seed: int = 0) -> np.ndarray:
    """(n,) complex64 on a grid that int16 holds exactly, within -1 and 1."""
    rails = np.random.default_rng(seed).integers(-(2**15), 2**15, (n, 2))
    return (rails / 2**15).astype(np.float32).view(np.complex64)[:, 0]


def rails(x: np.ndarray) -> np.ndarray:
    return x.view(np.float32).reshape(-1, 2)


def in_folder(root: Path, name: str, label: str = "QPSK/SNR_10") -> Path:
    path = root / label / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_many(root: Path, n_recordings: int = 10, n: int = 40) -> None:
    """Recordings of two classes at two levels."""
    for label in ("QPSK/SNR_-4", "QPSK/SNR_10", "BPSK/SNR_-4", "BPSK/SNR_10"):
        for k in range(n_recordings):
            signal(n, seed=k).tofile(in_folder(root, f"{k}.cf32", label))


def frames_of(data: Any) -> dict[str, torch.Tensor]:
    return data.frames.__getitems__(range(len(data.frames)))


FORMATS: list[tuple[str, Callable[[Path, np.ndarray], Any]]] = [
    ("a.cf32", lambda path, x: x.tofile(path)),
    ("a.fc32", lambda path, x: x.tofile(path)),
    ("a.sc16", lambda path, x: (rails(x) * 2**15).astype("<i2").tofile(path)),
    ("a.cs16", lambda path, x: (rails(x) * 2**15).astype("<i2").tofile(path)),
    ("a.npy", lambda path, x: np.save(path, x)),
    ("a.npy", lambda path, x: np.save(path, x.astype(np.complex128))),
    ("a.npy", lambda path, x: np.save(path, rails(x))),
    ("a.npy", lambda path, x: np.save(path, rails(x).T.astype(np.float64))),
]


@pytest.mark.parametrize(("name", "write"), FORMATS)
def test_every_format_reads_the_same_samples(tmp_path: Path, name: str, write: Callable[..., Any]) -> None:
    x = signal(35)
    write(in_folder(tmp_path, name), x)
    batch = frames_of(recordings(tmp_path, hop=5))
    assert batch["x"].dtype == torch.complex64
    expected = np.stack([x[start : start + 8] for start in range(0, 28, 5)])
    np.testing.assert_array_equal(batch["x"].numpy(), expected)


@pytest.mark.parametrize("name", ["a.cs8", "a.cu8"])
def test_bytes_of_receivers(tmp_path: Path, name: str) -> None:
    numbers = np.arange(256)
    signed, unsigned = (numbers - 128) / 128, (numbers - 127.5) / 127.5
    numbers = numbers - 128 if name == "a.cs8" else numbers
    numbers.astype(np.uint8).tofile(in_folder(tmp_path, name))
    x = torch.view_as_real(frames_of(recordings(tmp_path))["x"]).numpy().ravel()
    np.testing.assert_allclose(x, signed if name == "a.cs8" else unsigned, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("datatype", "dtype", "scale"),
    [
        ("cf32_le", "<f4", 1),
        ("cf32_be", ">f4", 1),
        ("cf64_le", "<f8", 1),
        ("ci16_le", "<i2", 2**15),
        ("ci16_be", ">i2", 2**15),
        ("ci8", "i1", 2**7),
    ],
)
def test_datatypes_of_sigmf(tmp_path: Path, datatype: str, dtype: str, scale: int) -> None:
    numbers = np.random.default_rng(0).integers(-128, 128, (16, 2))
    numbers.astype(dtype).tofile(in_folder(tmp_path, "a.sigmf-data"))
    write_meta(in_folder(tmp_path, "a.sigmf-meta"), datatype)
    x = frames_of(recordings(tmp_path))["x"]
    np.testing.assert_array_equal(torch.view_as_real(x).numpy().reshape(-1, 2), (numbers / scale).astype(np.float32))


def write_meta(path: Path, datatype: str = "cf32_le", **sections: Any) -> None:
    settings = {"core:datatype": datatype, "core:sample_rate": 1e6, "core:version": "1.0.0"}
    content = {"global": settings, "captures": [{"core:sample_start": 0}], "annotations": [], **sections}
    path.write_text(json.dumps(content))


def annotation(start: int, count: int | None, label: str, snr_db: float | None) -> dict[str, Any]:
    entry = {"core:sample_start": start, "core:sample_count": count, "core:label": label}
    return {**entry, "capture_details:SNRdB": snr_db}


def test_annotations_label_stretches_of_a_recording(tmp_path: Path) -> None:
    x = signal(100)
    x.tofile(tmp_path / "a.sigmf-data")
    noted = [annotation(60, None, "16-QAM", 6.0), annotation(3, 20, "QPSK", -2.0), {"core:sample_start": 0}]
    write_meta(tmp_path / "a.sigmf-meta", annotations=noted)
    data = recordings(tmp_path)
    assert (data.spec.class_names, data.spec.snr_db) == (("16QAM", "QPSK"), (-2.0, 6.0))
    assert data.spec.sample_rate_hz == 1_000_000
    batch = frames_of(data)
    starts = [3, 11, 60, 68, 76, 84, 92]
    np.testing.assert_array_equal(batch["x"].numpy(), np.stack([x[start : start + 8] for start in starts]))
    assert batch["y"].tolist() == [[1, 0]] * 2 + [[0, 1]] * 5


def test_without_annotations_no_frame_crosses_a_capture(tmp_path: Path) -> None:
    signal(40).tofile(in_folder(tmp_path, "a.sigmf-data"))
    write_meta(in_folder(tmp_path, "a.sigmf-meta"), captures=[{"core:sample_start": 20}, {"core:sample_start": 0}])
    data = recordings(tmp_path)
    frames_of(data)
    assert data.frames.store.start.tolist() == [0, 8, 20, 28]


def absolute(offset: Any) -> dict[str, Any]:
    return {"global": {"core:datatype": "cf32_le", "core:offset": offset}}


def test_samples_are_counted_from_the_offset_of_the_recording(tmp_path: Path) -> None:
    x = signal(40)
    x.tofile(tmp_path / "a.sigmf-data")
    noted = [annotation(1000, 16, "QPSK", 1), annotation(1017, None, "BPSK", 1)]
    captures = [{"core:sample_start": 1000}]
    write_meta(tmp_path / "a.sigmf-meta", annotations=noted, captures=captures, **absolute(1000))
    found = frames_of(recordings(tmp_path))
    np.testing.assert_array_equal(found["x"].numpy(), [x[start : start + 8] for start in (0, 8, 17, 25)])


def test_captures_are_counted_from_the_offset_too(tmp_path: Path) -> None:
    signal(40).tofile(in_folder(tmp_path, "a.sigmf-data"))
    captures = [{"core:sample_start": 1000}, {"core:sample_start": 1020}]
    write_meta(in_folder(tmp_path, "a.sigmf-meta"), captures=captures, **absolute(1000))
    assert recordings(tmp_path).frames.store.start.tolist() == [0, 8, 20, 28]


def test_without_captures_a_recording_begins_at_its_offset(tmp_path: Path) -> None:
    signal(16).tofile(in_folder(tmp_path, "a.sigmf-data"))
    write_meta(in_folder(tmp_path, "a.sigmf-meta"), captures=[], **absolute(1000))
    assert recordings(tmp_path).frames.store.start.tolist() == [0, 8]


def test_annotation_with_the_label_null_is_none(tmp_path: Path) -> None:
    x = signal(32)
    x.tofile(in_folder(tmp_path, "a.sigmf-data"))
    nothing = {**annotation(3, 8, "", 1), "core:label": None}
    write_meta(in_folder(tmp_path, "a.sigmf-meta"), annotations=[nothing, annotation(8, 8, "BPSK", 2)])
    data = recordings(tmp_path)
    assert (data.spec.class_names, data.spec.snr_db) == (("BPSK",), (2.0,))
    write_meta(in_folder(tmp_path, "a.sigmf-meta"), annotations=[nothing])
    data = recordings(tmp_path)
    assert (data.spec.class_names, data.spec.snr_db, len(data.frames)) == (("QPSK",), (10.0,), 4)


def test_folders_and_metadata_beside_a_raw_file(tmp_path: Path) -> None:
    (rails(signal(16)) * 2**15).astype(">i2").tofile(in_folder(tmp_path, "a.sc16"))
    write_meta(in_folder(tmp_path, "a.sigmf-meta"), "ci16_be")
    data = recordings(tmp_path)
    assert (data.spec.class_names, data.spec.snr_db) == (("QPSK",), (10.0,))
    np.testing.assert_array_equal(frames_of(data)["x"].numpy().ravel(), signal(16))


def test_index_table_and_assumed_snr(tmp_path: Path) -> None:
    x = signal(50)
    x.tofile(tmp_path / "a.cf32")
    np.save(tmp_path / "b.npy", x)
    (tmp_path / "index.csv").write_text(
        "file,modulation,snr_db,start,length\na.cf32,QPSK,-4,10,16\na.cf32,BPSK,,30,\nb.npy,GMSK,2.5,,8\n"
    )
    data = recordings(tmp_path, index="index.csv", assumed_snr_db=30.0)
    assert (data.spec.class_names, data.spec.snr_db) == (("BPSK", "GMSK", "QPSK"), (-4.0, 2.5, 30.0))
    batch = frames_of(data)
    found = sorted(zip(batch["y"].tolist(), batch["x"][:, 0].tolist(), strict=True), key=lambda pair: pair[0])
    assert found == [([0, 2], x[30]), ([0, 2], x[38]), ([1, 1], x[0]), ([2, 0], x[10]), ([2, 0], x[18])]


def test_assumed_snr_hides_no_swapped_folders(tmp_path: Path) -> None:
    for level in (0, 10):
        signal(40).tofile(in_folder(tmp_path, "a.cf32", f"SNR_{level}/BPSK"))
    with pytest.raises(UserError, match="'SNR_0' stands in the place of the modulation"):
        recordings(tmp_path, assumed_snr_db=3.0)


def test_classes_that_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    for name in ("BPSK", "bpsk", "QPSK"):
        signal(40).tofile(in_folder(tmp_path, "a.cf32", f"{name}/SNR_0"))
    with pytest.raises(UserError, match=r"the classes BPSK and bpsk differ in their case alone .*Spell them alike"):
        recordings(tmp_path)
    assert recordings(tmp_path, classes=["bpsk", "QPSK"]).spec.class_names == ("QPSK", "bpsk")


def test_frames_of_a_recording_stay_in_one_part(tmp_path: Path) -> None:
    write_many(tmp_path)
    data = recordings(tmp_path, hop=4)
    data.setup()
    owners = {}
    for name, split in data.splits.items():
        owners[name] = {data.frames.store.signals[s].path for s in data.frames.store.signal[split.rows.numpy()]}
        assert len(split) == 9 * len(owners[name])
    assert [len(owner) for owner in owners.values()] == [32, 4, 4]  # of each cell 8, 1 and 1
    assert not owners["train"] & owners["val"] | owners["train"] & owners["test"] | owners["val"] & owners["test"]


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (OneFileWriter("a.hdf5").write, lambda to: one_file(to / "a.hdf5", STANDARD)),
        (SplitWriter().write, lambda to: split_files(to, STANDARD)),
    ],
    ids=["one file", "split files"],
)
def test_copies_of_cut_recordings_are_split_as_the_recordings(tmp_path: Path, write: Callable, read: Callable) -> None:
    write_many(tmp_path / "signals")
    data = recordings(tmp_path / "signals", hop=4)
    write(data, tmp_path / "copy")
    copy = read(tmp_path / "copy")
    for source in (data, copy):
        source.setup()
    for name, split in data.splits.items():
        assert torch.equal(split.ids, copy.splits[name].ids)


def test_ids_of_a_recording_do_not_depend_on_the_others(tmp_path: Path) -> None:
    write_many(tmp_path, n_recordings=3)
    before = recordings(tmp_path)
    signal(40).tofile(in_folder(tmp_path, "0.cf32", "8PSK/SNR_10"))
    after = recordings(tmp_path)
    assert set(before.frames.ids.tolist()) < set(after.frames.ids.tolist())
    assert len(set(after.frames.ids.tolist())) == 13 * 5


def test_fingerprint_tells_other_signals(tmp_path: Path) -> None:
    write_many(tmp_path, n=20_000)  # more than the beginning and the end that are looked at
    path = tmp_path / "QPSK" / "SNR_10" / "3.cf32"
    prints = []
    for x in (signal(20_000, 3), np.roll(signal(20_000, 3), 1), signal(20_000, 4)):
        x.tofile(path)
        data = recordings(tmp_path, n_samples=20_000)
        data.setup()
        prints.append(data.fingerprint())
    assert len(set(prints)) == 3


def test_split_by_time_shares_no_sample(tmp_path: Path) -> None:
    write_many(tmp_path, n_recordings=1, n=400)
    data = recordings(tmp_path, split_by="time", hop=2)
    data.setup()
    samples: dict[str, set[tuple[int, int]]] = {}
    for name, split in data.splits.items():
        store, rows = data.frames.store, split.rows.numpy()
        samples[name] = {
            (s, t + k) for s, t in zip(store.signal[rows], store.start[rows], strict=True) for k in range(8)
        }
        assert split.labels.unique(dim=0).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert not samples["train"] & samples["val"] | samples["train"] & samples["test"] | samples["val"] & samples["test"]
    assert max(t for _, t in samples["train"]) < min(t for _, t in samples["val"])


def test_two_loader_processes_read_recordings(tmp_path: Path) -> None:
    write_many(tmp_path, n_recordings=3)
    data = recordings(tmp_path, num_workers=2)
    data.setup()
    x = torch.cat([batch["x"] for batch in data.test_dataloader()])
    assert torch.equal(x, data.splits["test"].__getitems__(range(len(data.splits["test"])))["x"])


def _empty(root: Path) -> None:
    in_folder(root, "a.cf32").touch()


def _odd(root: Path) -> None:
    np.zeros(17, np.float32).tofile(in_folder(root, "a.cf32"))


def _nan(root: Path) -> None:
    x = signal(32)
    x[20] = np.nan
    x.tofile(in_folder(root, "a.cf32"))


def _no_meta(root: Path) -> None:
    signal(16).tofile(in_folder(root, "a.sigmf-data"))


def _meta(**sections: Any) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        _no_meta(root)
        write_meta(in_folder(root, "a.sigmf-meta"), **sections)

    return write


def _meta_text(text: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        _no_meta(root)
        in_folder(root, "a.sigmf-meta").write_text(text)

    return write


def _npy(array: np.ndarray) -> Callable[[Path], None]:
    return lambda root: np.save(in_folder(root, "a.npy"), array, allow_pickle=True)


def rate(value: float) -> dict[str, Any]:
    return {"global": {"core:datatype": "cf32_le", "core:sample_rate": value}}


TWO = [annotation(0, 10, "QPSK", 1), annotation(8, 8, "BPSK", 1)]
HARMED: list[tuple[Callable[[Path], Any], str]] = [
    (lambda root: None, "no recordings in the folder"),
    (_empty, r"the recording is empty .*a\.cf32"),
    (_odd, r"68 bytes are no whole number of cf32_le samples of 8 bytes .*a\.cf32"),
    (_nan, r"NaN or infinite samples .*a\.cf32, samples from 16"),
    (
        lambda root: signal(16).tofile(in_folder(root, "a.cf32", "SNR_0/BPSK")),
        r"'SNR_0' stands in the place of the modulation .*a\.cf32\)\. Order folders MOD/SNR_s, such as BPSK/SNR_0",
    ),
    (lambda root: signal(16).tofile(root / "a.cf32"), r"nothing says the modulation .*a\.cf32"),
    (lambda root: signal(16).tofile(in_folder(root, "a.cf32", "QPSK")), r"nothing says the SNR .*assumed_snr_db"),
    (lambda root: signal(7).tofile(in_folder(root, "a.cf32")), "7 samples from 0 are less than a frame of 8"),
    (_no_meta, r"nothing says what the samples are; a\.sigmf-meta is missing"),
    (_meta(datatype="cu4_le"), "unknown datatype 'cu4_le' .*Known: cf32_le"),
    (_meta(datatype="rf32_le"), "unknown datatype 'rf32_le'"),
    (_meta(annotations=[annotation(0, 17, "QPSK", 1)]), "samples 0 to 17 are wanted, the recording has 16"),
    (_meta(annotations=[annotation(20, None, "QPSK", 1)]), "are wanted, the recording has 16"),
    (_meta(annotations=[annotation(0, 8, "QPSK", "loud")]), r"the SigMF metadata lack or mistake .*a\.sigmf-meta"),
    (_meta(annotations=[annotation(0, 8.5, "QPSK", 1)]), "lack or mistake core:sample_count: 8.5 is no whole number"),
    (
        _meta(captures=[{"core:sample_start": float("inf")}]),
        "lack or mistake core:sample_start: inf is no whole number",
    ),
    (_meta(**rate(float("nan"))), r"core:sample_rate is nan, no positive number .*a\.sigmf-meta"),
    (_meta(**rate(float("inf"))), r"core:sample_rate is inf, no positive number"),
    (_meta(**rate(0)), r"core:sample_rate is 0, no positive number"),
    (_meta(annotations=[annotation(0, 8, ["QPSK"], 1)]), r"core:label is \['QPSK'\], no text .*a\.sigmf-meta"),
    (_meta(annotations=annotation(0, 8, "QPSK", 1)), r"annotations is no list of objects .*a\.sigmf-meta"),
    (_meta(captures=None), "captures is no list of objects"),
    (_meta(captures=[3]), "captures is no list of objects"),
    (
        _meta(annotations=[annotation(0, 8, "QPSK", 1)], captures=[], **absolute(9)),
        "is 0 in annotations, before the core",
    ),
    (_meta(**absolute(9)), "core:sample_start is 0 in captures, before the core:offset 9"),
    (_meta(**absolute("x")), "the SigMF metadata lack or mistake core:offset: 'x' is no whole number"),
    (_meta(**absolute(-1)), "the SigMF metadata lack or mistake core:offset: -1 is negative"),
    (_meta(annotations=TWO), "the segments at samples 0 and 8 overlap"),
    (_meta(**{"global": {"core:datatype": "cf32_le", "core:num_channels": 2}}), "several channels"),
    (_meta(**{"global": {}}), "the SigMF metadata lack or mistake 'core:datatype'"),
    (_meta_text("{"), r"the SigMF metadata lack or mistake .*a\.sigmf-meta"),
    (_meta_text("[]"), r"the SigMF metadata lack or mistake .*a\.sigmf-meta"),
    (_npy(np.array([{}], dtype=object)), r"not a readable npy file: .*a\.npy"),
    (_npy(np.zeros((3, 3))), r"the array is float64 \(3, 3\), no signal"),
    (_npy(np.zeros(0, complex)), "no signal"),
    (lambda root: in_folder(root, "a.npy").write_bytes(b"\x93NUMPY\x01\x00"), "not a readable npy file"),
]


@pytest.mark.parametrize(("harm", "message"), HARMED, ids=[message[:40] for _, message in HARMED])
def test_bad_recordings_are_named_in_one_line(tmp_path: Path, harm: Callable[[Path], Any], message: str) -> None:
    harm(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        frames_of(recordings(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,modulation\na.cf32,QPSK\n", "the index has no column file"),
        ("file,modulation,snr_db\n", "the index has no rows"),
        ("file,modulation,snr_db\nb.cf32,QPSK,1\n", r"there is no file 'b\.cf32' .*line 2"),
        ("file,modulation,snr_db\na.cf32,QPSK,loud\n", r"snr_db 'loud' is no number .*line 2"),
        ("file,modulation,snr_db\na.cf32,QPSK,nan\n", r"snr_db 'nan' is no finite number .*line 2"),
        ("file,modulation,snr_db,start\na.cf32,QPSK,1,inf\n", r"start 'inf' is no finite number .*index\.csv, line 2"),
        ("file,modulation,snr_db,start\na.cf32,QPSK,1,nan\n", r"start 'nan' is no finite number .*line 2"),
        ("file,modulation,snr_db,start,length\na.cf32,QPSK,1,0,8.5\n", r"length '8\.5' is no whole number .*line 2"),
        ("file,modulation,snr_db\na.cf32,,1\n", r"nothing says the modulation .*line 2"),
        ("file,modulation,snr_db,start,length\na.cf32,QPSK,1,0,9\na.cf32,QPSK,1,20,20\n", r"20 to 40 .*line 3"),
        ("file,modulation,snr_db\n\xff", "the index"),
    ],
)
def test_bad_index_names_the_line(tmp_path: Path, table: str, message: str) -> None:
    signal(32).tofile(tmp_path / "a.cf32")
    (tmp_path / "index.csv").write_text(table, encoding="latin1")
    with pytest.raises(UserError, match=message):
        recordings(tmp_path, index="index.csv")


def test_missing_index(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the index cannot be read: .*data\.index"):
        recordings(tmp_path, index="index.csv")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_samples": 0}, r"n_samples must be at least 1, got 0 \(data\.n_samples\)"),
        ({"hop": 0}, r"hop must be at least 1"),
        ({"split_by": "frame"}, "unknown split_by 'frame' .*recording, time"),
        ({"split_by": "time", "split_file": "a.npz"}, "a split by time is kept in no file"),
    ],
)
def test_wrong_options_of_cutting(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_many(tmp_path, n_recordings=1)
    with pytest.raises(UserError, match=message):
        recordings(tmp_path, **changes).setup()


def npz(root: Path, **changes: Any) -> IqNpz:
    return IqNpz(**{"root": str(root), "file": "a.npz", **CUT, "split_by": "time", **STORED, **changes})


def arrays() -> dict[str, np.ndarray]:
    iq = np.stack([signal(80, seed) for seed in range(4)])
    classes = np.array(["QPSK", "16-QAM"])
    return {"iq": iq, "label": np.array([0, 0, 1, 1]), "snr_db": np.array([-5, 5, -5, 5]), "classes": classes}


def test_rows_of_an_npz_are_cut_and_split_by_time(tmp_path: Path) -> None:
    held = arrays()
    np.savez(tmp_path / "a.npz", **held)
    data = npz(tmp_path)
    assert (data.spec.class_names, data.spec.snr_db) == (("16QAM", "QPSK"), (-5.0, 5.0))
    data.setup()
    batch = data.splits["test"].__getitems__(range(4))
    np.testing.assert_array_equal(batch["x"].numpy(), held["iq"][:, 72:])
    assert batch["y"].tolist() == [[1, 0], [1, 1], [0, 0], [0, 1]]
    assert data.splits["train"].ids.tolist() == [10 * row + k for row in range(4) for k in range(8)]


def test_levels_of_float32_are_chosen_by_what_they_print_as(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{**arrays(), "snr_db": np.array([2.3, 5, 2.3, 5], np.float32)})
    assert len(npz(tmp_path, snr_db=[2.3]).frames) == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"snr_db": np.array([np.nan, 5, 2, 5])}, "the arrays are no signals"),
        ({"iq": None}, "not a readable npz file of signals: .*iq"),
        ({"iq": np.zeros((4, 80))}, "the arrays are no signals with labels: iq float64"),
        ({"label": np.zeros(3, int)}, "the arrays are no signals"),
        ({"label": np.array([0, 0, 1, 2])}, "labels 0 to 2, but 2 classes"),
        ({"classes": np.array([{}], dtype=object)}, "not a readable npz"),
        ({"iq": np.zeros((4, 5), complex)}, "rows of 5 samples are shorter than a frame of 8"),
    ],
)
def test_bad_npz_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    held = {name: array for name, array in {**arrays(), **change}.items() if array is not None}
    np.savez(tmp_path / "a.npz", **held)
    with pytest.raises(UserError, match=message) as caught:
        npz(tmp_path)
    assert "\n" not in str(caught.value)
    assert "a.npz" in str(caught.value)


def test_missing_npz(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailableError, match=r"there is no file a\.npz"):
        npz(tmp_path)


@pytest.mark.shared_data
@pytest.mark.skipif(not AWGN.is_dir(), reason="the shared data folder is not there")
def test_real_signals_have_the_snr_of_their_labels() -> None:
    data = npz(AWGN, file="awgn3_symbols.npz", n_samples=1024)
    assert data.spec.class_names == ("16QAM", "64QAM", "QPSK")
    data.setup()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 180, "val": 30, "test": 30}
    batch = data.splits["train"].__getitems__(range(180))
    batch = data.preprocess(batch)
    for modulation, name in enumerate(data.spec.class_names):
        of_class = batch["x"][(batch["y"][:, 0] == modulation) & (batch["y"][:, 1] == 9)]  # 30 dB
        points = {"16QAM": 10, "64QAM": 42, "QPSK": 2}[name] ** 0.5 * torch.view_as_real(of_class)
        nearest = 2 * torch.round((points - 1) / 2) + 1
        noise_db = 10 * torch.log10((points - nearest).square().mean() / points.square().mean())
        assert noise_db == pytest.approx(-30, abs=0.3)
