"""Images in stores read ahead: many requests under way at once, for each takes its time.

A few threads decode, and would wait for each object in turn. So the objects are
asked for before, in the order in which they will be wanted, as many at a time
as memory allows. Who wants one that was not asked for yet reads it himself:
nobody waits for room that only he could make.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from mnv1cli.limits import TooLargeError, check_bytes
from mnv1cli.storage.stores import RemoteImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.types import ImageRef

# Requests at once: at 50 ms each that makes 640 images a second.
MAX_REQUESTS = 32
# What is read ahead and not decoded yet has so many bytes at most.
MAX_BYTES_AHEAD = 256 << 20
# As much is reckoned for an object whose length is not known; a larger one is not read ahead.
_UNKNOWN = MAX_BYTES_AHEAD // MAX_REQUESTS
# Images that wait for the consumer, beyond those that he has taken.
_WAITING = 2 * MAX_REQUESTS
# What is wanted twice is kept for it, unless it is larger.
_KEPT = 4 << 20
_POLL_SECONDS = 0.2
_IDLE_SECONDS = 30.0


def prefetch_remote(
    refs: Iterable[ImageRef], limit: int, twice: bool = False
) -> Iterator[ImageRef]:
    """The same images; from the first one in a store on they are read ahead.

    Objects of more than `limit` bytes are faults. `twice` says that each is read
    two times. What the iterator over `refs` raises is raised here, in its turn.
    """
    iterator = iter(refs)
    for ref in iterator:
        if isinstance(ref.member, RemoteImage):
            yield from _Window(limit, twice).through(itertools.chain([ref], iterator))
            return
        yield ref


class PrefetchedImage:
    """What reads an object that is, or will be, read ahead."""

    def __init__(self, remote: RemoteImage, window: _Window, limit: int, twice: bool) -> None:
        self.mtime = remote.mtime
        self.cost = min(_UNKNOWN if remote.size is None else remote.size, MAX_BYTES_AHEAD)
        self._remote = remote
        self._window = window
        self._limit = min(limit, max(remote.size or 0, _UNKNOWN))
        self._twice = twice
        # Taken by who reads it first: the window, or the one who wants it.
        self._claim = threading.Lock()
        self._done = threading.Event()
        self._data: bytes | None = None
        self._failure: BaseException | None = None

    @property
    def size(self) -> int:
        """The length in bytes, as far as it is known."""
        return len(self._data or b"") or self._remote.size or 0

    def __call__(self, limit: int) -> bytes:
        """The bytes of the object.

        Raises:
            ImageError: as `stores.Remote`.
        """
        if self._claim.acquire(blocking=False):
            return self._read_now(limit)
        self._done.wait()
        data = self._data
        self._forget(data)
        if self._failure is not None:
            raise self._failure
        if data is None:
            # Too large to be read ahead, or read again.
            return self._remote(limit)
        check_bytes(len(data), limit)
        return data

    def fetch(self) -> bool:
        """Read it, unless somebody has begun to; whether there is something to keep now."""
        if not self._claim.acquire(blocking=False):
            return False
        try:
            self._data = self._remote(self._limit)
        except TooLargeError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by who wants it
            self._failure = error
        finally:
            self._done.set()
        return self._data is not None

    def _read_now(self, limit: int) -> bytes:
        try:
            data = self._remote(limit)
            if self._twice and len(data) <= _KEPT:
                self._data = data
        finally:
            self._twice = False
            self._done.set()
        return data

    def _forget(self, data: bytes | None) -> None:
        """Give the room back at the first use, and the bytes at the last."""
        if data is not None and not (self._twice and len(data) <= _KEPT):
            self._data = None
        self._twice = False
        self._window.free(self)


class _Window:
    """The objects that are read ahead."""

    def __init__(self, limit: int, twice: bool) -> None:
        self._limit = limit
        self._twice = twice
        self._changed = threading.Condition()
        self._wanted: deque[PrefetchedImage] = deque()
        self._held: dict[PrefetchedImage, int] = {}
        self._room = MAX_BYTES_AHEAD
        self._ended = self._stopped = False
        self._waiting: queue.Queue[ImageRef | BaseException | None] = queue.Queue(_WAITING)

    def through(self, refs: Iterator[ImageRef]) -> Iterator[ImageRef]:
        """The images, the remote ones of them to be read ahead from here on."""
        threading.Thread(target=self._feed, args=(refs,), name="mnv1-listing", daemon=True).start()
        for _ in range(MAX_REQUESTS):
            threading.Thread(target=self._serve, name="mnv1-ahead", daemon=True).start()
        try:
            while (item := self._waiting.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        except BaseException:
            self._end(stop=True)
            raise
        self._end()

    def _end(self, stop: bool = False) -> None:
        """No more are to come; those that were not begun are wanted still, unless `stop`."""
        with self._changed:
            self._ended, self._stopped = True, stop
            self._changed.notify_all()

    def free(self, fetched: PrefetchedImage) -> None:
        """Give back the room of an object."""
        with self._changed:
            self._room += self._held.pop(fetched, 0)
            self._changed.notify_all()

    def _feed(self, refs: Iterator[ImageRef]) -> None:
        try:
            for ref in refs:
                self._put(self._prepared(ref))
                if self._stopped:
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            self._put(error)

    def _prepared(self, ref: ImageRef) -> ImageRef:
        if not isinstance(ref.member, RemoteImage) or ref.problem:
            return ref
        fetched = PrefetchedImage(ref.member, self, self._limit, self._twice)
        with self._changed:
            self._wanted.append(fetched)
            self._changed.notify()
        return replace(ref, member=fetched)

    def _put(self, item: ImageRef | BaseException | None) -> None:
        while not self._stopped:
            with contextlib.suppress(queue.Full):
                self._waiting.put(item, timeout=_POLL_SECONDS)
                return

    def _serve(self) -> None:
        while (fetched := self._next()) is not None:
            if not fetched.fetch():
                self.free(fetched)

    def _next(self) -> PrefetchedImage | None:
        """The next object in turn, as soon as there is room; None at the end."""
        with self._changed:
            while not self._stopped and (self._wanted or not self._ended):
                if self._wanted and self._room >= self._wanted[0].cost:
                    fetched = self._wanted.popleft()
                    self._held[fetched] = fetched.cost
                    self._room -= fetched.cost
                    return fetched
                if not self._changed.wait(_IDLE_SECONDS) and self._ended:
                    # Nobody takes what is there, and perhaps nobody will.
                    self._stopped = True
        return None
