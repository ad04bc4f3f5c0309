"""Places that a conversion cannot write to: one line, and nothing that would be taken for whole."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from radio_files import STANDARD, one_file, split_files, write_one_file

from cvkan.domains.radio.convert import LayoutWriter, OneFileWriter, SplitWriter
from cvkan.domains.radio.png_writer import PngTreeWriter
from cvkan.errors import UserError
from cvkan.radio.images import Histogram

WRITERS = [SplitWriter(), OneFileWriter("b.hdf5"), PngTreeWriter(Histogram(6, 3.0, 8), 2)]


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: type(writer).__name__)
@pytest.mark.parametrize(
    ("to", "reason"),
    [
        ("file", "File exists"),
        ("file/x", "Not a directory"),
        ("/dev/null/x", "Not a directory"),
        ("/proc/x", "No such"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, writer: LayoutWriter, to: str, reason: str) -> None:
    write_one_file(tmp_path / "a.hdf5")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"the data cannot be written: {reason}.*\(.*{to}.*\)\. .*to=DIR") as caught:
        writer.write(one_file(tmp_path / "a.hdf5"), tmp_path / to)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("writer", [SplitWriter(), PngTreeWriter(Histogram(6, 3.0, 8), 2)], ids=["split", "images"])
def test_a_folder_that_another_process_writes_is_left_alone(tmp_path: Path, writer: LayoutWriter) -> None:
    write_one_file(tmp_path / "a.hdf5")
    data, to = one_file(tmp_path / "a.hdf5"), tmp_path / "to"
    to.mkdir()
    with (
        FileLock(to / ".writing.lock"),
        pytest.raises(UserError, match=r"another process is writing this folder \(.*to\)"),
    ):
        writer.write(data, to)
    writer.write(data, to)
    assert not [path for path in to.iterdir() if path.is_file() and path.name != "constellations.json"]


def test_a_split_file_stands_beside_no_recording(tmp_path: Path) -> None:
    write_one_file(tmp_path / "a.hdf5")
    signal = tmp_path / "to/QPSK/SNR_10/signal.npy"
    signal.parent.mkdir(parents=True)
    signal.touch()
    with pytest.raises(UserError, match=r"the folder holds other data \(.*signal.npy\)"):
        SplitWriter().write(one_file(tmp_path / "a.hdf5"), tmp_path / "to")
    assert [path for path in (tmp_path / "to").rglob("*") if path.is_file()] == [signal]


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 8 KB, as on a disk that fills up."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("writer", [SplitWriter(), OneFileWriter("b.hdf5")], ids=["split", "one file"])
def test_a_full_disk_leaves_nothing_that_is_taken_for_whole(
    tmp_path: Path, writer: LayoutWriter, request: pytest.FixtureRequest
) -> None:
    write_one_file(tmp_path / "a.hdf5")
    data = one_file(tmp_path / "a.hdf5")
    assert len(data.frames) == 90
    request.getfixturevalue("small_files")
    with pytest.raises(UserError, match=r"the data cannot be written: File too large .*Make room"):
        writer.write(data, tmp_path / "to")
    assert not list((tmp_path / "to").rglob("*.h*5"))
    if list((tmp_path / "to").iterdir()):
        with pytest.raises(UserError, match="was not finished"):
            split_files(tmp_path / "to", STANDARD)
