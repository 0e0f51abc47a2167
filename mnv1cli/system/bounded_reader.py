"""Archives from others, read no further than is sensible."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import IO, Any

# The bytes that tar may have between two members, for long names and the like, and at its end.
MAX_HEADER = 8 << 10
MAX_TAIL = 1 << 20
_CHUNK = 1 << 20


class ExcessError(Exception):
    """There are more bytes than is allowed; the text is the reason."""


class BoundedReader(io.RawIOBase):
    """A file that is read in one direction, no further than is allowed."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._allowed = 0
        self.position = 0

    def allow(self, count: int) -> None:
        """Allow so many bytes from here on."""
        self._allowed = self.position + count

    def allowed(self) -> int:
        """Return the position up to which it may be read."""
        return self._allowed

    def tell(self) -> int:
        """Return the position up to which it was read."""
        return self.position

    def read(self, size: int = -1) -> bytes:
        """Read, but never take memory for more than is allowed."""
        left = self.allowed() - self.position
        data: bytes = self._file.read(min(size, left + 1) if size >= 0 else left + 1)
        self.position += len(data)
        if len(data) > left:
            raise ExcessError("it has too much between its files")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move forwards only: an archive that goes back may go round in circles."""
        if whence or offset < self.position:
            raise tarfile.ReadError("it goes backwards")
        while self.position < offset and self.read(min(_CHUNK, offset - self.position)):
            pass
        return self.position


class BoundedGzipReader(BoundedReader):
    """The contents of a gzip file, in bounded time: the packed bytes are counted, too."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = _Packed(packed, self)
        super().__init__(gzip.GzipFile(fileobj=self._packed, mode="rb"))


class _Packed(BoundedReader):
    """The packed bytes of a gzip file, which are hardly more than its contents."""

    def __init__(self, file: IO[bytes], unpacked: BoundedReader) -> None:
        super().__init__(file)
        self._unpacked = unpacked

    def allowed(self) -> int:
        # Endless padding, or endless empty parts, unpack to nothing.
        return 2 * (self._unpacked.position + _CHUNK) + MAX_TAIL
