"""Images in packed tar files, which can only be read forwards.

A walk unpacks each file once, and its images wait in memory for their turn. Files that are
named, and images of a walk for which there is no memory, are read by passes.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from mnv1cli.inputs.archive import DAMAGE, Archive, Entry, Member, describe_damage
from mnv1cli.inputs.held_bytes import MEMORY, HeldBytes
from mnv1cli.inputs.passes import Part, Passes, WantedMember
from mnv1cli.inputs.tar_archive import list_tar_entries
from mnv1cli.system.bounded_reader import MAX_TAIL

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from mnv1cli.inputs.archive import Reader
    from mnv1cli.inputs.pooled_file import PooledFile
    from mnv1cli.inputs.stored_file import StoredFile
    from mnv1cli.inputs.tar_archive import TarEntry
    from mnv1cli.system.bounded_reader import BoundedReader

_CHUNK = 1 << 20
# The largest image: several are in memory at once.
MAX_MEMBER = 32 << 20


class PackedTarArchive(Archive):
    """A tar file that is read forwards; `open_reader` makes the reader of its content."""

    def __init__(self, path: bytes, open_reader: Callable[[BinaryIO], BoundedReader]) -> None:
        super().__init__(path)
        # No method of this object: members would keep each other, and open files, alive.
        self._read_parts = partial(_read_parts, self.file, open_reader)
        self._passes = Passes(self._read_parts)

    def list_members(self, accepts: Callable[[bytes], bool]) -> Iterator[Member]:
        """List the files whose names are accepted, in their order, with their bytes in memory."""
        try:
            with contextlib.closing(self._read_parts()) as parts:
                for part in parts:
                    if accepts(part.entry.name):
                        yield self._make_member(part)
        except DAMAGE as error:
            yield Member(b"", problem=describe_damage(error))

    def open_member(self, name: bytes) -> Reader:
        """Return the reader of the file `name`, which is looked for when it is first read."""
        return WantedMember(self._passes, name)

    def list_entries(self) -> Iterator[Entry]:
        """List all files in their order, by a pass of its own."""
        with contextlib.closing(self._read_parts()) as parts:
            for part in parts:
                yield part.entry

    def read_entry(self, entry: Entry, limit: int) -> bytes:
        """Read the bytes of a file by its name, at most `limit`; raises `ImageError`."""
        return self.open_member(entry.name)(limit)

    def count_indexed(self) -> int:
        """Return the number of files whose places are in memory."""
        return super().count_indexed() + self._passes.count_known()

    def _make_member(self, part: Part) -> Member:
        entry = part.entry
        if entry.problem:
            return Member(entry.name, problem=entry.problem)
        if not MEMORY.take(entry.size, wait=True):
            return Member(entry.name, WantedMember(self._passes, part.number))
        try:
            data = part.content
        except BaseException:
            MEMORY.free(entry.size)
            raise
        assert isinstance(data, bytes)
        return Member(entry.name, HeldBytes(data))


def _read_parts(
    file: PooledFile | StoredFile, open_reader: Callable[[BinaryIO], BoundedReader]
) -> Generator[Part, None, None]:
    """Read an archive once; each file can be read until the next one is asked for."""
    with (
        file.open_stream() as packed,
        open_reader(packed) as stream,
    ):
        for number, entry in enumerate(list_tar_entries(stream)):
            yield Part(number, _limit(entry), partial(_read_whole, stream, entry.size))
        # The checksum of the whole comes last.
        stream.allow(MAX_TAIL)
        while stream.read(_CHUNK):
            pass


def _limit(entry: TarEntry) -> Entry:
    problem = entry.problem
    if not problem and entry.size > MAX_MEMBER:
        problem = f"too large for a packed archive: {entry.size >> 20:,} MB; unpack it"
    return Entry(entry.name, entry.size, problem)


def _read_whole(stream: BoundedReader, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("it ends too early")
    return data
