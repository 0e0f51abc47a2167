"""Running `mnv1` as a user does: in this process, or as a program."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner, Result

from mnv1cli.cli.main import cli

if TYPE_CHECKING:
    from pathlib import Path


def mnv1(*arguments: object, stdin: bytes | None = None) -> Result:
    """Run a command in this process; it must not end in an error of Python's."""
    result = CliRunner().invoke(cli, [os.fspath(a) if isinstance(a, os.PathLike) else str(a)
                                      for a in arguments], input=stdin)  # fmt: skip
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
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
        timeout=120,
        check=False,
    )


def command(*arguments: object) -> list[Any]:
    """The command line of the program; paths may be bytes."""
    return [
        sys.executable,
        "-m",
        "mnv1cli",
        *(a if isinstance(a, bytes) else str(a) for a in arguments),
    ]


def peak_megabytes(code: str, *arguments: object) -> float:
    """The memory that Python code takes at its peak, in a process of its own."""
    told = (
        "\nimport re\nwith open('/proc/self/status') as status:"
        "\n    print(re.search(r'VmHWM:\\s+(\\d+)', status.read())[1])"
    )
    words = [sys.executable, "-c", code + told, *map(str, arguments)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    return int(run.stdout.split()[-1]) / 1024


def rows(data: bytes | str, delimiter: str = ",") -> list[dict[str, str]]:
    """CSV with a header as dictionaries; bytes that are not UTF-8 as surrogates."""
    text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
