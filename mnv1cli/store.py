"""Modules on disk: the cache, its layout, fingerprints.

The cache is laid out as the `tensorflow_hub` library lays it, so that both can
share one: a module lies in the directory `sha1(handle)`, and a file
`sha1(handle).descriptor.txt` beside it names the handle.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import ModuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MODULE_FILES = (
    "saved_model.pb",
    "tfhub_module.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
)

_CHUNK = 1 << 20

# How the directory of a module ends while it is being made: ours, and the hub library's.
_UNFINISHED = "-tmp"
_UNFINISHED_BY_HUB = ".tmp"


def cache_dir() -> Path:
    """Where modules are cached: MNV1_CACHE_DIR, TFHUB_CACHE_DIR, or the user's cache."""
    for variable in ("MNV1_CACHE_DIR", "TFHUB_CACHE_DIR"):
        if named := os.environ.get(variable):
            return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("mnv1"))


def slot(handle: str) -> Path:
    """The directory in the cache that a handle's module has or would have."""
    return cache_dir() / hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()


def missing_file(directory: Path) -> str | None:
    """The first file that a module must have and `directory` lacks, or None."""
    for name in MODULE_FILES:
        if not (directory / name).is_file():
            return name
    return None


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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = target.with_name(f"{target.name}-{uuid.uuid4().hex}{_UNFINISHED}")
        work.mkdir()
    except OSError:
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
    target.with_name(f"{target.name}.descriptor.txt").write_text(f"Module: {handle}\n")
    return target


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


def file_digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def module_files(directory: Path) -> list[str]:
    """The files that make up a module, as sorted relative names."""
    names = ["saved_model.pb", "tfhub_module.pb"]
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


def cached_modules(known_handles: Iterable[str] = ()) -> list[CachedModule]:
    """Every complete module in the cache, by handle.

    A directory's name is a hash; where no descriptor names the handle, those of
    `known_handles` are tried.
    """
    root = cache_dir()
    known = {slot(handle).name: handle for handle in known_handles}
    found = []
    for directory in root.iterdir() if root.is_dir() else ():
        if directory.name.endswith((_UNFINISHED, _UNFINISHED_BY_HUB)):
            continue
        if directory.is_dir() and missing_file(directory) is None:
            handle = _described_handle(directory) or known.get(directory.name, "")
            found.append(CachedModule(handle, directory, size(directory)))
    return sorted(found, key=lambda module: (module.handle, module.path))


def _described_handle(directory: Path) -> str:
    """The handle in the descriptor beside a module, as the hub's library writes it too."""
    try:
        text = directory.with_name(f"{directory.name}.descriptor.txt").read_text("utf-8", "replace")
    except OSError:
        return ""
    first = text.partition("\n")[0]
    return first.removeprefix("Module: ").strip() if first.startswith("Module: ") else ""
