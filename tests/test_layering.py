"""The house keeps its shape: imports go one way, and what needs no torch loads none."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

import cvkan

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cvkan"
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
# What each part of the house may import from the rest of it.
MAY_IMPORT = {
    "core": ("core",),
    "analysis": ("analysis", "core", "spec"),
    "radio": ("radio", "spec", "errors"),
    "poetry": ("poetry", "errors", "csv_cells"),
    "models": ("models", "core", "radio", "poetry", "spec", "errors"),
    "losses": (),
    "reconstruction_loss": (),
    "losses_forecast": (),
    "curriculum": (),
    "tasks": (
        *("tasks", "models", "losses", "losses_forecast", "reconstruction_loss", "curriculum", "core", "spec"),
        *("analysis", "radio", "poetry", "errors"),
        *("plots", "plots_forecast", "plots_poetry", "plots_radio", "plots_text"),
    ),
    "domains": ("domains", "models", "core", "analysis", "radio", "poetry", "spec", "errors", "atomic", "csv_cells"),
    "spec": (),
    "errors": (),
    "atomic": (),
    "csv_cells": (),
    "plots": ("core", "spec"),
    "plots_edges": ("core",),
    "sweeping": ("sweeping", "errors", "atomic"),
    "plots_radio": ("core", "spec"),
    "plots_forecast": (),
    "plots_poetry": (),
    "plots_text": ("plots",),
}
# What a module may import beyond that, inside a function alone: drawing is asked for by hand, training never loads it.
LATE = {"cvkan.core.edge": {"cvkan.plots_edges"}, "cvkan.analysis.polarization": {"cvkan.plots"}}
SHARED_DOMAIN_MODULES = {"datamodule", "loader", "cache", "labels"}
LIGHT = {"__future__", "collections", "contextlib", "dataclasses", "functools", "math", "os", "typing", "torch"}


def imported(path: Path, top_level_only: bool = False) -> set[str]:
    """Full names of what a module imports; ``from a import b`` counts as ``a.b``. Type checking blocks are left out."""
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif not (top_level_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            todo += ast.iter_child_nodes(node)
    return names


def part(name: str) -> str:
    """``cvkan.core.polar.to_polar`` belongs to ``core``."""
    return [*name.split("."), ""][1]


@pytest.mark.parametrize("name", sorted(name for name in MODULES if part(name) in MAY_IMPORT))
def test_imports_go_one_way(name: str) -> None:
    own = {other for other in imported(MODULES[name]) if other.split(".")[0] == "cvkan"}
    forbidden = {other for other in own if part(other) not in MAY_IMPORT[part(name)]} - LATE.get(name, set())
    assert not forbidden, f"{name} may not import {forbidden}"
    early = LATE.get(name, set()) & imported(MODULES[name], top_level_only=True)
    assert not early, f"{name} imports {early} as it is loaded"


def test_core_imports_torch_alone() -> None:
    for name, path in MODULES.items():
        if part(name) == "core":
            others = {other.split(".")[0] for other in imported(path)} - {"cvkan"}
            assert others <= LIGHT, f"{name} imports {others - LIGHT}"


def test_no_domain_imports_another() -> None:
    for name, path in MODULES.items():
        if part(name) == "domains" and name.count(".") > 1:
            allowed = SHARED_DOMAIN_MODULES | {name.split(".")[2]}
            theirs = {other.split(".")[2] for other in imported(path) if other.startswith("cvkan.domains.")}
            assert theirs <= allowed, f"{name} imports {theirs - allowed}"


def test_one_module_instantiates_configs() -> None:
    users = {name for name, path in MODULES.items() if "hydra.utils.instantiate" in imported(path)}
    assert users == {"cvkan.build"}


def test_torchaudio_is_imported_late_and_by_the_audio_domain_alone() -> None:
    for name, path in MODULES.items():
        uses = {other for other in imported(path) if other.split(".")[0] == "torchaudio"}
        early = {other for other in imported(path, top_level_only=True) if other.split(".")[0] == "torchaudio"}
        assert not early, f"{name} imports torchaudio as it is loaded"
        assert not uses or name.startswith("cvkan.domains.audio."), f"{name} imports torchaudio"


def test_commands_import_nothing_heavy_as_they_are_loaded() -> None:
    heavy = {"torch", "lightning", "numpy", "hydra", "matplotlib"}
    for name, path in MODULES.items():
        if part(name) == "cli":
            names = imported(path, top_level_only=True)
            assert not heavy & {other.split(".")[0] for other in names}, name
            assert all(part(other) in ("cli", "errors") for other in names if other.startswith("cvkan.")), name


def test_modules_and_functions_stay_small() -> None:
    for name, path in MODULES.items():
        text = path.read_text()
        assert text.count("\n") <= 400, name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert (node.end_lineno or 0) - node.lineno < 80, f"{name}.{node.name}"


def test_packages_of_pyproject_are_those_of_the_tree() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert sorted(listed) == sorted(found | {"cvkan.conf"})


def test_every_public_name_can_be_imported_and_is_where_its_module_says() -> None:
    for name in cvkan.__all__:
        assert getattr(cvkan, name) is not None
    assert cvkan.CVKAN.__module__ == "cvkan.models.cvkan"
    assert set(dir(cvkan)) == set(cvkan.__all__)
    with pytest.raises(AttributeError, match="Nonsense"):
        cvkan.Nonsense  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import cvkan",
        "launch('--help')",
        "launch('--cfg', 'job')",
        "launch('domain=foo')",
        "launch('model.d_modell=3')",
        "launch('seed=abc')",
    ],
)
def test_what_needs_no_torch_loads_none(code: str, tmp_path: Path) -> None:
    script = f"""
import sys
def launch(*arguments):
    from cvkan.cli import app, train
    sys.argv = ["cvkan-train", *arguments]
    app.launch(train.CONFIG_NAME, train.job, train.HELP)
{code}
heavy = {{"torch", "lightning", "numpy", "matplotlib"}} & sys.modules.keys()
sys.exit(f"loaded {{heavy}}" if heavy else 0)
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_images_and_tokens_need_no_torchaudio(tmp_path: Path) -> None:
    script = """
import sys
sys.modules["torchaudio"] = None  # an import raises ImportError
from cvkan.cli import app, train
codes = []
for arguments in (
    ["domain=image", "data.limit_train=64", "output_dir=image"],
    ["domain=synthetic", "data.n_train=64", "data.n_val=16", "data.n_test=16", "output_dir=synthetic"],
):
    sys.argv = ["cvkan-train", *arguments, "trainer.max_epochs=1"]
    codes.append(app.launch(train.CONFIG_NAME, train.job, train.HELP))
sys.exit(max(codes))
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


def test_configs_are_those_of_the_repository() -> None:
    assert Path(str(files("cvkan.conf"))).resolve() == (ROOT / "conf").resolve()
