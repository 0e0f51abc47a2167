"""Work that a signal does not interrupt halfway.

The command line's signal handlers call `request_stop`; the library marks with
`defer_stop` the work to finish first. Without handlers nothing is deferred.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


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
def defer_stop() -> Iterator[None]:
    """Finish this block before a first signal takes effect; for the main thread only."""
    _State.depth += 1
    try:
        yield
        raise_waiting_stop()
    finally:
        _State.depth -= 1
        _State.waiting = None


def raise_waiting_stop() -> None:
    """Raise the stop that waits, at a point where the deferring block may be left unfinished."""
    if _State.waiting is not None:
        raise _State.waiting
