"""Parts of the work that a signal does not tear, where the program asks for that.

The command line's signal handlers call `arrive`; the library marks what should
be finished first. Without handlers nothing is held.
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
    """Raise `stop`, at the end of what is held; a second one is raised at once."""
    if _State.depth and _State.waiting is None:
        _State.waiting = stop
        return
    raise stop


@contextlib.contextmanager
def defer_stop() -> Iterator[None]:
    """Finish this before a first signal counts. For the main thread alone."""
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
        waiting, _State.waiting = _State.waiting, None
    if waiting is not None:
        raise waiting
