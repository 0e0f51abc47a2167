"""The bytes of an image file: only of regular files, and no more than allowed."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from mnv1cli.errors import ImageError
from mnv1cli.limits import check_bytes
from mnv1cli.types import MAX_BYTES, UNREAD

if TYPE_CHECKING:
    from mnv1cli.types import ImageRef

# A file may become a FIFO between two looks at it: opening that must not wait.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
# The least that is read at once, in bytes.
_MIN_READ = 1 << 16
MISSING = "no such file"


def read_image(ref: ImageRef, limit: int) -> bytes:
    """Read the bytes of an image, from its own file, an archive or a store.

    Raises:
        ImageError: as for `read_file`.
    """
    if ref.member is None:
        return read_file(ref.path, limit)
    data = ref.member(limit)
    if not data:
        raise ImageError("the file is empty")
    return data


def read_file(path: bytes, limit: int = MAX_BYTES) -> bytes:
    """Read the bytes of a regular file, at most `limit`.

    Raises:
        ImageError: the file is missing, unreadable, empty, too large or not a regular file.
    """
    try:
        # Asked before opening too: opening can wind a tape or wake a device.
        _require_regular(os.stat(path))
        descriptor = os.open(path, _FLAGS | getattr(os, "O_CLOEXEC", 0))
        try:
            data = _read_all(descriptor, limit)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        reason = "is a link to a missing file" if os.path.islink(path) else MISSING
        raise ImageError(reason) from None
    except OSError as error:
        raise ImageError(f"{UNREAD}: {error.strerror or error}") from error
    except ValueError:
        raise ImageError("no such file: its name has a NUL byte") from None
    if not data:
        raise ImageError("the file is empty")
    return data


def _read_all(descriptor: int, limit: int) -> bytes:
    """Read a file to its end; of a file that grows, one byte more than is allowed."""
    status = os.fstat(descriptor)
    _require_regular(status)
    check_bytes(status.st_size, limit)
    parts: list[bytes] = []
    size = 0
    # One byte more than expected, so that the end shows in the first call.
    wanted = max(status.st_size + 1, _MIN_READ)
    while part := os.read(descriptor, min(wanted, limit + 1 - size)):
        parts.append(part)
        size += len(part)
        check_bytes(size, limit)
        if size == status.st_size < wanted:
            # It was less than asked for.
            break
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"is a {_describe_kind(status.st_mode)}, not a file")


def _describe_kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "folder"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISFIFO, "named pipe"),
    ):
        if test(mode):
            return name
    return "device"
