"""Unpacking `.tar.gz` archives that somebody else made."""

from __future__ import annotations

import errno
import gzip
import shutil
import tarfile
import uuid
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import ModuleError

if TYPE_CHECKING:
    from collections.abc import Iterator

# What an archive may unpack to; a module of the family has 17 MB.
_MAX_MEMBERS = 10_000
_MAX_BYTES = 2 << 30
_CHUNK = 1 << 20

# The disk's troubles, as opposed to those of a name in the archive.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


def unpack(archive: Path, directory: Path) -> None:
    """Unpack a `.tar.gz` into the empty `directory`, files and folders only.

    A module may lie in a single folder at the archive's root: it comes to the
    root then.

    Raises:
        ModuleError: not an archive, or one that is unsafe, too large or damaged.
        OSError: the archive cannot be read, or `directory` not written.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member, relative in _members(tar, archive):
                _place(tar, member, directory / relative, archive)
            # The checksum of the whole comes last, behind the padding that tar leaves.
            while tar.fileobj is not None and tar.fileobj.read(_CHUNK):
                pass
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise ModuleError(f"{archive} is not an intact .tar.gz archive: {error}") from error
    _lift_single_folder(directory)


def _members(tar: tarfile.TarFile, archive: Path) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    """The members with their safe relative paths; refuses what could do harm."""
    total = 0
    for count, member in enumerate(tar):
        relative = Path(member.name)
        total += member.size
        if relative.is_absolute() or ".." in relative.parts or "\0" in member.name:
            raise ModuleError(f"{archive} is refused: {member.name!r} lies outside of it")
        if not (member.isfile() or member.isdir()):
            raise ModuleError(f"{archive} is refused: {member.name!r} is a link or a device")
        if total > _MAX_BYTES or count >= _MAX_MEMBERS:
            raise ModuleError(
                f"{archive} is refused: it unpacks to more than "
                f"{_MAX_BYTES >> 30} GiB or {_MAX_MEMBERS} files"
            )
        yield member, relative


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, archive: Path) -> None:
    """Write one member; a name that cannot be placed is the archive's fault."""
    try:
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = target.open("xb")
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise
        raise ModuleError(
            f"{archive} is refused: {member.name!r} cannot be placed ({error.strerror})"
        ) from error
    source = tar.extractfile(member)
    assert source is not None  # `_members` lets files and folders through alone
    with source, copy:
        shutil.copyfileobj(source, copy, _CHUNK)


def _lift_single_folder(directory: Path) -> None:
    entries = list(directory.iterdir())
    if len(entries) != 1 or not (entries[0] / "saved_model.pb").is_file():
        return
    folder = entries[0].rename(directory / f"{uuid.uuid4().hex}-tmp")
    for entry in folder.iterdir():
        entry.rename(directory / entry.name)
    folder.rmdir()
