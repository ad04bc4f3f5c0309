"""Conversion between layouts: nothing is lost, nothing is half there, an interrupted one goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from radio_files import LAYOUT, N_SAMPLES, STANDARD, STORED, one_file, signals, split_files, write_one_file, write_split

from cvkan.domains.image.digits import Digits
from cvkan.domains.radio import convert
from cvkan.domains.radio.convert import OneFileWriter, SplitWriter
from cvkan.domains.radio.iq_npz import IqNpz
from cvkan.domains.radio.layout import CellLayout, LayoutOptions, cell_file
from cvkan.domains.radio.source import source_of
from cvkan.domains.radio.synth import RadioSynth
from cvkan.domains.radio.target import UNFINISHED
from cvkan.errors import UserError

ONE = OneFileWriter("a.hdf5")


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path, "r") as file:
        return {name: file[name][:] for name in file}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == ["X", "Y", "Z", "id"]
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_one_file_to_split_and_back_is_the_same_bits(tmp_path: Path) -> None:
    arrays = write_one_file(tmp_path / "a.hdf5")
    SplitWriter().write(one_file(tmp_path / "a.hdf5"), tmp_path / "split")
    first = LAYOUT.first_row("8PSK", -2)
    cell = slice(first, first + 10)
    assert_same(
        arrays_of(tmp_path / "split" / "8PSK" / "SNR_-2" / "8PSK_SNR_-2.h5"),
        {name: array[cell] for name, array in arrays.items()},
    )
    # What was written tells its own layout.
    split = split_files(tmp_path / "split", STANDARD)
    ONE.write(split, tmp_path / "back")
    assert_same(arrays_of(tmp_path / "back" / "a.hdf5"), arrays)
    back = one_file(tmp_path / "back" / "a.hdf5", STANDARD)
    assert back.layout() == LAYOUT
    split.setup()
    back.setup()
    for name in ("train", "val", "test"):
        assert torch.equal(split.splits[name].ids, back.splits[name].ids)


def test_a_subset_keeps_its_ids_in_split_files_and_is_whole_in_one_file(tmp_path: Path) -> None:
    arrays = write_one_file(tmp_path / "a.hdf5")
    chosen = one_file(tmp_path / "a.hdf5", classes=["16QAM", "QPSK"], snr_db=[0, 4])
    SplitWriter().write(chosen, tmp_path / "split")
    assert len(list((tmp_path / "split").rglob("*.h5"))) == 4
    split = split_files(tmp_path / "split", STANDARD)
    assert torch.equal(split.frames.ids, chosen.frames.ids)
    ONE.write(split, tmp_path / "one")
    assert one_file(tmp_path / "one" / "a.hdf5", STANDARD).layout() == CellLayout(("QPSK", "16QAM"), (4.0, 0.0), 10)
    rows = [m * 30 + s * 10 + i for m in (0, 2) for s in (0, 2) for i in range(10)]
    np.testing.assert_array_equal(arrays_of(tmp_path / "one" / "a.hdf5")["X"], arrays["X"][rows])


def test_copies_of_a_subset_are_cut_as_the_original(tmp_path: Path) -> None:
    arrays = write_one_file(tmp_path / "a.hdf5")
    chosen = one_file(tmp_path / "a.hdf5", classes=["16QAM"], snr_db=[0, 4])
    ONE.write(chosen, tmp_path / "one")
    copy = one_file(tmp_path / "one" / "a.hdf5", STANDARD)
    SplitWriter().write(copy, tmp_path / "split")  # a copy of a copy: its own rows are others
    chosen.setup()
    for data in (copy, split_files(tmp_path / "split", STANDARD)):
        data.setup()
        for name, part in chosen.splits.items():
            assert torch.equal(data.splits[name].ids, part.ids)
            batch = data.splits[name].__getitems__(range(len(part)))
            expected = torch.view_as_complex(torch.from_numpy(arrays["X"][part.ids.numpy()]))
            assert torch.equal(batch["x"], expected)


def test_a_source_with_other_signals_is_not_taken_for_the_converted_one(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    write_split(tmp_path / "cells")
    for writer, name in ((SplitWriter(), "split"), (ONE, "one")):
        writer.write(one_file(tmp_path / "a.hdf5"), tmp_path / name)
        writer.write(split_files(tmp_path / "cells"), tmp_path / f"{name} of cells")
    write_one_file(tmp_path / "a.hdf5", X=-signals(90))  # same labels, same size
    with h5py.File(tmp_path / "cells" / cell_file("8PSK", 0), "r+") as file:
        file["X"][:] = -file["X"][:]
    for writer, name in ((SplitWriter(), "split"), (ONE, "one")):
        with pytest.raises(UserError, match="was not made from this data"):
            writer.write(one_file(tmp_path / "a.hdf5"), tmp_path / name)
        with pytest.raises(UserError, match="was not made from this data"):
            writer.write(split_files(tmp_path / "cells"), tmp_path / f"{name} of cells")


@pytest.mark.parametrize("writer", [SplitWriter(), ONE])
def test_copies_tell_what_their_snr_means(tmp_path: Path, writer: convert.LayoutWriter) -> None:
    writer.write(generated(), tmp_path)
    data = one_file(tmp_path / "a.hdf5", STANDARD) if writer is ONE else split_files(tmp_path, STANDARD)
    assert data.snr_definition == "es_n0"
    data.setup()  # the ids of generated frames repeat in every part and are not written
    assert data.frames.ids.tolist() == list(range(16))
    for other, to in ((ONE, "one"), (SplitWriter(), "split")):
        other.write(data, tmp_path / to)
    assert one_file(tmp_path / "one" / "a.hdf5", STANDARD).snr_definition == "es_n0"
    assert split_files(tmp_path / "split", STANDARD).snr_definition == "es_n0"
    write_one_file(tmp_path / "unknown.hdf5")
    assert one_file(tmp_path / "unknown.hdf5").snr_definition is None


def test_interrupted_split_goes_on_and_leaves_whole_cells_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_one_file(tmp_path / "a.hdf5")
    written = interrupt_after(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        SplitWriter().write(one_file(tmp_path / "a.hdf5"), tmp_path / "split")
    there = sorted((tmp_path / "split").rglob("*.h5"))
    assert sorted((tmp_path / "split").rglob("*.*")) == sorted([*there, tmp_path / "split" / UNFINISHED])
    assert len(there) == 4  # whole files alone
    with pytest.raises(UserError, match=r"was not finished \(.*split\)\. Run the same cvkan-data convert again"):
        split_files(tmp_path / "split", STANDARD)
    before = {path: path.stat().st_mtime_ns for path in there}
    (there[0].parent / f".{there[0].name}.1.tmp").write_bytes(b"half")  # what a killed process leaves
    missing = there.pop()
    missing.unlink()
    (missing.parent / f".{missing.name}.1.tmp").write_bytes(b"half")
    monkeypatch.undo()
    SplitWriter().write(one_file(tmp_path / "a.hdf5"), tmp_path / "split")
    assert {path: path.stat().st_mtime_ns for path in there}.items() < before.items()
    assert len(written) == 4
    assert len(split_files(tmp_path / "split", STANDARD).frames) == 90
    assert not (tmp_path / "split" / UNFINISHED).exists()
    assert not list(missing.parent.glob(".*"))


def test_other_cells_are_not_written_among_those_that_are_there(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    SplitWriter().write(one_file(tmp_path / "a.hdf5", classes=["QPSK"]), tmp_path / "split")
    names = sorted((tmp_path / "split").rglob("*"))
    with pytest.raises(UserError, match="a file that was not made from this data"):
        SplitWriter().write(one_file(tmp_path / "a.hdf5", classes=["8PSK"]), tmp_path / "split")
    assert sorted((tmp_path / "split").rglob("*")) == names  # and the copy stays whole
    folder = tmp_path / "png" / "QPSK" / "SNR_0"
    folder.mkdir(parents=True)
    (folder / "grayscale_QPSK_SNR_0_sample_0.png").touch()
    with pytest.raises(UserError, match="the folder holds other data"):
        SplitWriter().write(one_file(tmp_path / "a.hdf5"), tmp_path / "png")


def test_interrupted_one_file_takes_its_name_only_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = write_split(tmp_path / "split")
    interrupt_after(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        ONE.write(split_files(tmp_path / "split"), tmp_path / "one")
    assert [path.name for path in (tmp_path / "one").iterdir()] == [".a.hdf5.partial"]
    monkeypatch.undo()
    written = interrupt_after(9, monkeypatch)
    ONE.write(split_files(tmp_path / "split"), tmp_path / "one")
    assert len(written) == 5  # the cells that were left
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["a.hdf5"]
    assert_same(arrays_of(tmp_path / "one" / "a.hdf5"), arrays)


def interrupt_after(n_cells: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let a Ctrl-C come when the data of one cell more are asked for; returns the cells asked for before."""
    written: list[str] = []
    arrays = convert.Source.arrays

    def counted(self: Any, *cell: Any) -> dict[str, np.ndarray]:
        if len(written) == n_cells:
            raise KeyboardInterrupt
        written.append(cell[1])
        return arrays(self, *cell)

    monkeypatch.setattr(convert.Source, "arrays", counted)
    return written


@pytest.mark.parametrize("left", [b"", b"no HDF5 at all"])
def test_unusable_rest_of_another_conversion_is_begun_anew(tmp_path: Path, left: bytes) -> None:
    arrays = write_split(tmp_path / "split")
    (tmp_path / ".a.hdf5.partial").write_bytes(left)
    ONE.write(split_files(tmp_path / "split"), tmp_path)
    assert_same(arrays_of(tmp_path / "a.hdf5"), arrays)


def test_rest_of_other_data_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_split(tmp_path / "split")
    interrupt_after(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        ONE.write(split_files(tmp_path / "split"), tmp_path)
    monkeypatch.undo()
    ONE.write(split_files(tmp_path / "split", classes=["8PSK"]), tmp_path)
    assert len(arrays_of(tmp_path / "a.hdf5")["X"]) == 30


def test_written_again_changes_nothing_and_other_data_are_not_written_over(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    data, other = one_file(tmp_path / "a.hdf5"), one_file(tmp_path / "a.hdf5", snr_db=[0])
    for writer, name in ((SplitWriter(), "QPSK/SNR_0/QPSK_SNR_0.h5"), (ONE, "a.hdf5")):
        writer.write(data, tmp_path / "to")
        before = (tmp_path / "to" / name).stat().st_mtime_ns
        writer.write(data, tmp_path / "to")
        with pytest.raises(UserError, match=r"a file that was not made from this data, .*Set to=DIR"):
            writer.write(other, tmp_path / "to")
        assert (tmp_path / "to" / name).stat().st_mtime_ns == before
    with pytest.raises(UserError, match="was not made from this data"):
        ONE.write(data, tmp_path)  # the source itself


def test_nan_frame_leaves_no_cell_and_no_file(tmp_path: Path) -> None:
    x = signals(90)
    x[LAYOUT.first_row("8PSK", 0) + 3] = np.nan
    write_one_file(tmp_path / "a.hdf5", X=x)
    data = one_file(tmp_path / "a.hdf5")
    for writer in (SplitWriter(), ONE):
        with pytest.raises(UserError, match=r"NaN or infinite samples .*a\.hdf5, row \d+"):
            writer.write(data, tmp_path / "to")
    assert not (tmp_path / "to" / "a.hdf5").exists()
    assert not (tmp_path / "to" / cell_file("8PSK", 0)).exists()
    with pytest.raises(UserError, match="was not finished"):
        split_files(tmp_path / "to", STANDARD)


def test_cells_of_unequal_size_fit_no_single_file(tmp_path: Path) -> None:
    write_split(tmp_path / "split")
    (tmp_path / "split" / cell_file("8PSK", 0)).unlink()
    (tmp_path / "split" / "8PSK" / "SNR_0").rmdir()
    with pytest.raises(UserError, match=r"8 of 9 cells hold 10 to 10 frames .*layout=rml_split"):
        ONE.write(split_files(tmp_path / "split"), tmp_path)
    SplitWriter().write(split_files(tmp_path / "split"), tmp_path / "copy")
    assert len(list((tmp_path / "copy").rglob("*.h5"))) == 8


def test_signals_without_a_layout_get_one(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    iq = (generator.standard_normal((4, 40)) + 1j).astype(np.complex64)
    labels = {"label": np.array([0, 0, 1, 1]), "snr_db": np.array([5.5, -5, 5.5, -5])}
    np.savez(tmp_path / "a.npz", iq=iq, classes=np.array(["16QAM", "BPSK"]), **labels)
    data = IqNpz(root=str(tmp_path), file="a.npz", n_samples=8, hop=None, split_by="time", **STORED)
    ONE.write(data, tmp_path)
    written = one_file(tmp_path / "a.hdf5", STANDARD)
    assert written.layout() == CellLayout(("BPSK", "16QAM"), (-5.0, 5.5), 5)  # the order of the published labels
    found = torch.view_as_complex(torch.from_numpy(arrays_of(tmp_path / "a.hdf5")["X"]))
    np.testing.assert_array_equal(found.numpy().reshape(4, 40), iq[[3, 2, 1, 0]])


def test_generated_frames_are_written_part_after_part(tmp_path: Path) -> None:
    data = generated()
    SplitWriter().write(data, tmp_path)
    expected = torch.cat([split.__getitems__(range(len(split)))["x"][::2] for split in data.splits.values()])
    found = arrays_of(tmp_path / cell_file("BPSK", 0))["X"]
    np.testing.assert_array_equal(found, torch.view_as_real(expected).numpy())
    assert split_files(tmp_path, LayoutOptions(None, None, None)).spec.input_shape == (N_SAMPLES,)


def generated() -> RadioSynth:
    from cvkan.radio.generator import FrameGenerator

    def generator(classes: list[str]) -> FrameGenerator:
        switched_off = {"random_phase": False, "random_timing": False, "fading": None, "multipath": None}
        return FrameGenerator(
            classes=classes,
            n_samples=N_SAMPLES,
            samples_per_symbol=8,
            snr_definition="es_n0",
            rolloff=[0.2, 0.2],
            span=4,
            carrier_offset_std=0.0,
            clock_offset_std=0.0,
            **switched_off,
        )

    loading = {name: STORED[name] for name in ("normalization", "batch_size", "num_workers", "seed", "limit_train")}
    sizes = {"n_train": 8, "n_val": 4, "n_test": 4, "data_seed": 0, "stream": True}
    return RadioSynth(classes=["BPSK", "QPSK"], snr_db=[0], generator=generator, **sizes, **loading)


def test_a_source_without_frames_is_refused() -> None:
    loading = {"batch_size": 4, "num_workers": 0, "seed": 0, "limit_train": None}
    with pytest.raises(UserError, match=r"Digits holds no I/Q frames \(data\)"):
        source_of(Digits(split_seed=0, **loading))
