"""Globs over names that are bytes."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECURSIVE = b"**"


def is_recursive(pattern: bytes) -> bool:
    """Return whether a pattern also matches the contents of folders."""
    return _RECURSIVE in pattern.split(b"/")


def find_matches(pattern: bytes) -> set[bytes]:
    """Find the paths that match; unlike Python's glob, `**` does not follow links to folders."""
    before, is_any_depth, after = _partition(pattern)
    if not is_any_depth:
        return set(glob.glob(pattern))
    paths = set()
    for base in find_matches(before) if before else {b""}:
        for folder in _list_folders(base):
            paths |= find_matches(os.path.join(glob.escape(folder), after or b"*"))
    return paths


def _partition(pattern: bytes) -> tuple[bytes, bool, bytes]:
    """Split a pattern at its first component `**`: before, whether there is one, after."""
    parts = pattern.split(b"/")
    if _RECURSIVE not in parts:
        return pattern, False, b""
    at = parts.index(_RECURSIVE)
    # The slash stays where it is the whole base: the root is not an empty base.
    before = b"/".join(parts[:at]) + (b"/" if at else b"")
    return before, True, b"/".join(parts[at + 1 :])


def _list_folders(base: bytes) -> Iterator[bytes]:
    """List a folder and the visible ones below it; their names begin with `base`."""
    for folder, names, _ in os.walk(base or b"."):
        names[:] = [name for name in names if not name.startswith(b".")]
        yield folder if base else folder[2:]
