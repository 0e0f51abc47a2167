"""Safe unpacking of `.tar.gz` archives from others."""

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
from mnv1cli.system.bounded_reader import (
    MAX_HEADER,
    MAX_TAIL,
    BoundedGzipReader,
    BoundedReader,
    ExcessError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# The limits of what an archive unpacks to; a module of the family has 17 MB.
MAX_MEMBERS = 10_000
MAX_BYTES = 2 << 30
_MAX_DEPTH = 32
# Weights hardly compress: an archive that unpacks to so many times its size is a bomb.
_MAX_RATIO = 100
_ALWAYS_BYTES = 256 << 20
_CHUNK = 1 << 20

# Errors of the disk, as opposed to those of a name in the archive.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


def unpack_archive(archive: Path, directory: Path) -> None:
    """Unpack a `.tar.gz` into the empty `directory`, files and folders only.

    A module in a single folder at the archive's root is moved up to the root.

    Raises:
        ModuleError: the file is not an archive, or is unsafe, too large or damaged.
        OSError: the archive cannot be read, or `directory` cannot be written.
    """
    try:
        with archive.open("rb") as packed, BoundedGzipReader(packed) as stream:
            stream.allow(MAX_HEADER)
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for member, relative in _walk_members(tar, stream, archive):
                    _write_member(tar, member, directory / relative, archive)
            # The checksum of the whole comes last, after the padding that tar leaves.
            stream.allow(MAX_TAIL)
            while stream.read(_CHUNK):
                pass
    except ExcessError as error:
        raise ModuleError(f"{archive} is refused: {error}") from error
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise ModuleError(f"{archive} is not an intact .tar.gz archive: {error}") from error
    _lift_single_folder(directory)


def _walk_members(
    tar: tarfile.TarFile, stream: BoundedReader, archive: Path
) -> Iterator[tuple[tarfile.TarInfo, Path]]:
    """Yield the members with their safe relative paths, and refuse what could do harm."""
    max_bytes = min(MAX_BYTES, max(_ALWAYS_BYTES, _MAX_RATIO * archive.stat().st_size))
    total = count = 0
    places: set[Path] = set()
    while (member := tar.next()) is not None:
        # The library would keep them all.
        tar.members = []  # type: ignore[attr-defined]
        relative = Path(member.name)
        _check_member(member, relative, archive)
        total, count = total + member.size, count + 1
        places.update((relative, *relative.parents))
        # The folders on the way to a file count too, except the root.
        if total > max_bytes or max(count, len(places) - 1) > MAX_MEMBERS:
            raise ModuleError(
                f"{archive} is refused: it unpacks to more than "
                f"{max_bytes >> 20:,} MB or {MAX_MEMBERS:,} files"
            )
        # The rest of its last block, and the header of the next one.
        stream.allow(member.size + MAX_HEADER)
        yield member, relative


def _check_member(member: tarfile.TarInfo, relative: Path, archive: Path) -> None:
    """Refuse a member unless it is a file or a folder within the archive."""
    if relative.is_absolute() or ".." in relative.parts or "\0" in member.name:
        fault = "is outside of it"
    elif not (member.isfile() or member.isdir()):
        fault = "is a link or a device"
    elif member.issparse():
        fault = "is a sparse file"
    elif len(relative.parts) > _MAX_DEPTH:
        fault = "is too deep"
    elif member.size < 0:
        fault = "has a negative length"
    else:
        return
    name = member.name if len(member.name) < 200 else f"{member.name[:200]}..."
    raise ModuleError(f"{archive} is refused: {name!r} {fault}")


def _write_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, archive: Path
) -> None:
    """Write a member; a name that cannot be created is the archive's fault."""
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
            f"{archive} is refused: {member.name!r} cannot be created ({error.strerror})"
        ) from error
    source = tar.extractfile(member)
    assert source is not None  # `_walk_members` yields only files and folders
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
