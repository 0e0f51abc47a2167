"""Processes that are killed, and disks that are full or have no locks."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.modules import artifacts, cache, files, inspection
from mnv1cli.types import FetchOptions
from tests.conftest import ROOT
from tests.support import hub as hubs
from tests.support import zoo
from tests.support.laid import FILES, lay, list_left, read_files
from tests.support.shell import command, mnv1, program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.hub import Hub


PHOTO = ROOT / "examples" / "photos" / "chelsea.png"
WEIGHTS = "variables/variables.data-00000-of-00001"
OFFLINE = FetchOptions(offline=True)


pytestmark = pytest.mark.usefixtures("online")


# --- processes that are killed ---------------------------------------------------

# Kills itself where it would call a function, or has called it.
KILLED = """
import hashlib, os, shutil, signal, sys
import tqdm
from mnv1cli.modules import cache, locate
from mnv1cli.modules.transfer import connections

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def then_die(function):
    return lambda *a, **k: die(function(*a, **k))

def of_module(function, rename=os.rename):
    return lambda old, new: (function if str(old).endswith("-tmp") else rename)(old, new)

PHASES = {
    "connecting": lambda: setattr(connections.HttpClient, "request", die),
    "downloading": lambda: setattr(tqdm, "tqdm", die),
    "downloaded": lambda: setattr(hashlib, "file_digest", die),
    "unpacking": lambda: setattr(shutil, "copyfileobj", die),
    "unpacked": lambda: setattr(cache, "write_checksums", die),
    "noted": lambda: setattr(cache, "write_checksums", then_die(cache.write_checksums)),
    "described": lambda: setattr(os, "rename", of_module(die)),
    "renamed": lambda: setattr(os, "rename", of_module(then_die(os.rename))),
    "writing": lambda: setattr(os, "replace", die),
    "": lambda: None,
}
PHASES[sys.argv[1]]()
"""
FETCH = KILLED + "print(locate.locate(sys.argv[2]).path)"
COMPUTE = KILLED + (
    "from mnv1cli.cli import main as cli\n"
    "cli.cli(['logits', sys.argv[2], '--module', sys.argv[3], '-f', 'csv'])"
)


def run_code(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    "phase",
    ["connecting", "downloading", "downloaded", "unpacking", "unpacked", "noted", "described",
     "renamed"],
)  # fmt: skip
def test_process_that_is_killed_leaves_nothing_to_the_next(
    hub: Hub, own_cache: Path, tmp_path: Path, phase: str
) -> None:
    handle = f"{hub.url}/m/1"
    hub.answers["/m/1"] = hubs.sends(hubs.pack(lay(tmp_path / "module")))
    assert run_code(FETCH, phase, handle).returncode == -signal.SIGKILL
    place = cache.cache_directory(handle)
    if place.exists():
        # What looks like a module is one, with all that belongs to it.
        assert phase == "renamed"
        assert files.has_checksums(place)
    after = run_code(FETCH, "", handle)
    assert after.stdout == f"{place}\n", after.stderr
    assert files.has_checksums(place)
    assert files.find_problems(place) == []
    assert read_files(place) == FILES
    assert list_left(own_cache) == {place.name, f"{place.name}.descriptor.txt"}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that is soon compiled, to a file of 1.6 MB."""
    directory = tmp_path_factory.mktemp("wide") / "module"
    return zoo.write_hub(directory, lambda _, x: {"default": x}, classes=50_000)


def test_process_that_is_killed_while_it_compiles_is_no_obstacle(
    wide: Path, own_cache: Path
) -> None:
    # What the module says is known: the first thing that is kept is the compiled model.
    fingerprint = inspection.open_module(str(wide)).fingerprint
    assert run_code(COMPUTE, "writing", PHOTO, wide).returncode == -signal.SIGKILL
    assert len(list(own_cache.rglob("*-tmp"))) == 1
    assert artifacts.list_models(fingerprint) == []
    after = mnv1("logits", PHOTO, "--module", wide, "-f", "csv")
    assert after.stdout.count(PHOTO.name) == 1
    assert len(artifacts.list_models(fingerprint)) == 1
    assert not list(own_cache.rglob("*-tmp"))


# --- disks -----------------------------------------------------------------------


def run_limited(size: int, *words: Any) -> subprocess.CompletedProcess[str]:
    """Run a command that can write no file longer than `size`."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run(
        words, capture_output=True, text=True, preexec_fn=limit, timeout=300, check=False
    )


@pytest.mark.parametrize(
    ("files", "limit", "phase"),
    [
        ({**FILES, WEIGHTS: os.urandom(300_000)}, 100_000, ".download"),
        ({**FILES, WEIGHTS: bytes(300_000)}, 100_000, WEIGHTS),
        ({**FILES, **{f"assets/{n}": b"" for n in range(300)}}, 14_000, ".mnv1-sha256"),
    ],
    ids=["download", "unpack", "checksums"],
)
def test_full_disk_is_one_line_and_the_next_run_succeeds(
    hub: Hub, own_cache: Path, tmp_path: Path, files: dict[str, bytes], limit: int, phase: str
) -> None:
    archive = hubs.pack(lay(tmp_path / "module", files))
    # The phase is the first to write so long a file.
    assert (len(archive) > limit) == (phase == ".download")
    assert (max(map(len, files.values())) > limit) == (phase != ".mnv1-sha256")
    handle = f"{hub.url}/m/1"
    hub.answers["/m/1"] = hubs.sends(archive)
    full = run_limited(limit, *command("module", "fetch", handle))
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    (error,) = [line for line in full.stderr.splitlines() if "error" in line]
    assert error == (
        f"mnv1: error: cannot write a module to {own_cache}: File too large; "
        "make room there, or set MNV1_CACHE_DIR to another directory"
    )
    assert list_left(own_cache) == set()
    assert program("module", "fetch", handle).returncode == 0
    assert read_files(cache.cache_directory(handle)) == files


def test_full_disk_while_building_is_one_line(own_cache: Path) -> None:
    full = run_limited(1 << 20, *command("module", "fetch", "bundled"))
    assert full.returncode == 1
    assert full.stderr.splitlines()[-1].startswith(
        f"mnv1: error: cannot write a module to {own_cache}: "
    )
    assert "make room there" in full.stderr
    assert "Traceback" not in full.stderr
    assert list_left(own_cache) == set()


def test_full_disk_while_compiling_costs_only_time(wide: Path, own_cache: Path) -> None:
    words = ("logits", PHOTO, "--module", wide, "-f", "csv")
    full = run_limited(1 << 20, *command(*words))
    assert full.returncode == 0, full.stderr
    assert full.stdout.count(PHOTO.name) == 1
    assert "Traceback" not in full.stderr
    fingerprint = inspection.open_module(str(wide)).fingerprint
    assert artifacts.list_models(fingerprint) == []
    assert not list(own_cache.rglob("*-tmp"))
    assert mnv1(*words).stdout.count(PHOTO.name) == 1
    assert len(artifacts.list_models(fingerprint)) == 1


# --- locks -----------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_file_system_without_locks_is_no_obstacle(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    certain = []
    for _ in "12":
        with cache.lock(own_cache / "x") as alone:
            certain.append(alone)
    assert certain == [False, False]
    place = cache.install("handle", lambda directory: drop(lay(directory)))
    assert list_left(own_cache) == {place.name, f"{place.name}.descriptor.txt"}


def drop(_: object) -> None:
    """Drop a value, for a function that must return None."""


@pytest.mark.parametrize("content", [b"", b"4194304\nsomewhere\n", b"\0" * 1000])
def test_lock_file_that_was_left_holds_nobody_up(own_cache: Path, content: bytes) -> None:
    own_cache.mkdir()
    lock = own_cache / f"{cache.cache_directory('handle').name}.mnv1-lock"
    lock.write_bytes(content)
    start = time.monotonic()
    assert read_files(cache.install("handle", lambda directory: drop(lay(directory)))) == FILES
    assert time.monotonic() - start < 30
