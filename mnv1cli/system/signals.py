"""Work that a signal does not interrupt halfway.

The command line's signal handlers call `request_stop`; the library marks with
`defer_stop` the work to finish first. Without handlers nothing is deferred.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


log = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0


class _State:
    depth = 0
    waiting: BaseException | None = None


def request_stop(stop: BaseException) -> None:
    """Raise `stop` at the end of the deferring block; raise a second request at once."""
    if _State.depth and _State.waiting is None:
        _State.waiting = stop
        return
    raise stop


@contextlib.contextmanager
def defer_stop(work: str = "") -> Iterator[None]:
    """Finish this block before a first signal takes effect; for the main thread only.

    `work` says what a signal waits for: it is logged where that takes more than a moment.
    """
    _State.depth += 1
    done = threading.Event()
    if work:
        # In a thread that is there before: a signal handler must not start one.
        threading.Thread(target=_explain, args=(work, done), daemon=True).start()
    try:
        yield
        raise_waiting_stop()
    finally:
        done.set()
        _State.depth -= 1
        _State.waiting = None


def _explain(work: str, done: threading.Event) -> None:
    """Log what a signal waits for, where it waits longer than people do."""
    while not done.wait(PATIENCE_SECONDS):
        if _State.waiting is not None and not done.wait(PATIENCE_SECONDS):
            log.warning("stopping when %s; a second signal stops at once", work)
            return


def raise_waiting_stop() -> None:
    """Raise the stop that waits, at a point where the deferring block may be left unfinished."""
    if _State.waiting is not None:
        raise _State.waiting
