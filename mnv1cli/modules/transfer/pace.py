"""Bounded waiting for a server that may be silent, or send only a trickle."""

from __future__ import annotations

import io
import math
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

T = TypeVar("T")

# A transfer slower than this counts as broken off: a trickle would never end.
MIN_BYTES_PER_SECOND = 4 << 10
SLOW_SECONDS = 30.0


class TooSlowError(TimeoutError):
    """A server sends so slowly that the transfer would take for ever."""


class NotInTimeError(TimeoutError):
    """A step took longer than its time allows."""


class Pace:
    """The speed that a server must keep; only the time spent waiting for it counts."""

    def __init__(self, silence: float) -> None:
        self._longest = silence
        self.given_up = False
        self.begin()

    def begin(self, left: float = math.inf) -> None:
        """Begin to measure: the first bytes must come within `left` seconds."""
        self.silence = max(min(self._longest, left), 0.01)
        self._window = min(SLOW_SECONDS, left)
        self._waited = self._last = 0.0
        self._count = 0

    def measure(self, read: Callable[[], int | None]) -> int | None:
        """Read once, and compare the number of bytes with the time that it took.

        Raises:
            TooSlowError: the server is too slow, or has been given up.
        """
        start = time.monotonic()
        try:
            count = read()
        finally:
            self._last = time.monotonic() - start
            self._waited += self._last
        self._count += count or 0
        if self.given_up or (self._waited >= self._window and self._is_slow()):
            raise TooSlowError(f"less than {MIN_BYTES_PER_SECOND} bytes per second")
        if self._waited >= self._window:
            self.begin()
        return count

    def count_lost_seconds(self) -> float:
        """Return the seconds that were waited in vain before a transfer broke off."""
        return self._waited if self._is_slow() else self._last

    def _is_slow(self) -> bool:
        return self._count < MIN_BYTES_PER_SECOND * self._waited


class _Paced(io.RawIOBase):
    """The bytes that come through a socket, with status line and headers, at a measured pace."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, pace: Pace) -> None:
        self._raw = raw
        self._sock = sock
        self._pace = pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._pace.silence)
        return self._pace.measure(lambda: self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


def run_within(seconds: float, work: Callable[[], T]) -> T:
    """Run `work` in bounded time and return its result; looking up names has no timeout itself.

    Raises:
        NotInTimeError: it took too long; its thread is abandoned.
    """
    outcomes: queue.SimpleQueue[tuple[list[T], BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            outcomes.put(([work()], None))
        except BaseException as error:  # noqa: BLE001 - raised again by the waiting thread
            outcomes.put(([], error))

    threading.Thread(target=run, daemon=True).start()
    try:
        results, error = outcomes.get(timeout=max(seconds, 0.0))
    except queue.Empty:
        raise NotInTimeError from None
    if error is not None:
        raise error
    return results[0]


def keep_pace(manager: Any, pace: Pace) -> None:
    """Make a pool manager's connections read through `_Paced`."""
    from http.client import HTTPResponse

    class Answer(HTTPResponse):
        def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
            super().__init__(sock, *arguments, **options)
            self.fp: Any = io.BufferedReader(_Paced(self.fp.detach(), sock, pace))

    manager.pool_classes_by_scheme = {
        scheme: type(
            pool.__name__,
            (pool,),
            {
                "ConnectionCls": type(
                    pool.ConnectionCls.__name__, (pool.ConnectionCls,), {"response_class": Answer}
                )
            },
        )
        for scheme, pool in manager.pool_classes_by_scheme.items()
    }
