"""Each package imports only from those below it, and no import goes round in a circle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import grimp
import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the package and of its contract, to put wrong imports into."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ignored = shutil.ignore_patterns("data", "__pycache__")
    shutil.copytree(ROOT / "mnv1cli", tmp_path / "mnv1cli", ignore=ignored)
    return tmp_path


def lint_imports(checkout: Path) -> subprocess.CompletedProcess[str]:
    script = os.path.join(os.path.dirname(sys.executable), "lint-imports")
    return subprocess.run(
        [script, "--no-cache"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_layers_are_kept(checkout: Path) -> None:
    result = lint_imports(checkout)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("storage/location.py", "from mnv1cli.inputs import listing"),
        ("results/files.py", "from mnv1cli.runs import loop"),
        ("report/report.py", "from mnv1cli.training import finetune"),
        # An import for type checkers only counts, too.
        ("images/exif.py", "if TYPE_CHECKING:\n    from mnv1cli.api import Classifier"),
    ],
)
def test_wrong_import_is_seen(checkout: Path, file: str, line: str) -> None:
    with (checkout / "mnv1cli" / file).open("a") as source:
        source.write(f"\n{line}\n")
    result = lint_imports(checkout)
    assert result.returncode == 1
    imported = line.split()[-3]
    assert f"is not allowed to import {imported}" in result.stdout


def test_package_without_a_layer_is_seen(checkout: Path) -> None:
    (checkout / "mnv1cli" / "utils.py").touch()
    result = lint_imports(checkout)
    assert result.returncode == 1
    assert "mnv1cli.utils" in result.stdout


@pytest.mark.parametrize("typing_left_out", [True, False])
def test_no_import_circle(typing_left_out: bool) -> None:
    graph = grimp.build_graph(
        "mnv1cli", exclude_type_checking_imports=typing_left_out, cache_dir=None
    )
    # What imports nothing but modules that are off the list comes off it, again and again.
    imported = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    while free := [module for module, others in imported.items() if not others & imported.keys()]:
        for module in free:
            del imported[module]
    assert not imported, f"in or above a circle: {sorted(imported)}"
