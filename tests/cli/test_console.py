"""Signals, descriptors and exit codes of the program."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

from mnv1cli.cli import console
from mnv1cli.errors import ModuleError
from tests.conftest import ROOT
from tests.support.shell import command, rows

if TYPE_CHECKING:
    from pathlib import Path

PHOTO = ROOT / "examples" / "photos" / "coffee.jpg"


def wait_for(path: Path, size: int) -> None:
    deadline = time.monotonic() + 300
    while not (path.exists() and path.stat().st_size > size):
        assert time.monotonic() < deadline, f"{path} did not grow"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_ends_a_run_that_waits_for_more_paths(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """The reader is deep in a read of stdin then, and stdin never ends."""
    out = tmp_path / "r.csv"
    words = command("classify", "-", "--module", "bundled", "-o", out, "--batch-size", 1)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdin is not None
        assert run.stderr is not None
        run.stdin.write(f"{PHOTO}\n".encode() * 20)
        run.stdin.flush()
        wait_for(tmp_path / "r.csv.part", 100)
        run.send_signal(number)
        errors = run.stderr.read().decode()
        run.wait(300)
    assert run.returncode == code
    assert not out.exists()
    assert {r["label"] for r in rows((tmp_path / "r.csv.part").read_bytes()) if r["rank"] == "1"}
    assert "r.csv.part" in errors
    assert "Traceback" not in errors


def test_progress_and_a_table_show_on_a_terminal() -> None:
    """stdout and stderr are one terminal: the bar must leave the table whole."""
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (30, 100))
    words = command("classify", PHOTO, PHOTO, "--module", "bundled", "--batch-size", 1)
    env = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(words, stdout=side, stderr=side, stdin=side, env=env) as run:
        os.close(side)
        shown = b""
        while True:
            try:
                chunk = os.read(main, 4096)
            except OSError:
                break
            if not chunk:
                break
            shown += chunk
    os.close(main)
    text = shown.decode()
    assert run.returncode == 0
    assert "images/s" in text
    assert text.count("espresso") == 2
    assert "probability" in text
    assert "\x1b[" in text


def test_no_color_is_honoured() -> None:
    main, side = pty.openpty()
    words = command("labels", "tabby")
    env = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
    with subprocess.Popen(words, stdout=side, env=env):
        os.close(side)
        shown = os.read(main, 4096)
    os.close(main)
    assert b"tabby cat" in shown
    assert b"\x1b[3" not in shown


def test_closed_stderr_is_no_obstacle() -> None:
    words = " ".join([sys.executable, "-m", "mnv1cli", "module", "list", "--json", "2>&-"])
    run = subprocess.run(["sh", "-c", words], capture_output=True, check=False)
    assert run.returncode == 0
    assert run.stdout.startswith(b"[")


CHATTER = """
import os, sys
from mnv1cli.cli import console
try:
    with console.session(verbose={verbose}) as stream:
        os.write(2, b"a library speaks\\n")
        print("and in Python", file=sys.stderr)
        console.log.warning("ours")
        {body}
finally:
    os.write(2, b"after\\n")
"""


def chatter(body: str = "pass", verbose: bool = False) -> tuple[int, str]:
    code = CHATTER.format(body=body, verbose=verbose)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return run.returncode, run.stderr


def test_what_libraries_say_on_stderr_is_kept_back() -> None:
    assert chatter() == (0, "mnv1: warning: ours\nafter\n")


def test_what_libraries_say_is_shown_when_asked_for() -> None:
    code, errors = chatter(verbose=True)
    assert code == 0
    assert "a library speaks" in errors
    assert "and in Python" in errors


def test_a_bug_shows_its_traceback_and_what_libraries_said() -> None:
    code, errors = chatter(body="1 / 0")
    assert code == 1
    assert "ZeroDivisionError" in errors
    assert "a library speaks" in errors
    assert "a bug in mnv1" in errors


def test_an_error_of_the_user_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end, console.session():
        raise ModuleError("no module", "name one")
    assert end.value.code == 1
    assert capsys.readouterr().err == "mnv1: error: no module; name one\n"


def test_signal_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with console.session():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupted_run_leaves_nothing_in_the_temporary_folder(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (tmp_path / "file").touch()
    env = {
        **os.environ,
        "TMPDIR": str(temporary),
        "MNV1_CACHE_DIR": str(tmp_path / "file" / "cache"),
    }
    out = tmp_path / "r.csv"
    words = command("classify", "-", "--module", "bundled", "-o", out, "--batch-size", 1, "-q")
    with subprocess.Popen(words, stdin=subprocess.PIPE, env=env) as run:
        assert run.stdin is not None
        run.stdin.write(f"{PHOTO}\n".encode() * 20)
        run.stdin.flush()
        wait_for(tmp_path / "r.csv.part", 100)
        run.send_signal(signal.SIGTERM)
        run.wait(300)
    assert os.listdir(temporary) == []


def test_news_are_told_once_and_faults_as_often_as_they_come(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with console.session():
        for _ in range(2):
            console.log.info("preparing")
            console.log.error("a.jpg: damaged")
    assert capsys.readouterr().err == (
        "mnv1: preparing\nmnv1: a.jpg: damaged\nmnv1: a.jpg: damaged\n"
    )
