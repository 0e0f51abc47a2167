"""Modules on disk: the cache, its layout, archives, fingerprints.

The cache is laid out as the `tensorflow_hub` library lays it, so that both can
share one: a module lies in the directory `sha1(handle)`, and a file
`sha1(handle).descriptor.txt` beside it names the handle.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import uuid
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import ModuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MODULE_FILES = (
    "saved_model.pb",
    "tfhub_module.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
)

# What an archive may unpack to. The largest module of the family has 17 MB.
_MAX_MEMBERS = 10_000
_MAX_BYTES = 2 << 30
_CHUNK = 1 << 20


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
        work = target.with_name(f"{target.name}-{uuid.uuid4().hex}-tmp")
        work.mkdir()
    except OSError:
        work = target = scratch_dir() / target.name
        work.mkdir(exist_ok=True)
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
        broken = target.with_name(f"{target.name}-{uuid.uuid4().hex}-tmp")
        os.replace(target, broken)
        shutil.rmtree(broken, ignore_errors=True)
    try:
        os.rename(work, target)
    except OSError:
        if missing_file(target):
            raise
        shutil.rmtree(work, ignore_errors=True)
        return target
    target.with_name(f"{target.name}.descriptor.txt").write_text(f"Module: {handle}\n")
    return target


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mnv1-")


def scratch_dir() -> Path:
    """A directory for what cannot be cached; it is removed when the process ends."""
    return Path(_scratch().name)


def unpack(archive: Path, directory: Path) -> None:
    """Unpack a module's `.tar.gz` into `directory`, files and folders only.

    The module may lie at the archive's root or in a single folder there.

    Raises:
        ModuleError: not an archive, or one that is unsafe, too large or damaged.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member, relative in _members(tar, archive):
                target = directory / relative
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None  # `_members` lets regular files through alone
                with source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy, _CHUNK)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ModuleError(f"{archive} is not an intact .tar.gz archive: {error}") from error
    _lift_single_folder(directory)


def _members(tar: tarfile.TarFile, archive: Path) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    """The members with their safe relative paths; refuses what could do harm."""
    total = 0
    for count, member in enumerate(tar):
        relative = Path(member.name)
        total += member.size
        if relative.is_absolute() or ".." in relative.parts:
            raise ModuleError(f"{archive} is refused: {member.name!r} lies outside of it")
        if not (member.isfile() or member.isdir()):
            raise ModuleError(f"{archive} is refused: {member.name!r} is a link or a device")
        if total > _MAX_BYTES or count >= _MAX_MEMBERS:
            raise ModuleError(
                f"{archive} is refused: it unpacks to more than "
                f"{_MAX_BYTES >> 30} GiB or {_MAX_MEMBERS} files"
            )
        yield member, relative


def _lift_single_folder(directory: Path) -> None:
    entries = list(directory.iterdir())
    if len(entries) != 1 or not (entries[0] / MODULE_FILES[0]).is_file():
        return
    folder = entries[0].rename(directory / f"{uuid.uuid4().hex}-tmp")
    for entry in folder.iterdir():
        entry.rename(directory / entry.name)
    folder.rmdir()


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
        digest.update(name.encode() + b"\0" + path.stat().st_size.to_bytes(8, "big"))
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
