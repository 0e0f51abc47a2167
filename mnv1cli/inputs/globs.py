"""Globs over names that are bytes."""

from __future__ import annotations

import glob
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECURSIVE = b"**"


def is_recursive(pattern: bytes) -> bool:
    """Whether a pattern finds what is in folders, too."""
    return _RECURSIVE in pattern.split(b"/")


def find_matches(pattern: bytes) -> set[bytes]:
    """The paths that match; unlike Python's glob, `**` does not follow links to folders."""
    before, found, after = _partition(pattern)
    if not found:
        return set(glob.glob(pattern))
    found_paths = set()
    for base in find_matches(before) if before else {b""}:
        for folder in _folders(base):
            found_paths |= find_matches(os.path.join(glob.escape(folder), after or b"*"))
    return found_paths


def _partition(pattern: bytes) -> tuple[bytes, bool, bytes]:
    """What stands before and after the first component `**`, and whether there is one."""
    parts = pattern.split(b"/")
    if _RECURSIVE not in parts:
        return pattern, False, b""
    at = parts.index(_RECURSIVE)
    # The slash stays where it is all there is: the root is no empty base.
    before = b"/".join(parts[:at]) + (b"/" if at else b"")
    return before, True, b"/".join(parts[at + 1 :])


def _folders(base: bytes) -> Iterator[bytes]:
    """A folder and the visible ones below it, their names as `base` begins them."""
    for folder, names, _ in os.walk(base or b"."):
        names[:] = [name for name in names if not name.startswith(b".")]
        yield folder if base else folder[2:]
