"""Images in stores read ahead of decoding: many requests at once, since each takes its time.

A few threads decode, and would wait for each object in turn. So the objects are
requested beforehand, in the order in which they will be needed, as many at a time
as memory allows. A thread that needs an object which is not requested yet reads it
itself: no thread waits for room that only it could free.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from mnv1cli.inputs.archive import StoredMember
from mnv1cli.limits import TooLargeError, check_bytes
from mnv1cli.storage.stores import RemoteImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mnv1cli.types import ImageRef

# The readers that ask a store.
_REMOTE = (RemoteImage, StoredMember)
# Requests at once: at 50 ms each that makes 1,280 images a second.
MAX_REQUESTS = 64
# The most bytes that are read ahead and not decoded yet.
MAX_BYTES_AHEAD = 256 << 20
# The assumed length of an object whose length is unknown; a larger one is not read ahead.
_UNKNOWN = MAX_BYTES_AHEAD // MAX_REQUESTS
# Images that wait for the consumer, beyond those that it has taken.
_WAITING = 2 * MAX_REQUESTS
_POLL_SECONDS = 0.2
# A thread that has nothing to read ends after so long.
_IDLE_SECONDS = 2.0


def prefetch_remote(refs: Iterable[ImageRef], limit: int) -> Iterator[ImageRef]:
    """Yield the same images; from the first one in a store on, they are read ahead.

    Objects of more than `limit` bytes are faults.
    An exception of the iterator over `refs` is raised here, in its turn.
    """
    iterator = iter(refs)
    for ref in iterator:
        if isinstance(ref.member, _REMOTE):
            yield from _Window(limit).read_ahead(itertools.chain([ref], iterator))
            return
        yield ref


class PrefetchedImage:
    """The reader of an object that is, or will be, read ahead."""

    def __init__(self, remote: RemoteImage | StoredMember, window: _Window, limit: int) -> None:
        self.mtime = remote.mtime
        self.cost = min(_UNKNOWN if remote.size is None else remote.size, MAX_BYTES_AHEAD)
        self._remote = remote
        self._window = window
        self._limit = min(limit, max(remote.size or 0, _UNKNOWN))
        # Taken by whichever reads it first: the window, or a thread that decodes.
        self._claim = threading.Lock()
        self._done = threading.Event()
        self._data: bytes | None = None
        self._failure: BaseException | None = None

    def __call__(self, limit: int) -> bytes:
        """Return the bytes of the object.

        Raises:
            ImageError: as `RemoteImage` does.
        """
        if self._claim.acquire(blocking=False):
            # Not requested yet, and not going to be.
            self._done.set()
        self._done.wait()
        data, self._data = self._data, None
        self._window.free(self)
        if self._failure is not None:
            raise self._failure
        if data is None:
            # Not read ahead, or read again.
            return self._remote(limit)
        check_bytes(len(data), limit)
        return data

    def fetch(self) -> None:
        """Read it, unless another thread has begun to."""
        if not self._claim.acquire(blocking=False):
            return
        try:
            self._data = self._remote(self._limit)
        except TooLargeError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by the reader
            self._failure = error
        finally:
            self._done.set()
            if self._data is None:
                self._window.free(self)


class _Window:
    """The objects that are read ahead."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Condition()
        # Objects that wait for room, those that have it, and the threads that read these.
        self._queued: deque[PrefetchedImage] = deque()
        self._admitted: deque[PrefetchedImage] = deque()
        self._threads = self._idle = 0
        self._room = MAX_BYTES_AHEAD
        self._held: dict[PrefetchedImage, int] = {}
        self._stopped = False
        self._waiting: queue.Queue[ImageRef | BaseException | None] = queue.Queue(_WAITING)

    def read_ahead(self, refs: Iterator[ImageRef]) -> Iterator[ImageRef]:
        """Yield the images; remote ones are read ahead from here on."""
        threading.Thread(target=self._feed, args=(refs,), name="mnv1-listing", daemon=True).start()
        try:
            while (item := self._waiting.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        except BaseException:
            with self._lock:
                self._stopped = True
                self._queued.clear()
                self._admitted.clear()
            raise

    def free(self, image: PrefetchedImage) -> None:
        """Free the room of an object."""
        with self._lock:
            self._room += self._held.pop(image, 0)
            self._admit()

    def _feed(self, refs: Iterator[ImageRef]) -> None:
        try:
            for ref in refs:
                self._put(self._prepare(ref))
                if self._stopped:
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            self._put(error)

    def _prepare(self, ref: ImageRef) -> ImageRef:
        if not isinstance(ref.member, _REMOTE) or ref.problem:
            return ref
        image = PrefetchedImage(ref.member, self, self._limit)
        with self._lock:
            self._queued.append(image)
            self._admit()
        return replace(ref, member=image)

    def _put(self, item: ImageRef | BaseException | None) -> None:
        while not self._stopped:
            with contextlib.suppress(queue.Full):
                self._waiting.put(item, timeout=_POLL_SECONDS)
                return

    def _admit(self) -> None:
        """Request the next objects in turn, as far as there is room; called with the lock."""
        while self._queued and self._room >= self._queued[0].cost and not self._stopped:
            image = self._queued.popleft()
            self._held[image] = image.cost
            self._room -= image.cost
            self._admitted.append(image)
            if self._idle >= len(self._admitted):
                self._lock.notify()
            elif self._threads < MAX_REQUESTS:
                self._threads += 1
                threading.Thread(target=self._serve, name="mnv1-ahead", daemon=True).start()

    def _serve(self) -> None:
        while True:
            with self._lock:
                if not self._admitted:
                    self._idle += 1
                    self._lock.wait(_IDLE_SECONDS)
                    self._idle -= 1
                if not self._admitted:
                    self._threads -= 1
                    return
                image = self._admitted.popleft()
            image.fetch()
