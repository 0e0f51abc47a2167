"""The parts that all stores share: protocols, timeouts and retries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

T = TypeVar("T")
Failures = tuple[type[BaseException], ...]

# Seconds that a store may take to answer, including the retries of its file system.
ANSWER_SECONDS = 120.0
# A transfer may take longer, at the slowest rate that is worth waiting for, in bytes per second.
_SLOWEST_RATE = 32 << 10
# A connection that breaks off in the middle of an object is tried again.
_ATTEMPTS = 3
_PAUSE_SECONDS = 0.3


class Entry(NamedTuple):
    """An object as a store describes it.

    `name` is the part after the prefix that was listed, `size` the length in bytes,
    `mtime` the time of the last change in seconds since 1970. What the store does
    not report is None.
    """

    name: bytes
    size: int | None = None
    mtime: float | None = None


class Store(Protocol):
    """A store, or a web server, that objects are read from.

    All methods raise the exceptions in `failures`: FileNotFoundError if the
    bucket or the page does not exist, PermissionError if access is denied.
    """

    failures: Failures

    def look_up(self, uri: bytes) -> Entry | None:
        """Return the object with this URI; None if it does not exist."""
        ...

    def list_pages(self, uri: bytes, flat: bool = False) -> Iterator[list[Entry]]:
        """Yield the objects whose URIs begin with `uri`, page by page.

        With `flat` objects in deeper folders are left out.
        """
        ...

    def read(self, uri: bytes, limit: int) -> bytes:
        """Read an object.

        Raises:
            ImageError: it has more than `limit` bytes.
        """
        ...


class Bucket(Store, Protocol):
    """A store that objects can also be written to."""

    def require_bucket(self, uri: bytes) -> None:
        """Raise one of `failures` unless the bucket of `uri` exists."""
        ...

    def write(self, uri: bytes, file: Path) -> None:
        """Store a file as the object `uri`."""
        ...


class BrokenOffError(OSError):
    """A transfer that ended before all bytes had arrived."""


def compute_timeout(size: int = 0) -> float:
    """Return the seconds to wait for an answer and the `size` bytes that follow it."""
    return ANSWER_SECONDS + size / _SLOWEST_RATE


def retry_broken(read: Callable[[], T]) -> T:
    """Return the result of `read`, which is called again if the transfer breaks off.

    Raises:
        BrokenOffError: the last of three attempts broke off as well.
    """
    for attempt in range(1, _ATTEMPTS):
        try:
            return read()
        except BrokenOffError:
            time.sleep(_PAUSE_SECONDS * attempt)
    return read()


def run_in_loop(filesystem: Any, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in the event loop of an fsspec file system, and wait for its result."""
    from fsspec.asyn import sync

    async def await_work() -> T:
        return await work

    result: T = sync(filesystem.loop, await_work)
    return result
