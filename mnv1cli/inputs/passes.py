"""Passes through an archive that can only be read forwards, for files in any order.

A pass begins at the start of the archive, and keeps what is wanted next of all that it comes
by. So files in the order of the archive take one pass, and files in any order take as many as
the memory requires.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mnv1cli.errors import ImageError
from mnv1cli.inputs.archive import DAMAGE, NO_MEMBER, describe_damage
from mnv1cli.inputs.held_bytes import MEMORY, HeldBytes
from mnv1cli.limits import check_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mnv1cli.inputs.archive import Entry

    # The name of a file, or its number in the archive.
    Key = bytes | int
    Parts = Generator["Part", None, None]

# Passes that are under way at once: each has an open file and a decompressor of up to 128 MiB.
_MAX_PASSES = 4
# The bytes that the passes of each archive may keep, whatever the others keep.
_MIN_SHARE = 16 << 20


class Part:
    """A file of an archive with its number, from 0, while a pass is there.

    `content` is its bytes, or the problem why it has none.
    """

    def __init__(self, number: int, entry: Entry, read: Callable[[], bytes]) -> None:
        self.number = number
        self.entry = entry
        self._read = read

    @cached_property
    def content(self) -> bytes | str:
        """The content, which can be read only once."""
        return self.entry.problem or self._read()


class WantedMember:
    """The reader of a file that passes look for, by its name or number."""

    def __init__(self, passes: Passes, key: Key) -> None:
        self._passes = passes
        self._key = key
        self._is_wanted = True
        passes.want(key)

    def __call__(self, limit: int) -> bytes:
        """Read the file; raises `ImageError`."""
        data = self._passes.fetch(self._key)
        self._drop()
        check_bytes(len(data), limit)
        return data

    def __del__(self) -> None:
        self._drop()

    def _drop(self) -> None:
        if self._is_wanted:
            self._is_wanted = False
            self._passes.drop(self._key)


@dataclass
class _Wish:
    """A file that is wanted by `readers` readers, the first of which was the `turn`-th of all."""

    turn: int
    readers: int = 0
    kept: HeldBytes | str | None = None


class Passes:
    """The passes through an archive, and what they keep for the readers.

    `read_parts` begins one.
    """

    def __init__(self, read_parts: Callable[[], Parts]) -> None:
        self._read_parts = read_parts
        self._lock = threading.Lock()
        # Readers come and go in threads that must not wait for a pass.
        self._changes: deque[tuple[Key, int, int]] = deque()
        self._turns = itertools.count()
        self._wishes: dict[Key, _Wish] = {}
        # The wishes that something is kept for, the one of the last turn first.
        self._kept: list[tuple[int, Key]] = []
        self._bytes = 0
        # The numbers of the files by name, as far as they are known, and whether all are.
        self._numbers: dict[bytes, int] = {}
        self._is_complete = False
        self._damage = ""
        self._parts: Parts | None = None
        self._next = 0

    def want(self, key: Key) -> None:
        """Note that a reader of a file exists."""
        self._changes.append((key, 1, next(self._turns)))

    def drop(self, key: Key) -> None:
        """Note that a reader of a file exists no more."""
        self._changes.append((key, -1, 0))

    def fetch(self, key: Key) -> bytes:
        """Read a file, by a pass where it is not kept.

        Raises:
            ImageError: there is no such file, or it cannot be read.
        """
        with self._lock:
            self._apply_changes()
            wish = self._wishes.get(key)
            kept = wish.kept if wish is not None else None
            content = self._search(key) if kept is None else kept
        if isinstance(content, str):
            raise ImageError(content)
        return content(content.size) if isinstance(content, HeldBytes) else content

    def count_known(self) -> int:
        """Return the number of files whose numbers are known."""
        return len(self._numbers)

    def close_unless_busy(self) -> None:
        """End the pass that is under way, unless a thread reads from it."""
        if self._lock.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._lock.release()

    def _search(self, key: Key) -> bytes | str:
        number = self._numbers.get(key) if isinstance(key, bytes) else key
        if number is None and self._is_complete:
            return self._damage or NO_MEMBER
        if self._parts is None or (number is not None and number < self._next):
            self._begin()
        try:
            for part in self._parts or ():
                self._next = part.number + 1
                is_first = self._numbers.setdefault(part.entry.name, part.number) == part.number
                keys = (part.number, part.entry.name) if is_first else (part.number,)
                self._apply_changes()
                for wanted in keys:
                    self._keep(wanted, part, 1 if wanted == key else 0)
                if key in keys:
                    return part.content
        except DAMAGE as error:
            self._damage = describe_damage(error)
        self._parts = None
        self._is_complete = True
        return self._damage or NO_MEMBER

    def _begin(self) -> None:
        self._close()
        _note_pass(self)
        self._parts = self._read_parts()
        self._next = 0

    def _close(self) -> None:
        if self._parts is not None:
            self._parts.close()
            self._parts = None

    def _keep(self, key: Key, part: Part, served: int) -> None:
        """Keep the content for more readers than those that are `served`, if memory allows.

        What is wanted later makes room.
        """
        wish = self._wishes.get(key)
        if wish is None or wish.kept is not None or wish.readers <= served:
            return
        if part.entry.problem:
            wish.kept = part.entry.problem
            return
        size = part.entry.size
        while not MEMORY.take(size, force=self._bytes + size <= _MIN_SHARE):
            if not self._kept or -self._kept[0][0] <= wish.turn:
                return
            turn, last = heapq.heappop(self._kept)
            if (evicted := self._wishes.get(last)) is not None and evicted.turn == -turn:
                self._forget(evicted)
        try:
            content = part.content
        except BaseException:
            MEMORY.free(size)
            raise
        assert isinstance(content, bytes)
        wish.kept = HeldBytes(content)
        self._bytes += size
        heapq.heappush(self._kept, (-wish.turn, key))

    def _apply_changes(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                key, change, turn = self._changes.popleft()
                wish = self._wishes.setdefault(key, _Wish(turn))
                wish.readers += change
                if not wish.readers:
                    self._forget(wish)
                    del self._wishes[key]
        if not self._bytes:
            self._kept.clear()

    def _forget(self, wish: _Wish) -> None:
        if isinstance(wish.kept, HeldBytes):
            self._bytes -= wish.kept.size
        wish.kept = None


# The passes that are under way, the one that began last at the end.
_under_way: OrderedDict[weakref.ref[Passes], None] = OrderedDict()
_noting = threading.Lock()


def _note_pass(passes: Passes) -> None:
    """Note that a pass begins, and end the oldest of too many."""
    with _noting:
        _under_way[weakref.ref(passes)] = None
        oldest = list(_under_way)[: max(len(_under_way) - _MAX_PASSES, 0)]
        for reference in oldest:
            del _under_way[reference]
    for reference in oldest:
        if (older := reference()) is not None and older is not passes:
            older.close_unless_busy()
