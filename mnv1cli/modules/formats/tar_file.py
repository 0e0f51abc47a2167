"""Safe unpacking of tar archives from others, packed with gzip or not."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from typing import IO, TYPE_CHECKING

from mnv1cli.errors import ModuleError
from mnv1cli.system.bounded_reader import (
    MAX_HEADER,
    MAX_TAIL,
    BoundedGzipReader,
    BoundedReader,
    ExcessError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mnv1cli.modules.formats.bounds import Bounds

_CHUNK = 1 << 20
_DAMAGE = (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, ValueError)


def unpack_tar(archive: Path, directory: Path, bounds: Bounds, packed: bool) -> None:
    """Unpack a tar, or with `packed` a `.tar.gz`, into `directory`: files and folders only.

    Raises:
        ModuleError: the file is not an archive, or is unsafe, too large or damaged.
        OSError: the archive cannot be read, or `directory` cannot be written.
    """
    try:
        with archive.open("rb") as file:
            if packed:
                with BoundedGzipReader(file) as stream:
                    _unpack_stream(stream, directory, bounds)
            else:
                _check_end(file)
                _unpack_stream(BoundedReader(file), directory, bounds)
    except ExcessError as error:
        raise ModuleError(f"{archive} is refused: {error}") from error
    except _DAMAGE as error:
        suffix = ".tar.gz" if packed else ".tar"
        raise ModuleError(f"{archive} is not an intact {suffix} archive: {error}") from error


def _check_end(file: IO[bytes]) -> None:
    """Refuse a tar without the zeros at its end: only they show that nothing was cut off."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - tarfile.BLOCKSIZE))
    if file.read().strip(b"\0"):
        raise tarfile.ReadError("it ends too early")
    file.seek(0)


def _unpack_stream(stream: BoundedReader, directory: Path, bounds: Bounds) -> None:
    stream.allow(MAX_HEADER)
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        while (member := tar.next()) is not None:
            # The library would keep them all.
            tar.members = []  # type: ignore[attr-defined]
            relative = bounds.check_name(member.name)
            _check_member(member, bounds)
            bounds.count_member(relative, member.size)
            # The rest of its last block, and the header of the next one.
            stream.allow(member.size + MAX_HEADER)
            _write_member(tar, member, directory / relative, bounds)
    # The checksum of the whole comes last, after the padding that tar leaves.
    stream.allow(MAX_TAIL)
    while stream.read(_CHUNK):
        pass


def _check_member(member: tarfile.TarInfo, bounds: Bounds) -> None:
    """Refuse a member unless it is a file or a folder."""
    if not (member.isfile() or member.isdir()):
        raise bounds.refuse(member.name, "is a link or a device")
    if member.issparse():
        raise bounds.refuse(member.name, "is a sparse file")
    if member.size < 0:
        raise bounds.refuse(member.name, "has a negative length")


def _write_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path, bounds: Bounds
) -> None:
    if member.isdir():
        bounds.make_folder(target, member.name)
        return
    copy = bounds.create_file(target, member.name)
    source = tar.extractfile(member)
    assert source is not None  # only a file gets here
    with source, copy:
        shutil.copyfileobj(source, copy, _CHUNK)
