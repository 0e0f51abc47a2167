"""The memory for unpacked images that wait for their turn, of all packed archives together."""

from __future__ import annotations

import threading

from mnv1cli.limits import check_bytes

# The most bytes that wait; some 80 photos of a phone.
MAX_HELD = 256 << 20
_PATIENCE_SECONDS = 1.0


class HeldBytes:
    """The bytes of an image in memory, as long as this object exists; also their reader."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __call__(self, limit: int) -> bytes:
        """Return the bytes; raises `ImageError` where they are more than `limit`."""
        check_bytes(len(self._data), limit)
        return self._data

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self._data)

    def __del__(self) -> None:
        MEMORY.free(len(self._data))


class Memory:
    """The memory that is taken; whoever takes some makes a `HeldBytes`, which frees it."""

    def __init__(self) -> None:
        # Bytes may be deleted, and so freed, while this thread is in here.
        self._changed = threading.Condition(threading.RLock())
        self._taken = 0
        self._is_patient = True

    def take(self, size: int, wait: bool = False, force: bool = False) -> bool:
        """Take memory, and return whether there was enough; with `force` there always is.

        With `wait` others may free some first.
        """
        with self._changed:
            while self._taken + size > MAX_HELD and not force:
                # Whoever lists all images before the first is read would wait in vain.
                if not (wait and self._is_patient and self._changed.wait(_PATIENCE_SECONDS)):
                    self._is_patient = self._is_patient and not wait
                    return False
            self._taken += size
            return True

    def free(self, size: int) -> None:
        """Free memory."""
        with self._changed:
            self._taken -= size
            self._is_patient = True
            self._changed.notify_all()


MEMORY = Memory()
