"""Threads that map a function over many items, with results in the order of the items."""

from __future__ import annotations

import itertools
import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

_POLL_SECONDS = 0.2


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int = 1
) -> Iterator[R]:
    """Yield the result of each item, computed by `workers` threads, in the order of `items`.

    At most `workers + ahead` items are started and not yet taken, so memory use stays
    flat. `items` is iterated in a separate thread. An exception of `items` or of the
    function is raised here, in its turn. The threads are daemons: a read that never ends
    does not keep the process alive.
    """
    work = _Work(function, items, workers + ahead)
    for target in (work.feed, *itertools.repeat(work.serve, workers)):
        threading.Thread(target=target, name="mnv1-ordered", daemon=True).start()
    try:
        while (promise := work.promised.get()) is not None:
            result = promise.wait()
            work.room.release()
            yield result
    finally:
        work.stop(workers)


class _Promise:
    """The result of an item, or an exception in its place, as soon as it is known.

    A lock is a tenth of the work that a `Future` is.
    """

    __slots__ = ("_done", "_error", "_result", "item")

    def __init__(self, item: Any = None) -> None:
        self.item = item
        self._result: Any = None
        self._error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def keep(self, function: Callable[[Any], Any]) -> None:
        """Compute the result and hand it over, or what the function raises."""
        try:
            self._result = function(self.item)
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            self._error = error
        self.item = None
        self._done.release()

    def fail(self, error: BaseException) -> None:
        """Hand over an exception."""
        self._error = error
        self._done.release()

    def wait(self) -> Any:
        """Wait for the result and return it, or raise the exception; once only."""
        self._done.acquire()
        try:
            if self._error is not None:
                raise self._error
            return self._result
        finally:
            # The traceback of the exception would lead back to itself.
            self._error = None


class _Work:
    """The state that the threads of a map share."""

    def __init__(self, function: Callable[[Any], Any], items: Iterable[Any], room: int) -> None:
        self._function = function
        self._items = items
        self._stopped = False
        self._waiting: queue.SimpleQueue[_Promise | None] = queue.SimpleQueue()
        self.promised: queue.SimpleQueue[_Promise | None] = queue.SimpleQueue()
        self.room = threading.Semaphore(room)

    def stop(self, workers: int) -> None:
        """Tell the threads to end."""
        self._stopped = True
        for _ in range(workers):
            self._waiting.put(None)

    def feed(self) -> None:
        """Take items, waiting for room before each."""
        try:
            for item in self._items:
                while not self.room.acquire(timeout=_POLL_SECONDS):
                    if self._stopped:
                        return
                if self._stopped:
                    return
                promise = _Promise(item)
                self._waiting.put(promise)
                self.promised.put(promise)
            self.promised.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again by the consumer
            promise = _Promise()
            promise.fail(error)
            self.promised.put(promise)
        finally:
            # A generator that is abandoned halfway may have its own threads to end.
            if close := getattr(self._items, "close", None):
                close()

    def serve(self) -> None:
        """Compute results until no items are left."""
        while (promise := self._waiting.get()) is not None and not self._stopped:
            promise.keep(self._function)
            # Not kept while the next one is waited for.
            del promise


def split_into_chunks(
    items: Iterable[T], size: int, first: Iterable[int] = ()
) -> Iterator[list[T]]:
    """Split items into lists of `size`; the first lists have the sizes in `first`.

    The last list, and the list before a failure of `items`, may be shorter.
    """
    iterator = iter(items)
    failure: BaseException | None = None
    for count in itertools.chain(first, itertools.repeat(size)):
        chunk: list[T] = []
        try:
            # Not list(...): items before a failure would be lost with it.
            chunk.extend(itertools.islice(iterator, count))
        except BaseException as error:  # noqa: BLE001 - raised again after the items before it
            failure = error
        if chunk:
            yield chunk
        if failure is not None:
            raise failure
        if not chunk:
            return
