"""No private name of another project is used: such names change without notice."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = sorted((ROOT / "mnv1cli").rglob("*.py"))
# Documented by Python as public, in spite of their underscores.
PUBLIC = {"_replace", "_asdict", "_fields", "_make", "_exit"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def list_defined(tree: ast.AST) -> set[str]:
    """The private names that a module defines: as functions, classes, values and attributes."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id in ("self", "cls"):
                names.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # In __slots__.
            names.add(node.value)
    return names


def find_foreign(tree: ast.AST, ours: set[str]) -> Iterator[str]:
    """The private names that are used and not defined by the module itself, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = node.value
            if not (isinstance(owner, ast.Name) and owner.id in ("self", "cls")) and (
                node.attr not in ours
            ):
                yield f"{node.lineno}: .{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            for part in [*(node.module or "").split("."), *(alias.name for alias in node.names)]:
                if is_private(part) and node.module != "mnv1cli" and part != "_version":
                    yield f"{node.lineno}: import {part}"


def test_no_private_name_of_another_project_is_used() -> None:
    used = []
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        used += [f"{path}:{use}" for use in find_foreign(tree, list_defined(tree))]
    assert used == []
    assert len(FILES) > 100


@pytest.mark.parametrize(
    "text", ["store._call()", "import x\nx.y._z = 1", "from a._b import c", "from a import _b"]
)
def test_private_names_of_others_are_seen(text: str) -> None:
    tree = ast.parse(text)
    assert list(find_foreign(tree, list_defined(tree)))
