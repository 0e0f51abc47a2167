"""What a start may import."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["classify", "--help"], ["report", "--help"], ["labels", "cat"]],
)
def test_start_pays_for_no_large_library(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from mnv1cli.cli.main import cli\n"
        f"try: cli({arguments!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'tensorflow', 'numpy', 'requests', 'PIL', 'tqdm', 'rich', 'google', 'jinja2',\n"
        "  'pyarrow', 'obstore', 'boto3', 'ray', 'openvino'}\n"
        "loaded = heavy & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_package_alone_pays_for_nothing() -> None:
    code = "import sys, mnv1cli; assert not {'numpy', 'click', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
