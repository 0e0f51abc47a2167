"""Images in windows: a window has the images that were listed while the last one was done."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from mnv1cli.types import ImageRef

# How long the first images may take to become a window that keeps all cores busy.
_PATIENCE_SECONDS = 2.0


def windows(
    refs: Iterable[ImageRef], enough: int, most: int
) -> Generator[list[ImageRef], None, None]:
    """Yield the images in windows, in their order, while the listing goes on.

    A window has `enough` images where so many come within two seconds, and never more than
    `most`: the listing waits for room then. What the iterator over `refs` raises is raised
    here, after the images that came before it.
    """
    listed = _Listed(most)
    threading.Thread(target=listed.fill, args=(refs,), name="mnv1-listing", daemon=True).start()
    try:
        while window := listed.take(enough):
            yield window
    finally:
        listed.stop()


class _Listed:
    """A queue of images that were listed and wait for their window."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[ImageRef] = deque()
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._failure: BaseException | None = None

    def fill(self, refs: Iterable[ImageRef]) -> None:
        """List images into the queue until it is stopped; wait while it is full."""
        try:
            for ref in refs:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or len(self._waiting) < self._most)
                    if self._stopped:
                        return
                    self._waiting.append(ref)
                    self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again by `take`
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def take(self, enough: int) -> list[ImageRef]:
        """Take all images that wait; none are left at the end of the listing."""
        until = time.monotonic() + _PATIENCE_SECONDS
        with self._changed:
            while not self._ended and len(self._waiting) < min(enough, self._most):
                seconds = until - time.monotonic()
                if seconds <= 0 and self._waiting:
                    break
                self._changed.wait(max(seconds, 0) or None)
            window = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        if not window and self._failure is not None:
            raise self._failure
        return window

    def stop(self) -> None:
        """Stop the listing."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
