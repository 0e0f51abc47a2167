"""Run `mnv1` as a user does: in this process, or as a program."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner, Result

from mnv1cli.cli.main import cli
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

BUNDLED = ("--module", "bundled")
EXAMPLES = ROOT / "examples" / "photos"


def mnv1(*arguments: object, stdin: bytes | None = None) -> Result:
    """Run a command in this process; a Python error other than SystemExit is raised again."""
    result = CliRunner().invoke(cli, [os.fspath(a) if isinstance(a, os.PathLike) else str(a)
                                      for a in arguments], input=stdin)  # fmt: skip
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run(*arguments: object) -> Result:
    """Run a command in this process that has to succeed."""
    result = mnv1(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def program(
    *arguments: object, stdin: bytes = b"", cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the program in a process of its own."""
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=300,
        check=False,
    )


def command(*arguments: object) -> list[Any]:
    """Return the command line of the program; paths may be bytes."""
    return [
        sys.executable,
        "-m",
        "mnv1cli",
        *(a if isinstance(a, bytes) else str(a) for a in arguments),
    ]


def peak_megabytes(code: str, *arguments: object) -> float:
    """Return the peak memory of Python code in a process of its own, in MB."""
    report = (
        "\nimport re\nwith open('/proc/self/status') as status:"
        "\n    print(re.search(r'VmHWM:\\s+(\\d+)', status.read())[1])"
    )
    words = [sys.executable, "-c", code + report, *map(str, arguments)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    return int(run.stdout.split()[-1]) / 1024


def rows(data: bytes | str, delimiter: str = ",") -> list[dict[str, str]]:
    """Return the rows of CSV as dictionaries, bytes that are not UTF-8 as surrogates."""
    text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def file_names(results: list[dict[str, str]]) -> list[str]:
    """Return the file name of each row's path."""
    return [os.path.basename(row["path"]) for row in results]
