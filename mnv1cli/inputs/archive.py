"""The common part of all kinds of archives: members, listed in order or read by name."""

from __future__ import annotations

import gzip
import tarfile
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from mnv1cli.errors import ImageError, first_line
from mnv1cli.inputs.pooled_file import PooledFile
from mnv1cli.inputs.stored_file import StoredFile
from mnv1cli.storage.location import is_remote
from mnv1cli.system.bounded_reader import ExcessError
from mnv1cli.system.unpackers import UnpackError
from mnv1cli.types import UNREAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Reader = Callable[[int], bytes]

# The exceptions of damaged archives, wherever the damage shows.
DAMAGE = (
    OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile,
    ValueError, NotImplementedError, RuntimeError, LookupError, ExcessError, UnpackError,
)  # fmt: skip
NO_MEMBER = "no such file in its archive"


class Member(NamedTuple):
    """A file in an archive: its name there, and its reader or the problem why it has none.

    `read` takes the number of bytes that are allowed, and raises `ImageError`.
    """

    name: bytes
    read: Reader | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as the archive lists it: its length in bytes, and why it cannot be read, if so."""

    name: bytes
    size: int
    problem: str = ""


@dataclass(frozen=True, slots=True)
class StoredMember:
    """The reader of a file in an archive in a store; `size` in bytes where it is known."""

    read: Reader
    size: int | None = None
    mtime: float | None = None

    def __call__(self, limit: int) -> bytes:
        """Read the bytes of the file, as `Archive.read_entry`."""
        return self.read(limit)


class Archive(ABC):
    """An archive on disk or in a store, which is open only while it is read.

    Nothing is read until members are listed or read.
    """

    def __init__(self, path: bytes) -> None:
        self.file = StoredFile(path) if is_remote(path) else PooledFile(path)
        self._indexing = threading.Lock()
        self._index: dict[bytes, Entry] | None = None
        self._damage = ""

    def close(self) -> None:
        """Close the file until it is read again."""
        self.file.close()

    def list_members(self, accepts: Callable[[bytes], bool]) -> Iterator[Member]:
        """List the files whose names are accepted: of a ZIP by name, of a tar in its order.

        In a damaged archive the last one has the damage as its problem, and no name.
        """
        try:
            for entry in self.list_entries():
                if accepts(entry.name):
                    read = self._make_reader(partial(self.read_entry, entry), entry.size)
                    yield Member(entry.name, None if entry.problem else read, entry.problem)
        except DAMAGE as error:
            yield Member(b"", problem=describe_damage(error))

    def open_member(self, name: bytes) -> Reader:
        """Return the reader of the file `name`, which is looked for when it is first read."""
        return self._make_reader(partial(self.read_member, name))

    def read_member(self, name: bytes, limit: int) -> bytes:
        """Read the bytes of the file `name`, at most `limit`.

        Raises:
            ImageError: there is no such file, or it cannot be read or is too large.
        """
        entry = self._read_index().get(name)
        if entry is None:
            raise ImageError(self._damage or NO_MEMBER)
        if entry.problem:
            raise ImageError(entry.problem)
        return self.read_entry(entry, limit)

    @property
    def damage(self) -> str:
        """The reason why some files are unknown, empty if the archive was read to its end."""
        return self._damage

    def has_file(self, name: bytes) -> bool:
        """Return whether there is a file `name`."""
        return name in self._read_index()

    def has_folder(self, name: bytes) -> bool:
        """Return whether there is a file below the folder `name`."""
        start = name.rstrip(b"/") + b"/" if name else b""
        return any(member.startswith(start) for member in self._read_index())

    def count_indexed(self) -> int:
        """Return the number of files whose places are in memory."""
        return len(self._index or ())

    @abstractmethod
    def list_entries(self) -> Iterator[Entry]:
        """List all files; raises one of `DAMAGE`."""

    @abstractmethod
    def read_entry(self, entry: Entry, limit: int) -> bytes:
        """Read the bytes of a file without a problem, at most `limit`; raises `ImageError`."""

    def _make_reader(self, read: Reader, size: int | None = None) -> Reader:
        return StoredMember(read, size) if isinstance(self.file, StoredFile) else read

    def _read_index(self) -> dict[bytes, Entry]:
        """Read the files by name; of several with one name the first, which a walk has first."""
        with self._indexing:
            if self._index is None:
                index: dict[bytes, Entry] = {}
                try:
                    for entry in self.list_entries():
                        index.setdefault(entry.name, entry)
                except DAMAGE as error:
                    self._damage = describe_damage(error)
                self._index = index
            return self._index


def describe_damage(error: BaseException) -> str:
    """Describe why an archive could not be read to its end."""
    if isinstance(error, OSError) and error.errno is not None:
        return f"{UNREAD}: its archive: {error.strerror}"
    return f"damaged archive: {first_line(error)}"


def find_outside(name: bytes) -> str:
    """Return the problem of a name that leaves its archive; empty where it does not."""
    outside = name.startswith(b"/") or b".." in name.split(b"/")
    return "lies outside of its archive" if outside else ""


def explain_read(error: BaseException) -> ImageError:
    """Make the error of a member that could not be read."""
    if isinstance(error, OSError) and error.errno is not None:
        return ImageError(f"{UNREAD}: {error.strerror}")
    return ImageError(f"damaged in its archive: {first_line(error)}")
