"""Readers of untrusted archives, which stop at a limit."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import IO, TYPE_CHECKING, Any

from mnv1cli.system.unpackers import UnpackedStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from mnv1cli.system.unpackers import Decompressor

# The most bytes between two members of a tar file, for long names and the like, and at its end.
MAX_HEADER = 8 << 10
MAX_TAIL = 1 << 20
_CHUNK = 1 << 20
# Contents may have this many bytes, and beyond it this many times their packed bytes. No gzip
# has more; a bzip2 of nothing but zeros has a million times as many.
_ALWAYS_UNPACKED = 1 << 30
_MAX_RATIO = 1_000


class ExcessError(Exception):
    """An excess of bytes over what is allowed; the text is the reason."""


class BoundedReader(io.RawIOBase):
    """A file that is read forwards only, and no further than is allowed."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._allowed = 0
        self.position = 0

    def allow(self, count: int) -> None:
        """Allow `count` bytes to be read from the current position."""
        self._allowed = self.position + count

    def allowed(self) -> int:
        """Return the position up to which the file may be read."""
        return self._allowed

    def tell(self) -> int:
        """Return the position up to which the file has been read."""
        return self.position

    def read(self, size: int = -1) -> bytes:
        """Read bytes, but never use memory for more than is allowed.

        Raises:
            ExcessError: the file has more bytes than is allowed.
        """
        left = self.allowed() - self.position
        data: bytes = self._file.read(min(size, left + 1) if size >= 0 else left + 1)
        self.position += len(data)
        if len(data) > left:
            raise ExcessError("it has too much between its files")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move forwards only: an archive that goes back may never end.

        Raises:
            tarfile.ReadError: the position is behind the current one.
        """
        if whence or offset < self.position:
            raise tarfile.ReadError("it goes backwards")
        while self.position < offset and self.read(min(_CHUNK, offset - self.position)):
            pass
        return self.position


class BoundedGzipReader(BoundedReader):
    """The contents of a gzip file, read in bounded time: the packed bytes are counted as well."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = _Packed(packed, self)
        super().__init__(gzip.GzipFile(fileobj=self._packed, mode="rb"))


class BoundedUnpacker(BoundedReader):
    """The contents of a packed file of any kind, read in bounded time and memory."""

    def __init__(self, packed: IO[bytes], open_decompressor: Callable[[], Decompressor]) -> None:
        self._packed = _Packed(packed, self)
        super().__init__(UnpackedStream(self._packed, open_decompressor))

    def read(self, size: int = -1) -> bytes:
        """Read bytes, but never use memory for more than is allowed.

        Raises:
            ExcessError: the file has more bytes than is allowed, or is a decompression bomb.
        """
        data = super().read(size)
        if self.position > _ALWAYS_UNPACKED + _MAX_RATIO * self._packed.position:
            raise ExcessError(f"it unpacks to more than {_MAX_RATIO:,} times its size")
        return data


class _Packed(BoundedReader):
    """The packed bytes of a file, allowed to be hardly more than its contents."""

    def __init__(self, file: IO[bytes], unpacked: BoundedReader) -> None:
        super().__init__(file)
        self._unpacked = unpacked

    def allowed(self) -> int:
        # Endless padding, or endless empty parts, unpack to nothing.
        return 2 * (self._unpacked.position + _CHUNK) + MAX_TAIL
