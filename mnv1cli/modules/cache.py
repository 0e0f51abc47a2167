"""Modules on disk: the cache and its layout.

The cache is laid out as the `tensorflow_hub` library lays it, so that both can
share one: a module lies in the directory `sha1(handle)`, and a file
`sha1(handle).descriptor.txt` beside it names the handle.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ModuleError
from mnv1cli.modules.files import find_missing_file, measure_size, write_checksums
from mnv1cli.system.tempdirs import scratch_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

log = logging.getLogger(__name__)

# A module's directory is a sha1; while it is being made there is more behind it.
_MODULE_NAME = re.compile(r"[0-9a-f]{40}")
_UNFINISHED = "-tmp"

# What lies beside a module's directory NAME.
_DESCRIPTOR = ".descriptor.txt"
_FORMER_CHECKSUMS = ".sha256"
_LOCK = ".mnv1-lock"


def cache_root() -> Path:
    """Where modules are cached: MNV1_CACHE_DIR, TFHUB_CACHE_DIR, or the user's cache."""
    for variable in ("MNV1_CACHE_DIR", "TFHUB_CACHE_DIR"):
        if named := os.environ.get(variable):
            return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("mnv1"))


def cache_directory(handle: str) -> Path:
    """The directory in the cache that a handle's module has or would have."""
    return cache_root() / hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()


def is_complete(directory: Path) -> bool:
    """Whether a module is there with all its files."""
    return find_missing_file(directory) is None


def find_cached(handle: str) -> Path | None:
    """The cached module of a handle, if it is there with all its files."""
    directory = cache_directory(handle)
    return directory if is_complete(directory) else None


def install(
    handle: str, fill: Callable[[Path], None], sound: Callable[[Path], bool] = is_complete
) -> Path:
    """The module of `handle`, made by `fill` in an empty directory unless a `sound` one is cached.

    `fill` works in a temporary sibling that is renamed when it is complete, its
    checksums included, so a process that dies leaves nothing that looks like a
    module, and of two that work at once the first one to finish decides. Where
    the cache cannot be written the module lies in a temporary directory that
    goes with the process.

    Raises:
        ModuleError: what `fill` raised, or it did not make a module, or there is no room.
    """
    target = cache_directory(handle)
    if sound(target):
        return target
    with lock(target) as alone:
        if sound(target):
            return target
        if alone:
            _remove_leftovers_of(target)
        try:
            work = target.with_name(f"{target.name}-{uuid.uuid4().hex}{_UNFINISHED}")
            work.mkdir()
        except OSError:
            log.info("the cache %s cannot be written: nothing is kept", target.parent)
            work = target = scratch_dir() / target.name
            if work.exists():
                return work
            work.mkdir()
        with _remove_on_failure(work):
            fill(work)
            if lacking := find_missing_file(work):
                raise ModuleError(f"{handle} is not a module: {lacking} is missing")
            if work != target:
                write_checksums(work)
                _publish(work, target, handle, sound)
        return target


@contextlib.contextmanager
def _remove_on_failure(work: Path) -> Iterator[None]:
    """Take a directory away again that could not be filled."""
    try:
        yield
    except BaseException as error:
        shutil.rmtree(work, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise ModuleError(
            f"cannot write a module to {work.parent}: {error.strerror or error}",
            "make room there, or name another place in MNV1_CACHE_DIR",
        ) from error


@contextlib.contextmanager
def lock(target: Path, wait: bool = True) -> Iterator[bool]:
    """Only one process at a time makes what `target` is; gives whether that is certain.

    The system lets go of the lock of a process that dies. On a file system
    without locks, and where the cache cannot be written, nobody waits.
    """
    from filelock import Timeout

    # Not NAME.lock: that is the hub library's own, and its file alone means "wait".
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
    lock = _make_lock(target.with_name(f"{target.name}{_LOCK}"))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                yield False
                return
            log.info("waiting for another process that prepares the module")
            lock.acquire()
    except (OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _make_lock(path: Path) -> Any:
    """A lock that the system lets go of with its process, or none."""
    from filelock import FileLock

    try:
        # A file that only exists instead would stay behind a process that was killed.
        return FileLock(path, fallback_to_soft=False)
    except TypeError:  # filelock did not do that before
        return FileLock(path)


def _remove_leftovers_of(target: Path) -> None:
    """Take away what dead processes left: who holds the lock is the only one alive."""
    for leftover in target.parent.glob(f"{target.name}-*{_UNFINISHED}"):
        shutil.rmtree(leftover, ignore_errors=True)


def _publish(work: Path, target: Path, handle: str, sound: Callable[[Path], bool]) -> None:
    """Rename a finished module into its place, unless another process was faster."""
    if os.path.lexists(target) and not sound(target):
        # Half a module, from a hand or a tool that does not rename, or a damaged one: make room.
        _discard(target)
    # Before the rename: with that all is done.
    target.with_name(target.name + _DESCRIPTOR).write_text(f"Module: {handle}\n")
    try:
        os.rename(work, target)
    except OSError:
        if not sound(target):
            raise
        shutil.rmtree(work, ignore_errors=True)


def remove(directory: Path) -> int:
    """Take a module out of the cache, with what lies beside it; the bytes that it took."""
    freed = measure_size(directory)
    _discard(directory)
    for suffix in (_DESCRIPTOR, _FORMER_CHECKSUMS, _LOCK):
        directory.with_name(directory.name + suffix).unlink(missing_ok=True)
    return freed


def remove_leftovers() -> None:
    """Take away what dead processes left anywhere in the cache, and locks that nobody holds."""
    root = cache_root()
    for file in root.glob(f"*{_LOCK}") if root.is_dir() else ():
        target = file.with_name(file.name.removesuffix(_LOCK))
        with lock(target, wait=False) as alone:
            if alone:
                _remove_leftovers_of(target)
                if not target.exists():
                    target.with_name(target.name + _DESCRIPTOR).unlink(missing_ok=True)
                    file.unlink(missing_ok=True)


def _discard(path: Path) -> None:
    """Take a file or folder out of the way, unless another process has done so."""
    doomed = path.with_name(f"{path.name}-{uuid.uuid4().hex}{_UNFINISHED}")
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, doomed)
        if doomed.is_dir() and not doomed.is_symlink():
            shutil.rmtree(doomed, ignore_errors=True)
        else:
            doomed.unlink()


@dataclass(frozen=True, slots=True)
class CachedModule:
    """A module in the cache; `handle` is empty where nothing names it."""

    handle: str
    path: Path
    size: int
    complete: bool = True


def list_modules(known_handles: Iterable[str] = (), broken: bool = False) -> list[CachedModule]:
    """Every complete module in the cache, by handle; with `broken` also those that are not.

    A directory's name is a hash; where no descriptor names the handle, those of
    `known_handles` are tried.
    """
    root = cache_root()
    known = {cache_directory(handle).name: handle for handle in known_handles}
    found = []
    for directory in root.iterdir() if root.is_dir() else ():
        if not _MODULE_NAME.fullmatch(directory.name) or not directory.is_dir():
            continue
        complete = find_missing_file(directory) is None
        if broken or complete:
            handle = _read_handle(directory) or known.get(directory.name, "")
            found.append(CachedModule(handle, directory, measure_size(directory), complete))
    return sorted(found, key=lambda module: (module.handle, module.path))


def _read_handle(directory: Path) -> str:
    """The handle in the descriptor beside a module, as the hub's library writes it too."""
    try:
        text = directory.with_name(directory.name + _DESCRIPTOR).read_text("utf-8", "replace")
    except OSError:
        return ""
    first = text.partition("\n")[0]
    return first.removeprefix("Module: ").strip() if first.startswith("Module: ") else ""
