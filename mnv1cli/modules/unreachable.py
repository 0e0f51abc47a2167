"""The memory of modules that no source served, so that the next run need not ask."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

from mnv1cli.modules import cache

if TYPE_CHECKING:
    from collections.abc import Sequence

_FAILURE = ".unreachable"
_FAILURE_SECONDS = 24 * 60 * 60


def remember(handle: str, sources: Sequence[str]) -> None:
    """Note that none of the sources served a module, so that the next run need not ask."""
    note = cache.slot(handle)
    text = json.dumps({"time": time.time(), "sources": list(sources)})
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.with_name(note.name + _FAILURE).write_text(text)


def remembered(handle: str, sources: Sequence[str]) -> bool:
    """Whether these very sources failed within the last day."""
    note = cache.slot(handle)
    try:
        told = json.loads(note.with_name(note.name + _FAILURE).read_text())
        age = time.time() - told["time"]
        return bool(0 <= age < _FAILURE_SECONDS and told["sources"] == list(sources))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def forget(handle: str) -> None:
    """Let the sources be asked again."""
    note = cache.slot(handle)
    with contextlib.suppress(OSError):
        note.with_name(note.name + _FAILURE).unlink(missing_ok=True)
