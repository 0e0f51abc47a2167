"""Waiting for a server in bounded time, and for no trickle."""

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

# What sends less than this counts as broken off: a trickle would never end.
MIN_BYTES_PER_SECOND = 4 << 10  # bytes a second
SLOW_SECONDS = 30.0


class TooSlowError(TimeoutError):
    """A server sends, but so little that it would take for ever."""


class NotInTimeError(TimeoutError):
    """Something took longer than anybody waits for it."""


class Pace:
    """How slow a server may be. Only the time counts that we wait for it."""

    def __init__(self, silence: float) -> None:
        self._longest = silence
        self.given_up = False
        self.begin()

    def begin(self, left: float = math.inf) -> None:
        """From here on something must come; at first within `left` seconds."""
        self.silence = max(min(self._longest, left), 0.01)
        self._window = min(SLOW_SECONDS, left)
        self._waited = self._last = 0.0
        self._count = 0

    def measure(self, read: Callable[[], int | None]) -> int | None:
        """Read once, and hold what came against the time that it took."""
        start = time.monotonic()
        try:
            count = read()
        finally:
            self._last = time.monotonic() - start
            self._waited += self._last
        self._count += count or 0
        if self.given_up or (self._waited >= self._window and self._is_slow()):
            raise TooSlowError(f"less than {MIN_BYTES_PER_SECOND} bytes a second")
        if self._waited >= self._window:
            self.begin()
        return count

    def lost(self) -> float:
        """The seconds that were waited in vain before a transfer broke off."""
        return self._waited if self._is_slow() else self._last

    def _is_slow(self) -> bool:
        return self._count < MIN_BYTES_PER_SECOND * self._waited


class _Paced(io.RawIOBase):
    """What comes through a socket, status line and headers included, at a decent pace."""

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
    """What `work` gives, in bounded time: the system looks up names with a patience of its own.

    Raises:
        NotInTimeError: it took too long, and is left to itself.
    """
    ends: queue.SimpleQueue[tuple[list[T], BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            ends.put(([work()], None))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            ends.put(([], error))

    threading.Thread(target=run, daemon=True).start()
    try:
        results, error = ends.get(timeout=max(seconds, 0.0))
    except queue.Empty:
        raise NotInTimeError from None
    if error is not None:
        raise error
    return results[0]


def keep_pace(manager: Any, pace: Pace) -> None:
    """Let a pool manager's connections read through `_Paced`."""
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
