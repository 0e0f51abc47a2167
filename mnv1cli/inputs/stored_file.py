"""Archives in stores as files: read by requests for ranges, or forwards in large pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from mnv1cli.storage.location import get_scheme
from mnv1cli.storage.stores import open_bucket

if TYPE_CHECKING:
    from mnv1cli.storage.base import Bucket

# At 50 ms a request, 160 MB a second: more than two cores decode.
_STREAM_BYTES = 8 << 20


class StoredFile:
    """An object that is read as `PooledFile` reads a file; errors are those of stores."""

    def __init__(self, uri: bytes) -> None:
        self._uri = uri

    def close(self) -> None:
        """Do nothing: an object is not open."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Read `size` bytes from `offset` on, fewer where the object ends."""
        return self._store.read_range(self._uri, offset, size)

    def open_stream(self) -> BinaryIO:
        """Open the object to be read from its start."""
        return self._store.open(self._uri, _STREAM_BYTES)

    @property
    def _store(self) -> Bucket:
        return open_bucket(get_scheme(self._uri))
