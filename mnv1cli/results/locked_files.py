"""Files that one run writes at a time: locked as long as they are open."""

from __future__ import annotations

import fcntl
import logging
import os
from typing import TYPE_CHECKING, BinaryIO

from mnv1cli.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


def open_locked(path: Path, length: int = 0, name: Path | None = None) -> BinaryIO:
    """Open a file to write, cut to `length` bytes and locked until it is closed.

    Errors name it `name`, where that is given.

    Raises:
        OutputError: another run is writing it, or it cannot be written.
    """
    try:
        return _open_and_lock(path, length)
    except OSError as error:
        raise OutputError(f"cannot write {name or path}: {error.strerror}") from error


def is_locked(path: Path) -> bool:
    """Return whether another run is writing a file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _open_and_lock(path: Path, length: int) -> BinaryIO:
    # Not "wb": that would empty what another run is writing. Not "ab": rows are
    # not all that is written, a header is filled in at the end.
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise OutputError(f"another run is writing {path}", "wait for it") from None
    except OSError:
        log.debug("the file system of %s has no locks", path.parent)
    if not _has_name(file, path):
        # Between opening and locking the other run has finished: this is its result.
        file.close()
        raise OutputError(f"another run has just written {path}", "try again")
    file.truncate(length)
    file.seek(length)
    return file


def _has_name(file: BinaryIO, path: Path) -> bool:
    """Return whether an open file still has the name under which it was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
