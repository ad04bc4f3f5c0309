"""What a type checker sees of ``cvkan`` is what an import gives."""

from __future__ import annotations

import ast
from pathlib import Path

import cvkan


def test_names_for_type_checkers_are_those_imported_late() -> None:
    tree = ast.parse(Path(cvkan.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name  # without "as" a strict checker takes the name for a private one
            seen[alias.name] = statement.module
    packages = {name for name, module in seen.items() if module == "cvkan"}
    assert packages == set(cvkan._PACKAGES)
    assert {name: module for name, module in seen.items() if name not in packages} == cvkan._MODULE_OF
    assert set(cvkan.__all__) == {"__version__", *seen}
