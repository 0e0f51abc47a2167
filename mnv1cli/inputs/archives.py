"""Images in archives, read where they lie: ZIP, tar and tar.gz; nothing is unpacked to disk."""

from __future__ import annotations

import gzip
import os
import tarfile
import weakref
import zipfile
import zlib
from functools import partial
from typing import IO, TYPE_CHECKING, NamedTuple

from mnv1cli.errors import ImageError
from mnv1cli.limits import check_bytes
from mnv1cli.system.bounded_reader import (
    MAX_HEADER,
    MAX_TAIL,
    BoundedGzipReader,
    BoundedReader,
    ExcessError,
)
from mnv1cli.types import UNREAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ZIP, _TAR, _PACKED_TAR = b".zip", b".tar", (b".tar.gz", b".tgz")
_CHUNK = 1 << 20
# Members of a tar.gz wait in memory for their turn, many at once.
_MAX_PACKED_BYTES = 32 << 20
_GENERAL_ENCRYPTED, _GENERAL_UTF8 = 0x1, 0x800

# What damaged archives raise, wherever the damage shows.
_DAMAGE = (
    OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile,
    ValueError, NotImplementedError, RuntimeError, LookupError, ExcessError,
)  # fmt: skip


class Member(NamedTuple):
    """A file in an archive: its name there, and what reads it, or why it cannot be read.

    `read` takes the number of bytes that are allowed, and raises `ImageError`.
    """

    name: bytes
    read: Callable[[int], bytes] | None = None
    problem: str = ""


def is_archive(path: bytes) -> bool:
    """Whether a name is that of an archive, and there is a file of this name."""
    return path.lower().endswith((_ZIP, _TAR, *_PACKED_TAR)) and os.path.isfile(path)


class Archive:
    """An archive that stays open as long as its members are to be read.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: bytes) -> None:
        self._path = path.lower()
        self._file: IO[bytes] = open(path, "rb")  # noqa: SIM115 - closed by `close`
        # Members that are still to be read keep it alive.
        weakref.finalize(self, self._file.close)

    def close(self) -> None:
        """No member can be read any more."""
        self._file.close()

    def list_members(self, wanted: Callable[[bytes], bool]) -> Iterator[Member]:
        """The files whose names are `wanted`: of a ZIP by name, of a tar as they come.

        Where the archive is damaged the last one tells of it, without a name.
        """
        try:
            if self._path.endswith(_ZIP):
                yield from self._of_zip(wanted)
            elif self._path.endswith(_TAR):
                yield from self._of_tar(wanted)
            else:
                yield from self._of_packed_tar(wanted)
        except _DAMAGE as error:
            yield Member(b"", problem=f"damaged archive: {_line(error)}")

    def _of_zip(self, wanted: Callable[[bytes], bool]) -> Iterator[Member]:
        archive = zipfile.ZipFile(self._file)
        files = [(_zip_name(info), info) for info in archive.infolist() if not info.is_dir()]
        # As a folder is walked: by name, files and folders interleaved.
        for name, info in sorted(files, key=lambda file: file[0].split(b"/")):
            if wanted(name):
                problem = _outside(name)
                if info.flag_bits & _GENERAL_ENCRYPTED:
                    problem = "is encrypted"
                yield Member(name, partial(self._read_zip, archive, info), problem)

    def _of_tar(self, wanted: Callable[[bytes], bool]) -> Iterator[Member]:
        stream = _Skipping(self._file)
        for info in _tar_members(stream):
            name = _tar_name(info)
            if wanted(name):
                place = partial(self._read_at, info.offset_data, info.size)
                yield Member(name, place, _tar_problem(info, name))

    def _of_packed_tar(self, wanted: Callable[[bytes], bool]) -> Iterator[Member]:
        with BoundedGzipReader(self._file) as stream:
            for info in _tar_members(stream):
                name = _tar_name(info)
                if not wanted(name):
                    continue
                problem = _tar_problem(info, name)
                if not problem and info.size > _MAX_PACKED_BYTES:
                    problem = f"too large for a packed archive: {info.size >> 20:,} MB; unpack it"
                if problem:
                    yield Member(name, problem=problem)
                    continue
                # There is no way back to it.
                data = stream.read(info.size)
                if len(data) < info.size:
                    raise EOFError("it ends too early")
                yield Member(name, partial(_given, data))
            # The checksum of the whole comes last.
            stream.allow(MAX_TAIL)
            while stream.read(_CHUNK):
                pass

    def _read_zip(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
        check_bytes(info.file_size, limit)
        try:
            with archive.open(info) as member:
                # It may hold more than it claims.
                data = member.read(limit + 1)
        except _DAMAGE as error:
            raise ImageError(f"damaged in its archive: {_line(error)}") from error
        check_bytes(len(data), limit)
        return data

    def _read_at(self, place: int, size: int, limit: int) -> bytes:
        check_bytes(size, limit)
        try:
            data = os.pread(self._file.fileno(), size, place)
        except OSError as error:
            raise ImageError(f"{UNREAD}: {error.strerror}") from error
        if len(data) < size:
            raise ImageError("damaged in its archive: it ends too early")
        return data


class _Skipping(BoundedReader):
    """A file that is not packed: what lies between the members need not be read."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Forwards alone, as with any other."""
        if whence or offset < self.position:
            raise tarfile.ReadError("it goes backwards")
        self.position = self._file.seek(offset)
        return self.position


def _tar_members(stream: BoundedReader) -> Iterator[tarfile.TarInfo]:
    stream.allow(MAX_HEADER)
    with tarfile.open(fileobj=stream, mode="r:", errorlevel=2) as tar:
        while (info := tar.next()) is not None:
            # It keeps them all otherwise.
            tar.members = []  # type: ignore[attr-defined]
            if info.size < 0:
                raise tarfile.ReadError("a file has a length below zero")
            stream.allow(info.size + MAX_HEADER)
            if not info.isdir():
                yield info


def _tar_name(info: tarfile.TarInfo) -> bytes:
    return info.name.encode("utf-8", "surrogateescape").removeprefix(b"./")


def _zip_name(info: zipfile.ZipInfo) -> bytes:
    """The bytes of a name, which Python has read as UTF-8 or as code page 437."""
    utf8 = info.flag_bits & _GENERAL_UTF8
    return info.filename.encode("utf-8" if utf8 else "cp437", "surrogatepass").removeprefix(b"./")


def _tar_problem(info: tarfile.TarInfo, name: bytes) -> str:
    if not info.isfile() or info.issparse():
        return "is a link, a device or a sparse file in its archive"
    return _outside(name)


def _outside(name: bytes) -> str:
    outside = name.startswith(b"/") or b".." in name.split(b"/")
    return "lies outside of its archive" if outside else ""


def _given(data: bytes, limit: int) -> bytes:
    check_bytes(len(data), limit)
    return data


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
