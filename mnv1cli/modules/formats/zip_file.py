"""Safe unpacking of ZIP archives from others."""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import zipfile
import zlib
from typing import IO, TYPE_CHECKING

from mnv1cli.errors import ModuleError
from mnv1cli.system.bounded_reader import ExcessError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mnv1cli.modules.formats.bounds import Bounds

_CHUNK = 1 << 20
# The most bytes of the list of members, which the library reads and keeps as a whole.
_MAX_LIST = 4 << 20
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# macOS adds a folder of this name, with what its file system has beside the files.
_MACOS = "__MACOSX"
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError,
    RuntimeError, OverflowError, LookupError,
)  # fmt: skip


def unpack_zip(archive: Path, directory: Path, bounds: Bounds) -> None:
    """Unpack a ZIP into `directory`: files and folders only, packed with deflate or not.

    Raises:
        ModuleError: the file is not an archive, or is unsafe, too large or damaged.
        OSError: the archive cannot be read, or `directory` cannot be written.
    """
    with _reading(archive) as unzipped:
        for member in unzipped.infolist():
            name = _read_name(member)
            if name.partition("/")[0] == _MACOS:
                continue
            relative = bounds.check_name(name)
            _check_member(member, bounds)
            bounds.count_member(relative, 0)
            if name.endswith("/"):
                bounds.make_folder(directory / relative, name)
                continue
            with bounds.create_file(directory / relative, name) as copy:
                _copy(unzipped, member, copy, bounds)


def list_names(archive: Path) -> list[str]:
    """List the names of a ZIP's members.

    Raises:
        ModuleError: the file is not an archive, or is too large or damaged.
    """
    with _reading(archive) as unzipped:
        return [_read_name(member) for member in unzipped.infolist()]


@contextlib.contextmanager
def _reading(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open a ZIP, and name it in errors."""
    try:
        with archive.open("rb") as file:
            bounded = _BoundedFile(file)
            with zipfile.ZipFile(bounded) as unzipped:
                bounded.max_read = None
                yield unzipped
    except ExcessError as error:
        raise ModuleError(f"{archive} is refused: {error}") from error
    except _DAMAGE as error:
        raise ModuleError(f"{archive} is not an intact .zip archive: {error}") from error


class _OutsideError(zipfile.BadZipFile, OSError):
    """A position outside of a ZIP; an OSError tells the library that a short ZIP has no end."""


class _BoundedFile(io.RawIOBase):
    """A file of which no more than `max_read` bytes are read at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = file.seek(0, io.SEEK_END)
        self.max_read: int | None = _MAX_LIST
        file.seek(0)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        if not 0 <= base + offset <= self._size:
            raise _OutsideError("it points outside of itself")
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        wanted = self._size - self.tell() if size < 0 else size
        if self.max_read is not None and wanted > self.max_read:
            raise ExcessError("its list of files is too long")
        return self._file.read(size)


def _read_name(member: zipfile.ZipInfo) -> str:
    """Return a member's name with slashes; programs of Windows may write backslashes."""
    name = member.orig_filename
    return name if "/" in name else name.replace("\\", "/")


def _check_member(member: zipfile.ZipInfo, bounds: Bounds) -> None:
    """Refuse a member unless it is a file or a folder that can be read."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise bounds.refuse(member.filename, "is a link or a device")
    if member.flag_bits & _ENCRYPTED:
        raise bounds.refuse(member.filename, "is encrypted")
    if member.compress_type not in _METHODS:
        raise bounds.refuse(member.filename, "is packed with another method than deflate")


def _copy(
    unzipped: zipfile.ZipFile, member: zipfile.ZipInfo, copy: IO[bytes], bounds: Bounds
) -> None:
    """Copy a member's bytes, however many it claims to have."""
    size = 0
    with unzipped.open(member) as source:
        while chunk := source.read(_CHUNK):
            bounds.count_bytes(len(chunk))
            size += len(chunk)
            copy.write(chunk)
    if size != member.file_size:
        raise zipfile.BadZipFile(f"{member.filename!r} does not have the length that it claims")
