"""Completion: scripts for three shells, and the answers that they get."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.support.shell import command, mnv1

if TYPE_CHECKING:
    from pathlib import Path

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def completed(words: str, shell: str = "bash") -> list[str]:
    """Return the answer to a shell's script that completes the last word."""
    number = len(words.split(" ")) - 1
    environment = {
        **os.environ,
        "_MNV1_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": words.split(" ")[-1] if shell == "fish" else str(number),
        "PYTHONPATH": str(ROOT),
    }
    run = subprocess.run(command(), capture_output=True, env=environment, check=True, timeout=300)
    assert run.stderr == b""
    return run.stdout.decode().splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_comes_out_for_each_shell(shell: str) -> None:
    result = mnv1("completion", shell)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert f"_MNV1_COMPLETE={shell}_complete" in result.stdout
    assert "mnv1" in result.stdout


@pytest.mark.parametrize("shell", ["", "csh"])
def test_other_shells_are_wrong_usage(shell: str) -> None:
    result = mnv1("completion", *[shell][: len(shell)])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_commands_are_completed() -> None:
    assert completed("mnv1 sim") == ["plain,similar"]
    assert completed("mnv1 module qu") == ["plain,quantize"]
    assert {"plain,evaluate", "plain,similar", "plain,classify"} < set(completed("mnv1 "))


def test_options_and_their_values_are_completed() -> None:
    assert completed("mnv1 similar --all") == ["plain,--all-pairs"]
    assert completed("mnv1 evaluate --per") == ["plain,--per-class"]
    assert completed("mnv1 similar -f pa") == ["plain,parquet"]
    assert completed("mnv1 completion z") == ["plain,zsh"]


@pytest.mark.parametrize(
    "words",
    ["mnv1 classify pho", "mnv1 similar fe", "mnv1 similar feats.npy pho", "mnv1 evaluate pho",
     "mnv1 evaluate --truth t", "mnv1 embed --module mo", "mnv1 embed --files-from l",
     "mnv1 bench pho", "mnv1 module quantize pho"],
)  # fmt: skip
def test_names_of_files_are_left_to_the_shell(words: str) -> None:
    assert completed(words) == [f"file,{words.split()[-1]}"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_help_texts(shell: str) -> None:
    answer = "\n".join(completed("mnv1 sim", shell))
    assert "similar" in answer
    assert "Find the images of INDEX" in answer


@needs_bash
def test_bash_takes_the_script_and_completes(tmp_path: Path) -> None:
    program = tmp_path / "mnv1"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mnv1cli "$@"\n')
    program.chmod(0o755)
    (tmp_path / "script").write_text(mnv1("completion", "bash").stdout)
    script = """
set -eu
source "$1/script"
complete -p mnv1
COMP_WORDS=(mnv1 similar --all) COMP_CWORD=2
_mnv1_completion mnv1 "--all" similar
echo "${COMPREPLY[@]}"
"""
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(ROOT)
    run = subprocess.run(
        ["bash", "--norc", "-c", script, "bash", str(tmp_path)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines()[-1] == "--all-pairs"
    assert "_mnv1_completion" in run.stdout


@needs_bash
def test_bash_parses_the_script() -> None:
    script = mnv1("completion", "bash").stdout
    run = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=True)
    assert run.stderr == ""
