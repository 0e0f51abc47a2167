"""Processes that are killed, disks that are full or have no locks, files that rot."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from mnv1cli.errors import ModuleError, UnreachableError
from mnv1cli.modules import artifacts, cache, files, inspection, locate
from mnv1cli.modules.catalog import DEFAULT_HANDLE
from mnv1cli.types import FetchOptions
from tests.conftest import ROOT
from tests.support import hub as hubs
from tests.support.hub import HANDLE_PATH
from tests.support.laid import FILES, found_in, lay
from tests.support.shell import command, mnv1, program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.hub import Hub

PHOTO = ROOT / "examples" / "photos" / "chelsea.png"
WEIGHTS = "variables/variables.data-00000-of-00001"
OFFLINE = FetchOptions(offline=True)


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are allowed, but those to public addresses end at a closed local port."""
    monkeypatch.setenv("MNV1_OFFLINE", "0")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hubs.serving() as server:
        monkeypatch.setenv("MNV1_MIRRORS", server.url)
        yield server


@pytest.fixture(scope="module")
def bundled(cache: Path) -> Path:
    return locate.locate("bundled").path


@pytest.fixture
def with_bundled(bundled: Path, own_cache: Path) -> Path:
    """A cache that has the bundled module; its place there."""
    shutil.copytree(bundled, own_cache / bundled.name)
    return own_cache / bundled.name


def left_in(cache: Path) -> set[str]:
    """What lies in a cache, but for locks."""
    return {path.name for path in cache.iterdir() if not path.name.endswith(".mnv1-lock")}


# --- processes that are killed ---------------------------------------------------

# Kills itself where it would call a function, or has called it.
KILLED = """
import os, signal, sys
from mnv1cli.modules import connections
from mnv1cli.modules import download
from mnv1cli.modules import locate
from mnv1cli.modules import cache
import shutil

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def then_die(function):
    return lambda *a, **k: die(function(*a, **k))

PHASES = {
    "connecting": lambda: setattr(connections.HttpClient, "request", die),
    "downloading": lambda: setattr(download, "_make_bar", die),
    "downloaded": lambda: setattr(download, "_hash_file", die),
    "unpacking": lambda: setattr(shutil, "copyfileobj", die),
    "unpacked": lambda: setattr(cache, "write_checksums", die),
    "noted": lambda: setattr(cache, "_publish", die),
    "described": lambda: setattr(os, "rename", die),
    "renamed": lambda: setattr(cache, "_publish", then_die(cache._publish)),
    "writing": lambda: setattr(os, "replace", die),
    "": lambda: None,
}
PHASES[sys.argv[1]]()
"""
FETCH = KILLED + "print(locate.locate(sys.argv[2]).path)"
CLASSIFY = KILLED + (
    "from mnv1cli.cli import main as cli\n"
    "cli.cli(['classify', sys.argv[2], '--module', 'bundled', '--top', '1', '-f', 'csv'])"
)


def run(code: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
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
    hub.answers["/m/1"] = hubs.sends(hubs.packed(lay(tmp_path / "module")))
    assert run(FETCH, phase, handle).returncode == -signal.SIGKILL
    place = cache.cache_directory(handle)
    if place.exists():
        # What looks like a module is one, with all that belongs to it.
        assert phase == "renamed"
        assert files.has_checksums(place)
    after = run(FETCH, "", handle)
    assert after.stdout == f"{place}\n", after.stderr
    assert files.has_checksums(place)
    assert files.find_problems(place) == []
    assert found_in(place) == FILES
    assert left_in(own_cache) == {place.name, f"{place.name}.descriptor.txt"}


def test_process_that_is_killed_while_it_compiles_is_no_obstacle(
    with_bundled: Path, own_cache: Path
) -> None:
    # What the module says is known: the first thing that is kept is the compiled model.
    inspection.open_module("bundled")
    fingerprint = files.compute_fingerprint(with_bundled)
    assert run(CLASSIFY, "writing", PHOTO).returncode == -signal.SIGKILL
    assert len(list(own_cache.rglob("*-tmp"))) == 1
    assert artifacts.list_models(fingerprint) == []
    after = mnv1("classify", PHOTO, "--module", "bundled", "--top", "1", "-f", "csv")
    assert "Egyptian cat" in after.stdout
    assert len(artifacts.list_models(fingerprint)) == 1
    assert not list(own_cache.rglob("*-tmp"))


# --- disks -----------------------------------------------------------------------


def limited(size: int, *words: Any) -> subprocess.CompletedProcess[str]:
    """A command on a disk that takes no file longer than `size`."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run(
        words, capture_output=True, text=True, preexec_fn=limit, timeout=60, check=False
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
    archive = hubs.packed(lay(tmp_path / "module", files))
    # The phase is the first to write so long a file.
    assert (len(archive) > limit) == (phase == ".download")
    assert (max(map(len, files.values())) > limit) == (phase != ".mnv1-sha256")
    handle = f"{hub.url}/m/1"
    hub.answers["/m/1"] = hubs.sends(archive)
    full = limited(limit, *command("module", "fetch", handle))
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    (error,) = [line for line in full.stderr.splitlines() if "error" in line]
    assert error == (
        f"mnv1: error: cannot write a module to {own_cache}: File too large; "
        "make room there, or set MNV1_CACHE_DIR to another directory"
    )
    assert left_in(own_cache) == set()
    assert program("module", "fetch", handle).returncode == 0
    assert found_in(cache.cache_directory(handle)) == files


def test_full_disk_while_building_is_one_line(own_cache: Path) -> None:
    full = limited(1 << 20, *command("module", "fetch", "bundled"))
    assert full.returncode == 1
    assert full.stderr.splitlines()[-1].startswith(
        f"mnv1: error: cannot write a module to {own_cache}: "
    )
    assert "make room there" in full.stderr
    assert "Traceback" not in full.stderr
    assert left_in(own_cache) == set()


def test_full_disk_while_compiling_costs_only_time(with_bundled: Path, own_cache: Path) -> None:
    words = ("classify", PHOTO, "--module", "bundled", "--top", "1", "-f", "csv")
    full = limited(1 << 20, *command(*words))
    assert full.returncode == 0, full.stderr
    assert "Egyptian cat" in full.stdout
    assert "Traceback" not in full.stderr
    fingerprint = files.compute_fingerprint(with_bundled)
    assert artifacts.list_models(fingerprint) == []
    assert not list(own_cache.rglob("*-tmp"))
    assert "Egyptian cat" in mnv1(*words).stdout
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
    place = cache.install("handle", lambda directory: void(lay(directory)))
    assert left_in(own_cache) == {place.name, f"{place.name}.descriptor.txt"}


def void(_: object) -> None:
    """For a function that must give nothing."""


@pytest.mark.parametrize("content", [b"", b"4194304\nsomewhere\n", b"\0" * 1000])
def test_lock_file_that_was_left_holds_nobody_up(own_cache: Path, content: bytes) -> None:
    own_cache.mkdir()
    lock = own_cache / f"{cache.cache_directory('handle').name}.mnv1-lock"
    lock.write_bytes(content)
    start = time.monotonic()
    assert found_in(cache.install("handle", lambda directory: void(lay(directory)))) == FILES
    assert time.monotonic() - start < 1


# --- files that rot --------------------------------------------------------------


def flip(file: Path) -> None:
    """Change one bit."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [flip, os.unlink])
@pytest.mark.parametrize("name", [WEIGHTS, "saved_model.pb", "tfhub_module.pb"])
def test_damaged_module_is_fetched_anew(
    hub: Hub, own_cache: Path, bundled: Path, name: str, harm: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    hub.answers[HANDLE_PATH] = hubs.sends(hubs.packed(bundled))
    known = inspection.open_module("hub")
    harm(known.path / name)
    found = mnv1("module", "verify", "hub")
    assert found.exit_code == 1
    assert f"{name} {'is missing' if harm is os.unlink else 'has changed'}" in found.stdout
    with caplog.at_level(logging.INFO):
        assert inspection.open_module("hub").fingerprint == known.fingerprint
    assert len(hub.asked) == 2
    assert mnv1("module", "verify", "hub").exit_code == 0
    if harm is flip:
        assert (
            f"the module in {known.path} is damaged: {name} has changed since the module came"
            in [record.getMessage() for record in caplog.records]
        )
    assert left_in(own_cache) - {"compiled"} == {
        known.path.name,
        f"{known.path.name}.descriptor.txt",
    }


def test_damaged_module_that_nothing_serves_is_refused_and_stays(
    hub: Hub, own_cache: Path, bundled: Path
) -> None:
    hub.answers[HANDLE_PATH] = hubs.sends(hubs.packed(bundled))
    place = locate.locate("hub").path
    flip(place / WEIGHTS)
    hub.answers.clear()
    damaged = f"is damaged: {WEIGHTS} has changed since the module came"
    with pytest.raises(UnreachableError) as caught:
        inspection.open_module("hub", OFFLINE)
    assert str(caught.value) == (
        f"module {DEFAULT_HANDLE} is not in the cache ({place} {damaged}), and mnv1 is offline; "
        "put it there, name its directory or its .tar.gz, or use --module bundled"
    )
    with pytest.raises(UnreachableError) as caught:
        inspection.open_module("hub")
    assert str(caught.value).startswith(
        f"the module in {place} {damaged}, and no source serves {DEFAULT_HANDLE} ({hub.url}"
    )
    assert files.find_problems(place) == [f"{WEIGHTS} has changed since the module came"]
    # By its directory nothing tells what to fetch.
    with pytest.raises(ModuleError) as named:
        inspection.open_module(str(place))
    assert str(named.value) == (
        f"the module in {place} {damaged}; "
        "put it there again, or remove its .mnv1-sha256 if the change is on purpose"
    )


def test_damaged_default_gives_way_to_the_bundled_one_with_a_warning(
    with_bundled: Path, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = cache.cache_directory(DEFAULT_HANDLE)
    shutil.copytree(with_bundled, place)
    flip(place / WEIGHTS)
    assert inspection.open_module(None, OFFLINE).handle == "bundled"
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert (
        f"is not available: in the cache it is damaged: {WEIGHTS} has changed since the module "
        "came, and mnv1 is offline" in warning
    )


def test_damaged_bundled_module_is_built_anew_without_a_network(with_bundled: Path) -> None:
    before = inspection.open_module("bundled", OFFLINE).fingerprint
    flip(with_bundled / WEIGHTS)
    assert inspection.open_module("bundled", OFFLINE).fingerprint == before
    assert files.find_problems(with_bundled) == []


def test_damaged_module_of_an_archive_is_unpacked_anew(
    bundled: Path, own_cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "m.tar.gz").write_bytes(hubs.packed(bundled))
    before = inspection.open_module(str(tmp_path / "m.tar.gz"))
    flip(before.path / WEIGHTS)
    assert inspection.open_module(str(tmp_path / "m.tar.gz")) == before


def test_nothing_is_computed_with_damaged_weights(hub: Hub, own_cache: Path, bundled: Path) -> None:
    """Not even where the compiled model is there, and would be made anew of them."""
    hub.answers[HANDLE_PATH] = hubs.sends(hubs.packed(bundled))
    words = ("classify", PHOTO, "--module", "hub", "--top", "1", "-f", "csv")
    before = mnv1(*words)
    assert "Egyptian cat" in before.stdout
    flip(cache.cache_directory(DEFAULT_HANDLE) / WEIGHTS)
    refused = mnv1(*words, "--offline")
    assert refused.exit_code == 1
    assert refused.stdout == ""
    assert f"is damaged: {WEIGHTS} has changed" in refused.stderr
    healed = mnv1(*words)
    assert healed.stdout == before.stdout
    assert "preparing the module" not in healed.stderr
    assert len(artifacts.list_fingerprints()) == 1


def test_start_with_a_known_module_reads_its_files_once(
    with_bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspection.open_module("bundled")

    def never(*_: object) -> None:
        raise AssertionError("the files are read again")

    monkeypatch.setattr(files, "find_problems", never)
    monkeypatch.setattr(files, "hash_file", keeps_to("npz", files.hash_file))
    inspection.open_module("bundled")


def keeps_to(suffix: str, function: Any) -> Any:
    """The function, for files of one kind alone."""

    def checked(path: Path) -> Any:
        assert path.name.endswith(suffix)
        return function(path)

    return checked
