"""Objects in buckets of S3, Google Cloud Storage and Azure, through obstore."""

from __future__ import annotations

import contextlib
import io
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from mnv1cli.errors import ImageError
from mnv1cli.limits import check_bytes
from mnv1cli.storage import clients
from mnv1cli.storage.base import (
    BUFFER_BYTES,
    Entry,
    ExistsError,
    MissingError,
    NoLengthError,
    StoreError,
    make_key_error,
    retry_broken,
    translate,
)
from mnv1cli.storage.location import get_scheme

if TYPE_CHECKING:
    from collections.abc import Iterator

# Keys at a time: a divisor of the length of all stores' pages, so that none is begun early.
_CHUNK_KEYS = 200
# obstore ends the whole process over other names.
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]*")
_BAD_PART = re.compile(r"(?:^|/)(?:\.{0,2})(?:/|$)|[\x00-\x1f\x7f]")
# A larger file is sent in parts, which no store takes under a condition.
_ONE_REQUEST = 64 << 20
# Missing credentials are looked for again after so long: each look takes a second.
_FAILURE_SECONDS = 10.0

_clients: dict[tuple[str, str, int], Any] = {}
_failures: dict[tuple[str, str, int], tuple[float, StoreError]] = {}
_opening = threading.Lock()


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except StoreError:
        raise
    except (BaseError, OSError, ValueError) as error:
        raise translate(error) from error


def read_object(client: Any, key: str, limit: int, unpacked: bool = False) -> bytes:
    """Read an object through a client of obstore; as `Objects.read`.

    Raises:
        NoLengthError: the server does not say how long it is, or with `unpacked` packs it.
    """
    import obstore

    def read() -> bytes:
        with _translating():
            answer = obstore.get(client, key)
            if unpacked and "Content-Encoding" in answer.attributes:
                raise NoLengthError("the server packs it")
            check_bytes(answer.meta["size"], limit)
            return bytes(answer.bytes())

    return retry_broken(read)


class Objects:
    """The objects of all buckets with one scheme."""

    def look_up(self, uri: bytes) -> Entry | None:
        """Look up the object of this name; return None if it does not exist."""
        import obstore

        try:
            client, key = _open_object(uri)
            with _translating():
                meta = obstore.head(client, key)
        except MissingError:
            return None
        return Entry(b"", meta["size"], meta["last_modified"].timestamp())

    def require_bucket(self, uri: bytes) -> None:
        """Ask for the first page of a folder that hardly exists."""
        import obstore

        client, _ = _open_bucket(uri)
        with _translating():
            next(obstore.list(client, ".mnv1-is-the-bucket-there"), None)

    def list_pages(self, uri: bytes, flat: bool = False) -> Iterator[list[Entry]]:
        """List the keys that begin with a URI, in their order; `flat` skips deeper ones.

        In place of skipped keys their folders are listed, with a slash at the end. A key that
        obstore does not take ends the listing with an error.
        """
        client, prefix = _open_bucket(uri)
        folder, _, start = prefix.rpartition("/")
        _require_key(folder or "a")
        with _translating():
            for objects, folders in _list_chunks(client, folder, start, flat):
                page = [_make_entry(item, prefix) for item in objects]
                yield page + [Entry(_strip(path, prefix) + b"/") for path in folders]

    def read(self, uri: bytes, limit: int) -> bytes:
        """Read the bytes of an object.

        Raises:
            ImageError: they are more than `limit`; in that case none is read.
        """
        return read_object(*_open_object(uri), limit)

    def open(self, uri: bytes, buffer: int = BUFFER_BYTES) -> BinaryIO:
        """Open an object to read at any position, `buffer` bytes at least in each request."""
        import obstore

        client, key = _open_object(uri)
        with _translating():
            size = obstore.head(client, key)["size"]
        return cast("BinaryIO", io.BufferedReader(_ObjectFile(client, key, size), buffer))

    def read_range(self, uri: bytes, start: int, length: int) -> bytes:
        """Read `length` bytes of an object from `start` on, fewer where it ends."""
        return bytes(_read_range(*_open_object(uri), start, length)) if length else b""

    def write(self, uri: bytes, data: bytes | Path, replace: bool = True) -> None:
        """Store bytes, or a file, as the object `uri`.

        Raises:
            ExistsError: the object exists, and `replace` is false.
        """
        import obstore

        client, key = _open_object(uri)
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        if not replace and size > _ONE_REQUEST:
            if self.look_up(uri) is not None:
                raise ExistsError("exists")
            replace = True
        with _translating():
            obstore.put(client, key, data, mode="overwrite" if replace else "create")

    def remove(self, uri: bytes) -> None:
        """Remove an object, if it still exists."""
        import obstore

        client, key = _open_object(uri)
        with contextlib.suppress(MissingError), _translating():
            obstore.delete(client, key)


class _ObjectFile(io.RawIOBase):
    """An object as a file, of which each reading is a request for a range."""

    def __init__(self, client: Any, key: str, size: int) -> None:
        super().__init__()
        self._client = client
        self._key = key
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, and return it."""
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        self._position = max(starts[whence] + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read from the position on into a buffer, and return the number of bytes."""
        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        data = _read_range(self._client, self._key, self._position, length)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _read_range(client: Any, key: str, start: int, length: int) -> Any:
    import obstore

    def read() -> Any:
        with _translating():
            return obstore.get_range(client, key, start=start, length=length)

    return retry_broken(read)


def _list_chunks(
    client: Any, folder: str, start: str, flat: bool
) -> Iterator[tuple[list[Any], list[str]]]:
    """List the objects whose names in a folder begin with `start`, and the folders for `flat`."""
    import obstore

    if flat:
        page = obstore.list_with_delimiter(client, folder or None)
        yield list(page["objects"]), list(page["common_prefixes"])
        return
    prefix = f"{folder}/{start}" if folder else start
    # obstore lists whole folders: begin behind the last name before `start`, and end after it,
    # but for S3 Express, whose keys have no order.
    skips = start and "AWS_S3_EXPRESS" not in os.environ
    offset = f"{prefix[:-1]}{chr(ord(prefix[-1]) - 1)}\U0010ffff" if skips else None
    if offset is not None and _BAD_PART.search(offset):
        offset = None
    for chunk in obstore.list(client, folder or None, offset=offset, chunk_size=_CHUNK_KEYS):
        yield [item for item in chunk if not start or item["path"].startswith(prefix)], []
        last = chunk[-1]["path"]
        if skips and last.encode() > prefix.encode() and not last.startswith(prefix):
            return


def _make_entry(item: Any, top: str) -> Entry:
    return Entry(_strip(item["path"], top), item["size"], item["last_modified"].timestamp())


def _strip(path: str, top: str) -> bytes:
    """Return the name below `top`; empty for the mark of the folder, which has lost its slash."""
    return path[len(top) :].encode() if path.startswith(top) else b""


def _open_bucket(uri: bytes) -> tuple[Any, str]:
    """Return the client for the bucket of a URI, and the key; no character in it is quoted."""
    try:
        bucket, _, key = uri.partition(b"://")[2].decode().partition("/")
    except UnicodeDecodeError:
        raise ImageError("no such file: keys are UTF-8") from None
    if bucket and not _BUCKET.fullmatch(bucket):
        raise MissingError("no such bucket")
    scheme = get_scheme(uri)
    # A forked process has no thread for the connections of its parent.
    name = (scheme, bucket, os.getpid())
    with _opening:
        if name not in _clients:
            ended, failure = _failures.get(name, (0.0, None))
            if failure is not None and time.monotonic() < ended:
                raise failure
            try:
                _clients[name] = clients.make_client(scheme, bucket)
            except StoreError as error:
                _failures[name] = (time.monotonic() + _FAILURE_SECONDS, error)
                raise
        return _clients[name], key


def _open_object(uri: bytes) -> tuple[Any, str]:
    """Return the client and the key of an object.

    Raises:
        ImageError: it names no object.
    """
    host, _, key = uri.partition(b"://")[2].partition(b"/")
    if not host or not key:
        raise ImageError("it names no object: s3://bucket/key does, and gs://bucket/key")
    client, text = _open_bucket(uri)
    _require_key(text)
    return client, text


def _require_key(key: str) -> None:
    if _BAD_PART.search(key):
        raise make_key_error(key)
