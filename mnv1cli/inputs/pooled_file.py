"""Files that are open only while few of them are: a run may read from thousands of archives."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Descriptors that stay open for the next reading; processes may have 256 on some systems.
MAX_OPEN = 32
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class ChangedFileError(OSError):
    """A file that is not the one that was opened first."""

    def __init__(self) -> None:
        super().__init__(0, "it has changed since it was first read")


class PooledFile:
    """A file that is opened when it is read, and again where it has been closed since."""

    def __init__(self, path: bytes) -> None:
        self._handle = _Handle()
        self._identity: tuple[int, ...] | None = None
        self._path = path
        # The folder of the process may change until the file is opened again.
        with contextlib.suppress(OSError):
            self._path = os.path.abspath(path)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, unless it is being read; reading it again opens it again."""
        _POOL.drop(self._handle)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read `size` bytes from `offset` on, fewer where the file ends.

        Raises:
            OSError: the file cannot be read, or has changed since it was first opened.
        """
        with _POOL.lend(self._handle, self._open) as descriptor:
            # No room is made for what the file does not have.
            size = min(size, max(os.fstat(descriptor).st_size - offset, 0))
            data = os.pread(descriptor, size, offset)
            while len(data) < size:
                # The system reads at most 2 GiB at a time.
                part = os.pread(descriptor, size - len(data), offset + len(data))
                if not part:
                    break
                data += part
        return data

    def open_stream(self) -> BinaryIO:
        """Open the file to be read from its start, apart from other readers.

        Raises:
            OSError: as for `read_at`.
        """
        return os.fdopen(self._open(), "rb")

    def _open(self) -> int:
        descriptor = os.open(self._path, _FLAGS)
        try:
            status = os.fstat(descriptor)
            identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if self._identity not in (None, identity):
                raise ChangedFileError
            self._identity = identity
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


class _Handle:
    """A descriptor, and the number of threads that read from it now."""

    __slots__ = ("descriptor", "users")

    def __init__(self) -> None:
        self.descriptor = -1
        self.users = 0


class _Pool:
    """The open descriptors, the one that was used last at the end."""

    def __init__(self) -> None:
        # A file may be deleted, and so dropped, while this thread is in here.
        self._lock = threading.RLock()
        self._open: OrderedDict[_Handle, None] = OrderedDict()

    @contextlib.contextmanager
    def lend(self, handle: _Handle, open_file: Callable[[], int]) -> Iterator[int]:
        """Lend the descriptor of a handle, which is not closed in that time."""
        with self._lock:
            if handle.descriptor < 0:
                handle.descriptor = open_file()
            handle.users += 1
            self._open[handle] = None
            self._open.move_to_end(handle)
            self._shrink()
        try:
            yield handle.descriptor
        finally:
            with self._lock:
                handle.users -= 1
                self._shrink()

    def drop(self, handle: _Handle) -> None:
        """Close the descriptor of a handle, unless it is lent."""
        with self._lock:
            if handle.descriptor >= 0 and not handle.users:
                self._close(handle)

    def _shrink(self) -> None:
        for handle in tuple(self._open)[: max(len(self._open) - MAX_OPEN, 0)]:
            if not handle.users:
                self._close(handle)

    def _close(self, handle: _Handle) -> None:
        descriptor, handle.descriptor = handle.descriptor, -1
        self._open.pop(handle, None)
        os.close(descriptor)


_POOL = _Pool()
