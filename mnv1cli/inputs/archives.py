"""Images in archives (ZIP, tar, tar.gz), read in place: nothing is unpacked to disk."""

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

# The exceptions of damaged archives, wherever the damage shows.
_DAMAGE = (
    OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile,
    ValueError, NotImplementedError, RuntimeError, LookupError, ExcessError,
)  # fmt: skip


class Member(NamedTuple):
    """A file in an archive: its name there, and its reader or the problem why it has none.

    `read` takes the number of bytes that are allowed, and raises `ImageError`.
    """

    name: bytes
    read: Callable[[int], bytes] | None = None
    problem: str = ""


def is_archive(path: bytes) -> bool:
    """Return whether a name is that of an archive, and there is a file of this name."""
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
        """Close the file; members cannot be read any more."""
        self._file.close()

    def list_members(self, accepts: Callable[[bytes], bool]) -> Iterator[Member]:
        """List the files whose names are accepted: of a ZIP by name, of a tar in its order.

        In a damaged archive the last one has the damage as its problem, and no name.
        """
        try:
            if self._path.endswith(_ZIP):
                yield from self._list_zip(accepts)
            elif self._path.endswith(_TAR):
                yield from self._list_tar(accepts)
            else:
                yield from self._list_packed_tar(accepts)
        except _DAMAGE as error:
            yield Member(b"", problem=f"damaged archive: {_first_line(error)}")

    def _list_zip(self, accepts: Callable[[bytes], bool]) -> Iterator[Member]:
        archive = zipfile.ZipFile(self._file)
        files = [(_decode_zip_name(info), info) for info in archive.infolist() if not info.is_dir()]
        # As a folder is walked: by name, files and folders interleaved.
        for name, info in sorted(files, key=lambda file: file[0].split(b"/")):
            if accepts(name):
                problem = _find_outside(name)
                if info.flag_bits & _GENERAL_ENCRYPTED:
                    problem = "is encrypted"
                yield Member(name, partial(self._read_zip, archive, info), problem)

    def _list_tar(self, accepts: Callable[[bytes], bool]) -> Iterator[Member]:
        stream = _SeekingReader(self._file)
        for info in _list_tar_entries(stream):
            name = _decode_tar_name(info)
            if accepts(name):
                read = partial(self._read_at, info.offset_data, info.size)
                yield Member(name, read, _find_tar_problem(info, name))

    def _list_packed_tar(self, accepts: Callable[[bytes], bool]) -> Iterator[Member]:
        with BoundedGzipReader(self._file) as stream:
            for info in _list_tar_entries(stream):
                name = _decode_tar_name(info)
                if not accepts(name):
                    continue
                problem = _find_tar_problem(info, name)
                if not problem and info.size > _MAX_PACKED_BYTES:
                    problem = f"too large for a packed archive: {info.size >> 20:,} MB; unpack it"
                if problem:
                    yield Member(name, problem=problem)
                    continue
                # A packed stream has no way back to it.
                data = stream.read(info.size)
                if len(data) < info.size:
                    raise EOFError("it ends too early")
                yield Member(name, partial(_check_and_return, data))
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
            raise ImageError(f"damaged in its archive: {_first_line(error)}") from error
        check_bytes(len(data), limit)
        return data

    def _read_at(self, offset: int, size: int, limit: int) -> bytes:
        check_bytes(size, limit)
        try:
            data = os.pread(self._file.fileno(), size, offset)
        except OSError as error:
            raise ImageError(f"{UNREAD}: {error.strerror}") from error
        if len(data) < size:
            raise ImageError("damaged in its archive: it ends too early")
        return data


class _SeekingReader(BoundedReader):
    """A file that is not packed: the bytes between the members need not be read."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move forwards; as in other bounded readers there is no way back."""
        if whence or offset < self.position:
            raise tarfile.ReadError("it goes backwards")
        self.position = self._file.seek(offset)
        return self.position


def _list_tar_entries(stream: BoundedReader) -> Iterator[tarfile.TarInfo]:
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


def _decode_tar_name(info: tarfile.TarInfo) -> bytes:
    return info.name.encode("utf-8", "surrogateescape").removeprefix(b"./")


def _decode_zip_name(info: zipfile.ZipInfo) -> bytes:
    """Return the bytes of a name that Python has decoded as UTF-8 or as code page 437."""
    utf8 = info.flag_bits & _GENERAL_UTF8
    return info.filename.encode("utf-8" if utf8 else "cp437", "surrogatepass").removeprefix(b"./")


def _find_tar_problem(info: tarfile.TarInfo, name: bytes) -> str:
    if not info.isfile() or info.issparse():
        return "is a link, a device or a sparse file in its archive"
    return _find_outside(name)


def _find_outside(name: bytes) -> str:
    outside = name.startswith(b"/") or b".." in name.split(b"/")
    return "lies outside of its archive" if outside else ""


def _check_and_return(data: bytes, limit: int) -> bytes:
    check_bytes(len(data), limit)
    return data


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
