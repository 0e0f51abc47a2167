"""The floor plan: a file imports only from floors below it."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT

FLOORS = [
    {"places"},
    {"errors", "gauge", "interrupts", "machine", "pace", "records"},
    {"cluster", "globs", "limits", "sameness", "shards", "windows"},
    {"buckets", "members"},
    {"webpages"},
    {"stores"},
    {"lists", "prefixes", "readahead"},
    {
        "archive",
        "attachment",
        "catalog",
        "connections",
        "exif",
        "folders",
        "geometry",
        "gif",
        "heif",
        "imagememory",
        "jpeg",
        "png",
        "inputs",
        "journal",
        "labels",
        "metrics",
        "modulefiles",
        "operations",
        "ordered",
        "pictures",
        "results",
        "scratch",
        "tally",
        "tiff",
        "weights",
        "writers",
    },
    {"imagefile", "opening", "positions", "readers", "tabular", "truth", "uploads"},
    {"arguments", "audit", "download", "head", "hubmodule", "network", "pixels", "split", "store"},
    {
        "basemodule",
        "builder",
        "earlier",
        "evaluation",
        "facts",
        "fetching",
        "pillowpool",
        "pipeline",
        "savedmodel",
        "shelf",
        "similar",
        "thumbnails",
        "unreachable",
    },
    {
        "augment",
        "dataset",
        "figures",
        "gallery",
        "loading",
        "parts",
        "sources",
        "target",
        "tunefiles",
    },
    {"depot", "module", "page", "reunion"},
    {"litert", "merging", "reference", "report"},
    {"converter", "trainable"},
    {"compiled", "trainer"},
    {"engine", "quantize"},
    {"gather", "labelled", "raytask"},
    {"rayrun"},
    {"finetune"},
    {"predictor"},
    {"api"},
    {"bench", "similarity"},
    {"console", "listings"},
    {"reports"},
    {"cli_types"},
    {"cli_options"},
    {"cli_reading"},
    {"cli_datasets"},
    {"cli_images"},
    {"cli_module"},
    {"cli_bench", "cli_finetune", "cli_evaluate", "cli_merge", "cli_report", "cli_similar"},
    {"cli"},
]
# Names that are not files of the plan: the version, and the entry point of `python -m`.
OUTSIDE = {"__init__", "__main__"}
PACKAGE = ROOT / "mnv1cli"


def floor(name: str) -> int:
    return next(i for i, names in enumerate(FLOORS) if name in names)


def imports(path: str) -> set[str]:
    """The package's own files that one imports, `readers` and `writers` as one each."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "mnv1cli":
            found |= {alias.name for alias in node.names if not alias.name.startswith("__")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mnv1cli."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("mnv1cli.")}
    return found


FILES = [
    *sorted(
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.stem not in OUTSIDE
    ),
    "readers/__init__.py",
    "writers/__init__.py",
]


@pytest.mark.parametrize("path", FILES)
def test_a_file_imports_only_from_floors_below(path: str) -> None:
    name = path.split("/")[0].removesuffix(".py")
    for imported in imports(path):
        assert imported == name or floor(imported) < floor(name), f"{path} imports {imported}"


def test_no_library_file_imports_click() -> None:
    speaking = set().union(*FLOORS[floor("console") :])
    for path in FILES:
        if path.removesuffix(".py") not in speaking:
            assert "import click" not in (PACKAGE / path).read_text("utf-8"), path


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["classify", "--help"], ["report", "--help"], ["labels", "cat"]],
)
def test_start_pays_for_no_large_library(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from mnv1cli.cli import cli\n"
        f"try: cli({arguments!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'tensorflow', 'numpy', 'requests', 'PIL', 'tqdm', 'rich', 'google', 'jinja2',\n"
        "  'pyarrow', 'fsspec', 'ray'}\n"
        "loaded = heavy & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_package_alone_pays_for_nothing() -> None:
    code = "import sys, mnv1cli; assert not {'numpy', 'click', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
