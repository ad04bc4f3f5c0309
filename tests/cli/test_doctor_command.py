"""``cvkan-doctor``: what it finds, and that it tells a machine where training cannot run."""

from __future__ import annotations

import importlib
import pickle
import shutil
from collections import namedtuple
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import Result

from cvkan import doctor
from cvkan.errors import UserError

DoctorCommand = Callable[..., Result]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def doctor_here(command_here: DoctorCommand) -> DoctorCommand:
    """``cvkan-doctor`` in this process, in the empty folder ``tmp_path``."""
    from cvkan.cli import doctor as command

    return partial(command_here, command)


def test_a_machine_that_runs_the_tests_is_well(doctor_here: DoctorCommand) -> None:
    result = doctor_here()
    assert result.code == 0, result.err
    for text in (torch.__version__.split("+")[0], "precisions", "bf16-mixed", "digits", "logger=wandb", "GB free"):
        assert text in result.out
    assert "[torchsig]" in result.out or "installed: domain=radio" in result.out  # brackets are no markup
    assert list(Path().iterdir()) == []


def test_a_full_disk_is_a_fault(doctor_here: DoctorCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(1e10, 1e10, 5e8))
    result = doctor_here()
    assert result.code == UserError.exit_code
    assert result.err.startswith("error: disk: 0.5 GB free")
    assert result.err.count("\n") == 1


def test_a_torchaudio_of_another_torch_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> object:
        if name == "torchaudio":
            raise RuntimeError("Detected that PyTorch and TorchAudio were compiled\nwith different CUDA versions")
        return real(name)

    real = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", refuse)
    (fault,) = [finding for finding in doctor.packages() if finding.fix]
    assert (fault.name, fault.value.count("\n")) == ("import torchaudio", 0)


@pytest.mark.parametrize(
    ("module", "value"),
    [("math", "installed: domain=radio"), ("no_such", "not installed: pip install 'cvkan[torchsig]'")],
)
def test_source_of_a_package_says_whether_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, value: str
) -> None:
    monkeypatch.setitem(doctor.EXTRAS, "torchsig", module)
    found = {finding.name: finding.value for finding in doctor.sources(tmp_path)}
    assert found["data=torchsig"] == value
    assert "torchsig" not in found["radio, no file needed"]


def test_sources_are_found_where_their_files_are(tmp_path: Path) -> None:
    def found() -> dict[str, str]:
        return {finding.name: finding.value for finding in doctor.sources(tmp_path)}

    assert "data=rml2016" not in found()
    (tmp_path / "RML2016.10a_dict.pkl").write_bytes(pickle.dumps({}))
    assert "data=sst2" not in found()
    (tmp_path / "train.tsv").write_text("sentence\tlabel\n")
    assert found()["data=sst2"] == f"found: domain=text data.root={tmp_path}"
    (tmp_path / "ett").mkdir()
    (tmp_path / "ett/ETTh1.csv").touch()
    assert found()["data=etth1"] == f"found: domain=timeseries data.root={tmp_path}/ett"
    for domain, names in found().items():
        if domain.endswith("no file needed"):
            assert "rml2018" not in names
            assert "image_folder" not in names
