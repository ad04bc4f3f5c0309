"""What ``cvkan-doctor`` looks at: whatever a training needs of the machine it runs on."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import cast

import torch
from omegaconf import DictConfig, OmegaConf

from cvkan import build
from cvkan.errors import UserError
from cvkan.loggers import has_api_key

PACKAGES = ("cvkan", "torch", "torchvision", "torchaudio", "lightning", "torchmetrics", "hydra-core", "wandb")
EXTRAS = {
    "optimizers": "pytorch_optimizer",
    "parallel": "hydra_plugins.hydra_joblib_launcher",
    "slurm": "hydra_plugins.hydra_submitit_launcher",
    "optuna": "optuna",
    "wandb-dash": "wandb_workspaces",
    "torchsig": "torchsig",
}
LEAST_FREE = 1e9  # bytes: below it a run may not be able to write its checkpoints
PLACES = ("root", "path")  # keys of a source that say where its files are


@dataclass(frozen=True)
class Finding:
    """One line of the screen.

    Attributes:
        part: lines of one part stand together.
        name: what was looked at.
        value: what was found.
        fix: what to do where it keeps a training from running; empty where all is well.
    """

    part: str
    name: str
    value: str
    fix: str = ""


def examine(root: Path) -> Iterator[Finding]:
    """All findings, part by part.

    Args:
        root: folder that data sets are looked for in.
    """
    yield from packages()
    yield from devices()
    yield from sources(root)
    yield from surroundings(Path.cwd())


def packages() -> Iterator[Finding]:
    """Versions of what cvkan stands on, and the extras that are installed."""
    yield Finding("packages", "python", f"{platform.python_version()} ({platform.platform(terse=True)})")
    for name in PACKAGES:
        try:
            found, fix = version(name), ""
        except PackageNotFoundError:
            found, fix = "not installed", "Install cvkan again with its requirements."
        yield Finding("packages", name, found, fix)
    # They are released together and link each other's libraries: another torch breaks them as they are imported.
    for name in ("torchvision", "torchaudio"):
        try:
            importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            yield Finding("packages", f"import {name}", reason, "Install the pinned versions of all three.")
    installed = [extra for extra, module in EXTRAS.items() if is_there(module)]
    yield Finding("packages", "extras", ", ".join(installed) or "none")


def is_there(module: str) -> bool:
    """Could a module be imported? Its parent package may be missing too."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def devices() -> Iterator[Finding]:
    """What computes, and in which precisions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("devices", "cpu", f"{platform.machine()}, {cores} cores, {torch.get_num_threads()} threads of torch")
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        yield Finding("devices", f"cuda:{index}", f"{about.name}, {about.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        yield Finding("devices", "cuda", "none")
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps", "available")
    precisions = ["32-true", "bf16-mixed", "16-mixed"]
    slow = "" if has_fast_half() else " (the last two work here, without being faster)"
    yield Finding("devices", "precisions", ", ".join(precisions) + slow)
    compiler = shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
    yield Finding("devices", "model.compile", f"with {compiler}" if compiler else "no C++ compiler: leave it false")


def has_fast_half() -> bool:
    """Does the hardware multiply matrices in half precision?"""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) if torch.backends.mkldnn.is_available() else False


def sources(root: Path) -> Iterator[Finding]:
    """Of every data source, whether it needs a file or a package, and whether that is there: the file in ``root``."""
    embedded: dict[str, list[str]] = {}
    absent: dict[str, list[str]] = {}
    for path in sorted(Path(str(files("cvkan.conf"))).glob("data/*.yaml")):
        node = OmegaConf.load(path)
        assert isinstance(node, DictConfig)
        domain = str(node["_target_"]).split(".")[2]
        if path.stem in EXTRAS:  # made by the package of the same name
            extra = f"not installed: pip install 'cvkan[{path.stem}]'"
            found = f"installed: domain={domain}" if is_there(EXTRAS[path.stem]) else extra
            yield Finding("data", f"data={path.stem}", found)
        elif node.keys().isdisjoint(PLACES):
            embedded.setdefault(domain, []).append(path.stem)
        elif (folder := folder_of(root, node, domain)) is not None:
            yield Finding("data", f"data={path.stem}", f"found: domain={domain} data.root={folder}")
        else:
            absent.setdefault(domain, []).append(path.stem)
    for domain, names in embedded.items():
        yield Finding("data", f"{domain}, no file needed", ", ".join(names))
    for domain, names in absent.items():
        yield Finding("data", f"{domain}, not in {root}", ", ".join(names))


def folder_of(root: Path, node: DictConfig, domain: str) -> Path | None:
    """The folder, this one or one in it, that a source finds its files in; None if there is none.

    Nothing is fetched, and no more is read than it takes to tell.

    Args:
        root: the folder.
        node: config of the source.
        domain: the domain it belongs to.
    """
    if node.keys().isdisjoint({"root"}) or not root.is_dir():  # "in" is false for a value that is not set
        return None
    settings = cast(DictConfig, OmegaConf.load(str(files("cvkan.conf") / "domain" / f"{domain}.yaml")))
    for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        node["root"] = str(folder)
        whole = OmegaConf.create({"data": node, "seed": 0, "domain": settings.get("domain", {})})
        try:
            build.build_data(whole).prepare_data()
        except UserError:
            continue
        return folder
    return None


def surroundings(folder: Path) -> Iterator[Finding]:
    """Where runs are written, and where they are logged.

    Args:
        folder: the current one, which ``outputs`` is made in.
    """
    free = shutil.disk_usage(folder).free
    fix = f"Free some space, or work in another folder than {folder}." if free < LEAST_FREE else ""
    yield Finding("surroundings", "disk", f"{free / 1e9:.1f} GB free in {folder}", fix)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Finding("surroundings", "runs", f"{error.strerror} in {folder}", "Work in a folder of your own.")
    mode = os.environ.get("WANDB_MODE") or ("online, there is a key" if has_api_key() else "offline, there is no key")
    yield Finding("surroundings", "logger=wandb", mode)
