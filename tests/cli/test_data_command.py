"""``cvkan-data``: what it prints and writes, and every fault of a person's input in one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import Result

DataCommand = Callable[..., Result]
SOURCE = ("data=rml2018", "data.root=set", "data.num_workers=0")


@pytest.fixture
def data_here(command_here: DataCommand) -> DataCommand:
    """``cvkan-data`` in this process, in the empty folder ``tmp_path``."""
    from cvkan.cli import data

    return partial(command_here, data)


def write_set(folder: Path, seed: int = 0) -> np.ndarray:
    """Two modulations at three levels, ten frames of power 4 of each, in one file that tells its layout."""
    folder.mkdir()
    x = np.random.default_rng(seed).standard_normal((60, 32, 2), dtype=np.float32)
    x *= 2 / np.sqrt((x**2).sum(axis=2).mean(axis=1))[:, None, None]
    with h5py.File(folder / "GOLD_XYZ_OSC.0001_1024.hdf5", "w") as file:
        file["X"] = x
        file["Y"] = np.eye(2, dtype=int)[np.arange(60) // 30]
        file["Z"] = np.array([-2, 0, 2])[np.arange(60) // 10 % 3][:, None]
        file.attrs.update(classes=["BPSK", "QPSK"], snr_db=[-2.0, 0.0, 2.0], frames_per_cell=10)
    return x


def assert_refused(result: Result, *said: str) -> None:
    assert result.code == 2, result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    for text in said:
        assert text in result.err


def test_inspect_tells_what_a_set_holds(data_here: DataCommand) -> None:
    write_set(Path("set"))
    result = data_here("inspect", *SOURCE)
    assert result.code == 0, result.err
    for text in (
        "2 modulations x 3 SNRs x 10 frames",
        "complex 32",
        "2 classes",
        "BPSK, QPSK",
        "-2, 0, 2 dB",
        "10 samples",
        "nobody has said",
        "in none of the 60 frames",
        "complex64",
        "4 to 4, mean 4",
        "fingerprint",
    ):
        assert text in result.out
    assert "…" not in result.out
    assert [line.split()[-2] for line in result.out.splitlines() if "samples " in line][:3] == ["48", "6", "6"]
    assert [path.name for path in Path().iterdir()] == ["set"]


def test_inspect_tells_what_the_snr_means(data_here: DataCommand) -> None:
    write_set(Path("set"))
    with h5py.File("set/GOLD_XYZ_OSC.0001_1024.hdf5", "r+") as file:
        file.attrs["snr_definition"] = "es_n0"
    line = next(line for line in data_here("inspect", *SOURCE).out.splitlines() if "snr_definition" in line)
    assert "es_n0" in line


@pytest.mark.parametrize("row", [0, 9])
def test_inspect_looks_at_every_frame(data_here: DataCommand, row: int) -> None:
    write_set(Path("set"))
    with h5py.File("set/GOLD_XYZ_OSC.0001_1024.hdf5", "r+") as file:
        file["X"][row, 5, 0] = np.nan
    assert_refused(data_here("inspect", *SOURCE), "a frame holds NaN or infinite samples", f"1024.hdf5, row {row})")


def test_inspect_takes_sources_of_every_domain(data_here: DataCommand) -> None:
    result = data_here("inspect", "data=digits")
    assert result.code == 0, result.err
    assert "10 classes" in result.out
    assert "uint8" in result.out


def test_prepare_says_what_is_ready(data_here: DataCommand) -> None:
    result = data_here("prepare", "data=digits")
    assert (result.code, result.out) == (0, "Digits is ready\n")
    assert list(Path().iterdir()) == []


def test_convert_there_and_back(data_here: DataCommand) -> None:
    x = write_set(Path("set"))
    result = data_here("convert", *SOURCE, "to=split", "layout=rml_split")
    assert (result.code, result.out) == (0, "written to split\n"), result.err
    assert len(list(Path("split").rglob("*.h5"))) == 6
    back = ("data=rml_split", "data.root=split", "layout=rml2018", "to=back", "layout.file=x.hdf5")
    assert data_here("convert", *back).code == 0
    with h5py.File("back/x.hdf5") as file:
        np.testing.assert_array_equal(file["X"][:], x)
    assert sorted(path.name for path in Path().iterdir()) == ["back", "set", "split"]


def test_convert_does_not_pass_old_signals_off_as_new_ones(data_here: DataCommand) -> None:
    write_set(Path("set"))
    assert data_here("convert", *SOURCE, "to=split", "layout=rml_split").code == 0
    shutil.rmtree("set")
    write_set(Path("set"), seed=1)
    again = data_here("convert", *SOURCE, "to=split", "layout=rml_split")
    assert_refused(again, "a file that was not made from this data", "split/BPSK/SNR_-2", "Set to=DIR")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        pytest.param([], ["no subcommand is given", "prepare, convert, inspect"], id="nothing"),
        pytest.param(["fetch"], ["no subcommand is given", "prepare, convert, inspect"], id="unknown"),
        pytest.param(["inspect", "convert"], ["inspect and convert at once"], id="two"),
        pytest.param(["inspect", "data=foo"], ["data=foo", "rml2018"], id="unknown source"),
        pytest.param(["inspect", "data=rml2018"], ["data.root is not set"], id="no folder"),
        pytest.param(["inspect", "data=rml2018", "data.root=nowhere"], ["no such folder", "nowhere"], id="no such"),
        pytest.param(["inspect", *SOURCE, "data.file=b.h5"], ["no file b.h5", "GOLD"], id="no file"),
        pytest.param(["inspect", *SOURCE, "data.classes=[FOO]"], ["no class 'FOO'", "BPSK, QPSK"], id="class"),
        pytest.param(["inspect", *SOURCE, "data.batch_size=x"], ["data.batch_size must be an integer"], id="type"),
        pytest.param(["inspect", *SOURCE, "data.fil=x"], ["no such key data.fil", "data.file"], id="key"),
        pytest.param(["convert", *SOURCE], ["no folder to write to", "to=DIR"], id="no target"),
        pytest.param(["convert", *SOURCE, "to=x", "layout=zip"], ["layout=zip", "rml2018, rml_split"], id="layout"),
        pytest.param(["convert", "data=digits", "to=x"], ["Digits holds no I/Q frames"], id="no frames"),
        pytest.param(["convert", *SOURCE, "to=x", "image=splat"], ["image", "no effect on this layout"], id="image"),
        pytest.param(["prepare", "data=cifar10", "data.download=true"], ["could not be downloaded"], id="no network"),
    ],
)
def test_fault_is_named_in_one_line(data_here: DataCommand, typed: list[str], said: list[str]) -> None:
    write_set(Path("set"))
    Path("plots").mkdir()  # the user's own, empty
    assert_refused(data_here(*typed), *said)
    assert {"set", "plots"} <= {path.name for path in Path().iterdir()} <= {"set", "plots", "data"}


def test_a_refused_command_leaves_the_empty_folder_it_was_called_in(data_here: DataCommand, tmp_path: Path) -> None:
    assert_refused(data_here("inspect", "data=rml2018", "data.root=nowhere"), "no such folder")
    assert tmp_path.is_dir()


def test_truncated_file_is_named(data_here: DataCommand) -> None:
    write_set(Path("set"))
    path = Path("set/GOLD_XYZ_OSC.0001_1024.hdf5")
    path.write_bytes(path.read_bytes()[:3000])
    assert_refused(data_here("inspect", *SOURCE), "GOLD_XYZ_OSC", "Copy it again")


@pytest.mark.parametrize(
    "code", ["launch('--help')", "launch('convert', '--cfg', 'job')", "launch('inspect', 'data=x')"]
)
def test_help_config_and_mistakes_need_no_torch(code: str, tmp_path: Path) -> None:
    script = f"""
import sys
def launch(*arguments):
    from cvkan.cli import data
    sys.argv = ["cvkan-data", *arguments]
    data.run()
{code}
heavy = {{"torch", "lightning", "numpy", "h5py"}} & sys.modules.keys()
sys.exit(f"loaded {{heavy}}" if heavy else 0)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
