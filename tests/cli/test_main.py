"""The program: pipes, full disks, closed streams, and options that do not fit."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

import mnv1cli
from tests.support.shell import BUNDLED, EXAMPLES, command, mnv1, program, rows

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def compiled_bundled() -> None:
    """Let the bundled module be compiled, so that later runs do not report it."""
    assert mnv1("classify", EXAMPLES / "coffee.jpg", *BUNDLED, "-f", "csv").exit_code == 0


def test_version_is_the_package_version() -> None:
    assert mnv1cli.__version__ in mnv1("--version").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("classify", "-f", "npy", "-o", "x.npy"), "npy holds numbers"),
        (("logits", "-f", "npy"), "-o"),
        (("logits", "-f", "table"), "table is for labels"),
        (("embed", "--no-pool", "-f", "csv"), "--no-pool"),
        (("logits", "-o", "x.txt"), ".npy"),
        (("classify", "--wide", "-f", "jsonl"), "--wide is for csv"),
        (("classify", "--top", "0"), "--top"),
        (("classify", "--preprocess", "crop"), "slim"),
        (("classify", "--batch-size", "0"), "--batch-size"),
        (("classify", "--threads", "0"), "--threads"),
        (("classify", "--engine", "onnx"), "litert"),
        (("classify", "--precision", "int4"), "int8"),
        (("classify", "--engine", "tf", "--precision", "int8"), "--engine litert"),
        (("classify", "--min-probability", "2"), "--min-probability"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir())
    result = mnv1(arguments[0], few, *BUNDLED, *arguments[1:])
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""
    assert sorted(os.listdir()) == before


def test_closed_pipe_ends_the_program_quietly(photos: Path, compiled_bundled: None) -> None:
    words = command("logits", photos, *BUNDLED, "--batch-size", "1")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline().startswith(b"path,0,")
        run.stdout.close()
        errors = run.stderr.read()
    assert run.returncode == 0
    assert errors == b""


def test_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            command("classify", EXAMPLES, *BUNDLED),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert run.returncode == 1
    assert run.stderr == b"mnv1: error: cannot write stdout: No space left on device\n"


def test_closed_stdin_and_stdout_are_no_obstacle(tmp_path: Path) -> None:
    words = command("classify", EXAMPLES, *BUNDLED, "-q")
    closed = ["sh", "-c", '"$@" <&- >&-', "sh"]
    refused = subprocess.run([*closed, *words], capture_output=True, check=False)
    assert (refused.returncode, refused.stderr.count(b"\n")) == (1, 1)
    assert b"stdout is closed" in refused.stderr
    out = tmp_path / "r.csv"
    run = subprocess.run([*closed, *words, "-o", out], capture_output=True, check=False)
    assert (run.returncode, run.stderr) == (0, b"")
    assert len(rows(out.read_bytes())) == 15


def test_stderr_of_a_clean_run_is_empty_with_quiet() -> None:
    run = program("classify", EXAMPLES, *BUNDLED, "-q")
    assert (run.returncode, run.stderr) == (0, b"")
    assert len(rows(run.stdout)) == 15


def test_verbose_shows_what_the_libraries_say(compiled_bundled: None) -> None:
    quiet = program("classify", EXAMPLES / "coffee.jpg", *BUNDLED)
    verbose = program("classify", EXAMPLES / "coffee.jpg", *BUNDLED, "-v", TF_CPP_MIN_LOG_LEVEL="0")
    assert quiet.stderr.count(b"\n") == 1
    assert b"tensorflow" in verbose.stderr.lower() or b"cpu" in verbose.stderr.lower()
    assert verbose.stdout == quiet.stdout


@pytest.mark.parametrize("arguments", [("labels",), ("module", "list"), ("--version",)])
def test_full_disk_is_one_line_for_small_commands(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        words = command(*arguments)
        run = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
    assert run.returncode == 1
    assert run.stderr.count(b"\n") == 1
    assert b"Traceback" not in run.stderr


@pytest.mark.parametrize(
    "arguments", [("classify", EXAMPLES, *BUNDLED, "-f", "table"), ("labels", "-f", "table")]
)
def test_closed_pipe_is_no_error_for_tables(arguments: tuple[object, ...]) -> None:
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        errors = run.stderr.read()
    assert run.returncode == 0
    assert b"Traceback" not in errors


def test_full_or_closed_stderr_changes_no_exit_code(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            command("classify", EXAMPLES, *BUNDLED),
            stdout=subprocess.PIPE,
            stderr=full,
            check=False,
        )
    assert run.returncode == 0
    assert len(rows(run.stdout)) == 15
