"""The cache: its layout, how modules are installed in it, and the list of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnv1cli.errors import ModuleError
from mnv1cli.modules import cache
from mnv1cli.modules.catalog import DEFAULT_HANDLE, list_handles
from mnv1cli.system import tempdirs
from tests.support.laid import FILES, lay, read_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HANDLE = "https://modules.example/a/1"


def fill_with(files: Mapping[str, bytes]) -> Callable[[Path], None]:
    def fill_so(directory: Path) -> None:
        lay(directory, files)

    return fill_so


fill = fill_with(FILES)


def list_left(cache: Path) -> set[Path]:
    """Return the files in a cache, except the lock, which stays and blocks nobody."""
    return {path for path in cache.iterdir() if not path.name.endswith(".mnv1-lock")}


def never(directory: Path) -> None:
    raise AssertionError("a module was made that is there already")


# A process that has made its module waits for the other one before it installs it.
INSTALL_TOGETHER = """
import os, pathlib, sys, time
import filelock
from mnv1cli.modules import cache, files

def refuse(lock):
    raise NotImplementedError
filelock.FileLock._acquire = refuse

def fill(directory):
    (directory / "variables").mkdir()
    for name in files.MODULE_FILES:
        (directory / name).touch()
    (meeting / str(os.getpid())).touch()
    deadline = time.monotonic() + 100
    while len(os.listdir(meeting)) < 2:
        assert time.monotonic() < deadline, "the other process did not come"
        time.sleep(0.01)

meeting = pathlib.Path(sys.argv[2])
sys.stdout.write(str(cache.install(sys.argv[1], fill)))
"""


class TestCacheDir:
    @pytest.mark.parametrize(
        ("environment", "chosen"),
        [
            ({"MNV1_CACHE_DIR": "/own", "TFHUB_CACHE_DIR": "/hub"}, "/own"),
            ({"MNV1_CACHE_DIR": "/own"}, "/own"),
            ({"TFHUB_CACHE_DIR": "/hub"}, "/hub"),
            ({"MNV1_CACHE_DIR": "", "TFHUB_CACHE_DIR": "/hub"}, "/hub"),
            ({}, platformdirs.user_cache_dir("mnv1")),
            ({"MNV1_CACHE_DIR": "", "TFHUB_CACHE_DIR": ""}, platformdirs.user_cache_dir("mnv1")),
        ],
    )
    def test_is_our_own_then_the_hubs_then_the_users(
        self, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], chosen: str
    ) -> None:
        for variable in ("MNV1_CACHE_DIR", "TFHUB_CACHE_DIR"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        assert cache.cache_root() == Path(chosen)

    def test_slot_of_the_default_module_is_that_of_the_hubs_library(self, own_cache: Path) -> None:
        assert (
            cache.cache_directory(DEFAULT_HANDLE)
            == own_cache / "5503b6afe269a54d2c6b31e191da98c2a85ddf04"
        )

    @given(handle=st.text())
    def test_slot_is_the_sha1_of_the_handle(self, handle: str) -> None:
        with_bytes = handle.encode()
        assert cache.cache_directory(handle).name == hashlib.sha1(with_bytes).hexdigest()


class TestInstall:
    def test_lays_a_module_where_it_is_found(self, own_cache: Path) -> None:
        assert cache.find_cached(HANDLE) is None
        directory = cache.install(HANDLE, fill)
        assert directory == cache.cache_directory(HANDLE) == cache.find_cached(HANDLE)
        assert read_files(directory) == FILES

    def test_leaves_the_module_and_a_descriptor_that_names_its_handle(
        self, own_cache: Path
    ) -> None:
        directory = cache.install(HANDLE, fill)
        descriptor = own_cache / f"{directory.name}.descriptor.txt"
        assert list_left(own_cache) == {directory, descriptor}
        assert descriptor.read_text().splitlines()[0] == f"Module: {HANDLE}"

    def test_does_not_touch_what_is_there(self, own_cache: Path) -> None:
        cache.install(HANDLE, fill)
        before = {path: path.stat().st_mtime_ns for path in own_cache.rglob("*")}
        assert cache.install(HANDLE, never) == cache.cache_directory(HANDLE)
        assert {path: path.stat().st_mtime_ns for path in own_cache.rglob("*")} == before

    def test_is_not_seen_before_it_is_complete(self, own_cache: Path) -> None:
        def look(directory: Path) -> None:
            assert not list(directory.iterdir())
            assert directory.parent == own_cache
            lay(directory)
            assert cache.find_cached(HANDLE) is None
            assert not cache.cache_directory(HANDLE).exists()

        cache.install(HANDLE, look)

    @pytest.mark.parametrize("failure", [ModuleError("refused"), KeyboardInterrupt()])
    def test_that_fails_leaves_nothing(self, own_cache: Path, failure: BaseException) -> None:
        def fail(directory: Path) -> None:
            lay(directory)
            raise failure

        with pytest.raises(type(failure)) as caught:
            cache.install(HANDLE, fail)
        assert caught.value is failure
        assert not list_left(own_cache)
        assert read_files(cache.install(HANDLE, fill)) == FILES

    def test_without_room_is_one_line_and_leaves_nothing(self, own_cache: Path) -> None:
        def fail(directory: Path) -> None:
            lay(directory)
            raise OSError(28, "No space left on device")

        with pytest.raises(ModuleError) as caught:
            cache.install(HANDLE, fail)
        assert str(caught.value) == (
            f"cannot write a module to {own_cache}: No space left on device; "
            "make room there, or set MNV1_CACHE_DIR to another directory"
        )
        assert not list_left(own_cache)

    @pytest.mark.parametrize("name", FILES)
    def test_of_half_a_module_is_refused_and_leaves_nothing(
        self, own_cache: Path, name: str
    ) -> None:
        half = {file: content for file, content in FILES.items() if file != name}
        with pytest.raises(ModuleError, match=f"{HANDLE} is not a module: {name} is missing"):
            cache.install(HANDLE, fill_with(half))
        assert not list_left(own_cache)

    def test_replaces_half_a_module(self, own_cache: Path) -> None:
        lay(cache.cache_directory(HANDLE), {"saved_model.pb": b"old", "stray": b"old"})
        assert cache.find_cached(HANDLE) is None
        assert read_files(cache.install(HANDLE, fill)) == FILES
        assert len(list_left(own_cache)) == 2

    def test_replaces_a_file_in_the_place_of_a_module(self, own_cache: Path) -> None:
        own_cache.mkdir()
        cache.cache_directory(HANDLE).touch()
        assert read_files(cache.install(HANDLE, fill)) == FILES
        assert len(list_left(own_cache)) == 2

    def test_bears_another_process_that_clears_the_same_half(
        self, own_cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lay(cache.cache_directory(HANDLE), {"saved_model.pb": b"old"})
        replace = os.replace

        def replace_too_late(source: Path, target: Path) -> None:
            shutil.rmtree(source)
            replace(source, target)

        monkeypatch.setattr(os, "replace", replace_too_late)
        assert read_files(cache.install(HANDLE, fill)) == FILES

    def test_leaves_a_module_that_another_process_was_faster_with(self, own_cache: Path) -> None:
        theirs = {**FILES, "saved_model.pb": b"theirs"}

        def slow(directory: Path) -> None:
            lay(directory)
            lay(cache.cache_directory(HANDLE), theirs)

        directory = cache.install(HANDLE, slow)
        assert read_files(directory) == theirs
        assert [path for path in own_cache.iterdir() if path.is_dir()] == [directory]

    def test_of_several_threads_at_once_makes_one_module(self, own_cache: Path) -> None:
        made = []

        def slow(directory: Path) -> None:
            made.append(directory)
            time.sleep(0.2)
            lay(directory)

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: cache.install(HANDLE, slow), range(4)))
        assert set(found) == {cache.cache_directory(HANDLE)}
        assert len(made) == 1
        assert read_files(found[0]) == FILES
        assert len(list_left(own_cache)) == 2

    def test_of_two_processes_without_locks_ends_with_one_module(
        self, own_cache: Path, tmp_path: Path
    ) -> None:
        meeting = tmp_path / "meeting"
        meeting.mkdir()
        command = [sys.executable, "-c", INSTALL_TOGETHER, HANDLE, str(meeting)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in "12"]
        found = {process.communicate(timeout=200)[0].strip() for process in processes}
        assert [process.returncode for process in processes] == [0, 0]
        assert found == {str(cache.cache_directory(HANDLE))}
        assert cache.find_cached(HANDLE)
        assert len(list_left(own_cache)) == 2

    def test_of_a_process_that_was_killed_does_not_block_the_next(self, own_cache: Path) -> None:
        name = cache.cache_directory(HANDLE).name
        lay(own_cache / f"{name}-{uuid.uuid4().hex}-tmp", {"saved_model.pb": b"half"})
        assert read_files(cache.install(HANDLE, fill)) == FILES
        assert not list(own_cache.glob("*-tmp"))


def test_sweep_takes_what_lies_beside_no_module(own_cache: Path) -> None:
    """Remove what a process left that was killed between the descriptor and the rename."""
    kept = cache.install(HANDLE, fill)
    gone = cache.cache_directory(f"{HANDLE}/gone").name
    for name in (f"{gone}.descriptor.txt", f"{gone}.mnv1-lock"):
        (own_cache / name).touch()
    cache.remove_leftovers()
    assert not list(own_cache.glob(f"{gone}*"))
    assert list_left(own_cache) == {kept, own_cache / f"{kept.name}.descriptor.txt"}


class TestUnwritableCache:
    def test_gives_a_module_elsewhere(self, unwritable_cache: Path) -> None:
        handle = f"{HANDLE}/elsewhere"
        directory = cache.install(handle, fill)
        assert read_files(directory) == FILES
        assert directory.is_relative_to(tempdirs.make_scratch_dir())
        assert cache.find_cached(handle) is None

    def test_gives_an_empty_folder_to_fill_every_time(self, unwritable_cache: Path) -> None:
        handle = f"{HANDLE}/twice"

        def careful(directory: Path) -> None:
            assert not list(directory.iterdir())
            lay(directory)

        first = cache.install(handle, careful)
        second = cache.install(handle, careful)
        assert read_files(first) == read_files(second) == FILES

    def test_keeps_nothing_of_a_failure(self, unwritable_cache: Path) -> None:
        handle = f"{HANDLE}/failure"
        with pytest.raises(ModuleError, match="is missing"):
            cache.install(handle, fill_with({"saved_model.pb": b""}))
        assert read_files(cache.install(handle, fill)) == FILES

    def test_has_no_modules(self, unwritable_cache: Path) -> None:
        assert cache.list_modules() == []


class TestCachedModules:
    def names(self, known: list[str] | None = None) -> list[str]:
        return [module.handle for module in cache.list_modules(known or ())]

    def test_of_no_cache_are_none(self, own_cache: Path) -> None:
        assert cache.list_modules() == []
        own_cache.mkdir()
        assert cache.list_modules() == []

    def test_are_named_as_they_were_installed(self, own_cache: Path) -> None:
        path = cache.install(HANDLE, fill)
        size = sum(map(len, FILES.values()))
        assert cache.list_modules() == [cache.CachedModule(HANDLE, path, size)]

    @pytest.mark.parametrize(
        "text",
        [
            f"Module: {HANDLE}\n",
            f"Module: {HANDLE}",
            f"Module: {HANDLE}\nDownload Time: 2019-01-01 00:00:00.000000\n"
            "Downloader Hostname: host (PID:1)",
            f"Module: {HANDLE}\r\nDownload Time: 2019-01-01 00:00:00.000000\r\n",
        ],
    )
    def test_are_named_by_descriptors_of_the_hubs_library(self, own_cache: Path, text: str) -> None:
        directory = lay(cache.cache_directory(HANDLE))
        directory.with_name(f"{directory.name}.descriptor.txt").write_text(text)
        assert self.names() == [HANDLE]

    @pytest.mark.parametrize("descriptor", [None, b"", b"something else\n", b"\xff\xfe"])
    def test_without_a_descriptor_are_named_if_they_are_known(
        self, own_cache: Path, descriptor: bytes | None
    ) -> None:
        for handle in (HANDLE, DEFAULT_HANDLE):
            directory = lay(cache.cache_directory(handle))
            if descriptor is not None:
                directory.with_name(f"{directory.name}.descriptor.txt").write_bytes(descriptor)
        assert self.names() == ["", ""]
        assert self.names(list_handles()) == ["", DEFAULT_HANDLE]
        assert self.names([HANDLE]) == ["", HANDLE]

    def test_come_in_the_order_of_their_handles(self, own_cache: Path) -> None:
        handles = [f"{HANDLE}/{letter}" for letter in "dbac"]
        for handle in handles:
            cache.install(handle, fill)
        assert self.names() == sorted(handles)

    def test_are_complete(self, own_cache: Path) -> None:
        cache.install(HANDLE, fill)
        lay(own_cache / "half", {"saved_model.pb": b""})
        lay(own_cache, {"a file": b""})
        assert self.names() == [HANDLE]

    @pytest.mark.parametrize("leftover", ["{}-0123456789abcdef-tmp", "{}.0123456789abcdef.tmp"])
    def test_are_not_what_a_killed_process_left(self, own_cache: Path, leftover: str) -> None:
        cache.install(HANDLE, fill)
        lay(own_cache / leftover.format(cache.cache_directory(f"{HANDLE}/killed").name))
        assert self.names() == [HANDLE]
