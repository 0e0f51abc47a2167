"""Modules on disk: the cache, its layout, fingerprints.

The cache is laid out as the `tensorflow_hub` library lays it, so that both can
share one: a module lies in the directory `sha1(handle)`, and a file
`sha1(handle).descriptor.txt` beside it names the handle.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import ModuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

log = logging.getLogger(__name__)

HUB_MARK = "tfhub_module.pb"
MODULE_FILES = (
    "saved_model.pb",
    HUB_MARK,
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
)

_CHUNK = 1 << 20

# A module's directory is a sha1; while it is being made there is more behind it.
_MODULE_NAME = re.compile(r"[0-9a-f]{40}")
_UNFINISHED = "-tmp"

# What lies beside a module's directory NAME.
_DESCRIPTOR = ".descriptor.txt"
_CHECKSUMS = ".sha256"
_LOCK = ".mnv1-lock"
_FAILURE = ".unreachable"
_FAILURE_SECONDS = 24 * 60 * 60


def cache_dir() -> Path:
    """Where modules are cached: MNV1_CACHE_DIR, TFHUB_CACHE_DIR, or the user's cache."""
    for variable in ("MNV1_CACHE_DIR", "TFHUB_CACHE_DIR"):
        if named := os.environ.get(variable):
            return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("mnv1"))


def slot(handle: str) -> Path:
    """The directory in the cache that a handle's module has or would have."""
    return cache_dir() / hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()


def missing_file(directory: Path) -> str | None:
    """The first file that a module must have and `directory` lacks, or None.

    A TF2 SavedModel needs no `tfhub_module.pb`.
    """
    for name in MODULE_FILES:
        if os.path.isfile(directory / name):
            continue
        if name == HUB_MARK and _is_tf2(directory / MODULE_FILES[0]):
            continue
        return name
    return None


def _is_tf2(graph: Path) -> bool:
    """Whether a `saved_model.pb` has the tag `serve`, told without TensorFlow.

    The tag is field 4 of its MetaInfoDef: the key 0x22, the length, the text.
    """
    return b"\x22\x05serve" in graph.read_bytes()


def find(handle: str) -> Path | None:
    """The cached module of a handle, if it is there with all its files."""
    directory = slot(handle)
    return directory if missing_file(directory) is None else None


def install(handle: str, fill: Callable[[Path], None]) -> Path:
    """The module of `handle`, made by `fill` in an empty directory if it is not cached.

    `fill` works in a temporary sibling that is renamed when it is complete, so
    a process that dies leaves nothing that looks like a module, and of two that
    work at once the first one to finish decides. Where the cache cannot be
    written the module lies in a temporary directory that goes with the process.

    Raises:
        ModuleError: what `fill` raised, or it did not make a module.
    """
    if found := find(handle):
        return found
    target = slot(handle)
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target) as alone:
        if found := find(handle):
            return found
        if alone:
            _sweep(target)
        try:
            work = target.with_name(f"{target.name}-{uuid.uuid4().hex}{_UNFINISHED}")
            work.mkdir()
        except OSError:
            log.info("the cache %s cannot be written: nothing is kept", target.parent)
            work = target = scratch_dir() / target.name
            if work.exists():
                return work
            work.mkdir()
        try:
            fill(work)
            if lacking := missing_file(work):
                raise ModuleError(f"{handle} is not a module: {lacking} is missing")
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        return work if work == target else _publish(work, target, handle)


@contextlib.contextmanager
def _locked(target: Path, wait: bool = True) -> Iterator[bool]:
    """Only one process at a time makes a module; gives whether that is certain.

    The system lets go of the lock of a process that dies. On a file system
    without locks, and where the cache cannot be written, nobody waits.
    """
    from filelock import FileLock, Timeout

    # Not NAME.lock: that is the hub library's own, and its file alone means "wait".
    lock = FileLock(target.with_name(f"{target.name}{_LOCK}"))
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


def _sweep(target: Path) -> None:
    """Take away what dead processes left: who holds the lock is the only one alive."""
    for leftover in target.parent.glob(f"{target.name}-*{_UNFINISHED}"):
        shutil.rmtree(leftover, ignore_errors=True)


def _publish(work: Path, target: Path, handle: str) -> Path:
    """Rename a finished module into its place, unless another process was faster."""
    if target.exists() and missing_file(target):
        # Half a module, from a hand or a tool that does not rename: make room.
        _discard(target)
    try:
        os.rename(work, target)
    except OSError:
        if missing_file(target):
            raise
        shutil.rmtree(work, ignore_errors=True)
        return target
    target.with_name(target.name + _DESCRIPTOR).write_text(f"Module: {handle}\n")
    sums = (f"{file_digest(target / name)}  {name}\n" for name in module_files(target))
    target.with_name(target.name + _CHECKSUMS).write_text("".join(sums))
    return target


def verify(directory: Path) -> list[str]:
    """What is wrong with a module's files, a line each.

    They are held against the checksums that were noted when it came; of a
    module that was laid there by hand there are none.
    """
    lacking = missing_file(directory)
    problems = [f"{lacking} is missing"] if lacking else []
    noted = _noted_checksums(directory)
    if not noted and has_checksums(directory):
        problems.append("the list of its checksums is damaged")
    for name in sorted({*noted, *module_files(directory)}):
        path = directory / name
        if not path.is_file():
            problems += [f"{name} is missing"] if name != lacking else []
        elif noted and name not in noted:
            problems.append(f"{name} was not there when the module came")
        elif noted and file_digest(path) != noted[name]:
            problems.append(f"{name} has changed since the module came")
    return problems


def has_checksums(directory: Path) -> bool:
    """Whether checksums of this module were noted."""
    return os.path.isfile(directory.with_name(directory.name + _CHECKSUMS))


def _noted_checksums(directory: Path) -> dict[str, str]:
    try:
        lines = directory.with_name(directory.name + _CHECKSUMS).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    pairs = (line.split("  ", 1) for line in lines if "  " in line)
    return {name: digest for digest, name in pairs}


def remove(directory: Path) -> int:
    """Take a module out of the cache, with what lies beside it; the bytes that it took."""
    freed = size(directory)
    _discard(directory)
    for suffix in (_DESCRIPTOR, _CHECKSUMS, _LOCK):
        directory.with_name(directory.name + suffix).unlink(missing_ok=True)
    return freed


def sweep() -> None:
    """Take away what dead processes left anywhere in the cache, and locks that nobody holds."""
    root = cache_dir()
    for lock in root.glob(f"*{_LOCK}") if root.is_dir() else ():
        target = lock.with_name(lock.name.removesuffix(_LOCK))
        with _locked(target, wait=False) as alone:
            if alone:
                _sweep(target)
                if not target.exists():
                    lock.unlink(missing_ok=True)


def remember_failure(handle: str, sources: Sequence[str]) -> None:
    """Note that none of the sources served a module, so that the next run need not ask."""
    note = slot(handle)
    text = json.dumps({"time": time.time(), "sources": list(sources)})
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.with_name(note.name + _FAILURE).write_text(text)


def remembers_failure(handle: str, sources: Sequence[str]) -> bool:
    """Whether these very sources failed within the last day."""
    note = slot(handle)
    try:
        told = json.loads(note.with_name(note.name + _FAILURE).read_text())
        age = time.time() - told["time"]
        return bool(0 <= age < _FAILURE_SECONDS and told["sources"] == list(sources))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def forget_failure(handle: str) -> None:
    """Let the sources be asked again."""
    note = slot(handle)
    with contextlib.suppress(OSError):
        note.with_name(note.name + _FAILURE).unlink(missing_ok=True)


def _discard(path: Path) -> None:
    """Take a file or folder out of the way, unless another process has done so."""
    doomed = path.with_name(f"{path.name}-{uuid.uuid4().hex}{_UNFINISHED}")
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, doomed)
        if doomed.is_dir() and not doomed.is_symlink():
            shutil.rmtree(doomed, ignore_errors=True)
        else:
            doomed.unlink()


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mnv1-")


def scratch_dir() -> Path:
    """A directory for what cannot be cached; it is removed when the process ends."""
    return Path(_scratch().name)


def clear_scratch() -> None:
    """Remove it at once, for a process that ends without Python's farewells."""
    if _scratch.cache_info().currsize:
        _scratch().cleanup()


def is_kept(directory: Path) -> bool:
    """Whether a module will still be there when the process has ended."""
    return not _scratch.cache_info().currsize or scratch_dir() not in directory.parents


def plain_path(directory: Path) -> str:
    """A path to a module for TensorFlow, which takes a name for a pattern and for UTF-8.

    Where the name would mislead it, this is a link without such characters.
    """
    name = os.fspath(directory)
    if name.isascii() and not set(name) & set("*?[]\\"):
        return name
    link = scratch_dir() / hashlib.sha256(os.fsencode(os.path.abspath(name))).hexdigest()
    if not link.is_symlink():
        link.symlink_to(os.path.abspath(name))
    return os.fspath(link)


def file_digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def module_files(directory: Path) -> list[str]:
    """The files that make up a module, as sorted relative names."""
    names = [name for name in ("saved_model.pb", HUB_MARK) if (directory / name).is_file()]
    for folder in ("variables", "assets"):
        found = (path for path in (directory / folder).rglob("*") if path.is_file())
        names += [path.relative_to(directory).as_posix() for path in found]
    return sorted(names)


def fingerprint(directory: Path) -> str:
    """What tells two modules apart: sha256, in hexadecimal.

    Over each file of `module_files` in order: its relative name in UTF-8, a
    zero byte, its length as 8 bytes big-endian, its bytes.
    """
    digest = hashlib.sha256()
    for name in module_files(directory):
        path = directory / name
        digest.update(os.fsencode(name) + b"\0" + path.stat().st_size.to_bytes(8, "big"))
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def size(directory: Path) -> int:
    """Bytes that a module takes on disk."""
    return sum((directory / name).stat().st_size for name in module_files(directory))


@dataclass(frozen=True, slots=True)
class CachedModule:
    """A module in the cache; `handle` is empty where nothing names it."""

    handle: str
    path: Path
    size: int
    complete: bool = True


def cached_modules(known_handles: Iterable[str] = (), broken: bool = False) -> list[CachedModule]:
    """Every complete module in the cache, by handle; with `broken` also those that are not.

    A directory's name is a hash; where no descriptor names the handle, those of
    `known_handles` are tried.
    """
    root = cache_dir()
    known = {slot(handle).name: handle for handle in known_handles}
    found = []
    for directory in root.iterdir() if root.is_dir() else ():
        if not _MODULE_NAME.fullmatch(directory.name) or not directory.is_dir():
            continue
        complete = missing_file(directory) is None
        if broken or complete:
            handle = _described_handle(directory) or known.get(directory.name, "")
            found.append(CachedModule(handle, directory, size(directory), complete))
    return sorted(found, key=lambda module: (module.handle, module.path))


def _described_handle(directory: Path) -> str:
    """The handle in the descriptor beside a module, as the hub's library writes it too."""
    try:
        text = directory.with_name(directory.name + _DESCRIPTOR).read_text("utf-8", "replace")
    except OSError:
        return ""
    first = text.partition("\n")[0]
    return first.removeprefix("Module: ").strip() if first.startswith("Module: ") else ""
