"""The cache of modules on disk, and its layout.

The layout is that of the `tensorflow_hub` library, so that both can share a
cache: a module is in the directory `sha1(handle)`, and the file
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
from mnv1cli.system.tempdirs import make_scratch_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

log = logging.getLogger(__name__)

# A module's directory is named by a sha1; while it is being made, the name is longer.
_MODULE_NAME = re.compile(r"[0-9a-f]{40}")
_UNFINISHED = "-tmp"

# The suffixes of files beside a module's directory.
_DESCRIPTOR = ".descriptor.txt"
_FORMER_CHECKSUMS = ".sha256"
_LOCK = ".mnv1-lock"


def cache_root() -> Path:
    """Return the directory of the cache: MNV1_CACHE_DIR, TFHUB_CACHE_DIR, or the user's cache."""
    for variable in ("MNV1_CACHE_DIR", "TFHUB_CACHE_DIR"):
        if named := os.environ.get(variable):
            return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("mnv1"))


def cache_directory(handle: str) -> Path:
    """Return the directory in the cache that a handle's module has or would have."""
    return cache_root() / hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()


def is_complete(directory: Path) -> bool:
    """Return whether a directory has all the files of a module."""
    return find_missing_file(directory) is None


def find_cached(handle: str) -> Path | None:
    """Return the directory of a handle's module if it is cached with all its files."""
    directory = cache_directory(handle)
    return directory if is_complete(directory) else None


def install(
    handle: str, fill: Callable[[Path], None], is_sound: Callable[[Path], bool] = is_complete
) -> Path:
    """Return the directory of a handle's module; unless it is sound, let `fill` make it anew.

    `fill` works in an empty temporary sibling that is renamed when it is
    complete, with its checksums, so a process that dies leaves nothing that
    looks like a module, and of two processes the first to finish decides. If
    the cache cannot be written, the module is in a temporary directory that is
    removed when the process ends.

    Raises:
        ModuleError: `fill` raised it or made no module, or the disk cannot be written.
    """
    target = cache_directory(handle)
    if is_sound(target):
        return target
    with lock(target) as locked:
        if is_sound(target):
            return target
        if locked:
            _remove_leftovers_of(target)
        try:
            work = target.with_name(f"{target.name}-{uuid.uuid4().hex}{_UNFINISHED}")
            work.mkdir()
        except OSError:
            log.info("the cache %s cannot be written: nothing is kept", target.parent)
            work = target = make_scratch_dir() / target.name
            if work.exists():
                return work
            work.mkdir()
        with _remove_on_failure(work):
            fill(work)
            if missing := find_missing_file(work):
                raise ModuleError(f"{handle} is not a module: {missing} is missing")
            if work != target:
                write_checksums(work)
                _publish(work, target, handle, is_sound)
        return target


@contextlib.contextmanager
def _remove_on_failure(work: Path) -> Iterator[None]:
    """Remove a directory again if it cannot be filled."""
    try:
        yield
    except BaseException as error:
        shutil.rmtree(work, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise ModuleError(
            f"cannot write a module to {work.parent}: {error.strerror or error}",
            "make room there, or set MNV1_CACHE_DIR to another directory",
        ) from error


@contextlib.contextmanager
def lock(target: Path, wait: bool = True) -> Iterator[bool]:
    """Lock what is made at `target` against other processes; yield whether it is locked.

    The system releases the lock of a process that dies. There is no lock on a
    file system without locks, where the cache cannot be written, and, without
    `wait`, where another process holds it.
    """
    from filelock import Timeout

    # Not NAME.lock: that is the hub library's own, where the mere file means "wait".
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
    file_lock = _make_lock(target.with_name(f"{target.name}{_LOCK}"))
    try:
        try:
            file_lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                yield False
                return
            log.info("waiting for another process that prepares the module")
            file_lock.acquire()
    except (OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        file_lock.release()


def _make_lock(path: Path) -> Any:
    """Make a lock that the system releases when its process ends."""
    from filelock import FileLock

    try:
        # The mere file as a lock would remain after a process that was killed.
        return FileLock(path, fallback_to_soft=False)
    except TypeError:  # filelock did not do that before
        return FileLock(path)


def _remove_leftovers_of(target: Path) -> None:
    """Remove what dead processes left; the holder of the lock is the only one alive."""
    for leftover in target.parent.glob(f"{target.name}-*{_UNFINISHED}"):
        shutil.rmtree(leftover, ignore_errors=True)


def _publish(work: Path, target: Path, handle: str, is_sound: Callable[[Path], bool]) -> None:
    """Rename a finished module to its place, unless another process was faster."""
    if os.path.lexists(target) and not is_sound(target):
        # Half a module, from a user or a tool that does not rename, or a damaged one: make room.
        _discard(target)
    # Before the rename, which completes the module.
    target.with_name(target.name + _DESCRIPTOR).write_text(f"Module: {handle}\n")
    try:
        os.rename(work, target)
    except OSError:
        if not is_sound(target):
            raise
        shutil.rmtree(work, ignore_errors=True)


def remove(directory: Path) -> int:
    """Remove a module from the cache, with the files beside it; return its size in bytes."""
    freed = measure_size(directory)
    _discard(directory)
    for suffix in (_DESCRIPTOR, _FORMER_CHECKSUMS, _LOCK):
        directory.with_name(directory.name + suffix).unlink(missing_ok=True)
    return freed


def remove_leftovers() -> None:
    """Remove what dead processes left anywhere in the cache, and locks that nobody holds."""
    root = cache_root()
    for file in root.glob(f"*{_LOCK}") if root.is_dir() else ():
        target = file.with_name(file.name.removesuffix(_LOCK))
        with lock(target, wait=False) as locked:
            if locked:
                _remove_leftovers_of(target)
                if not target.exists():
                    target.with_name(target.name + _DESCRIPTOR).unlink(missing_ok=True)
                    file.unlink(missing_ok=True)


def _discard(path: Path) -> None:
    """Remove a file or folder at once, unless another process has done so."""
    doomed = path.with_name(f"{path.name}-{uuid.uuid4().hex}{_UNFINISHED}")
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, doomed)
        if doomed.is_dir() and not doomed.is_symlink():
            shutil.rmtree(doomed, ignore_errors=True)
        else:
            doomed.unlink()


@dataclass(frozen=True, slots=True)
class CachedModule:
    """A module in the cache; `size` is in bytes, `handle` is empty where nothing names it."""

    handle: str
    path: Path
    size: int
    complete: bool = True


def list_modules(known_handles: Iterable[str] = (), broken: bool = False) -> list[CachedModule]:
    """List the complete modules in the cache by handle; with `broken` also the incomplete ones.

    The name of a directory is a hash; where no descriptor names the handle,
    those of `known_handles` are tried.
    """
    root = cache_root()
    names = {cache_directory(handle).name: handle for handle in known_handles}
    modules = []
    for directory in root.iterdir() if root.is_dir() else ():
        if not _MODULE_NAME.fullmatch(directory.name) or not directory.is_dir():
            continue
        complete = find_missing_file(directory) is None
        if broken or complete:
            handle = _read_handle(directory) or names.get(directory.name, "")
            modules.append(CachedModule(handle, directory, measure_size(directory), complete))
    return sorted(modules, key=lambda module: (module.handle, module.path))


def _read_handle(directory: Path) -> str:
    """Read the handle in the descriptor beside a module, as the hub's library writes it too."""
    try:
        text = directory.with_name(directory.name + _DESCRIPTOR).read_text("utf-8", "replace")
    except OSError:
        return ""
    first = text.partition("\n")[0]
    return first.removeprefix("Module: ").strip() if first.startswith("Module: ") else ""
