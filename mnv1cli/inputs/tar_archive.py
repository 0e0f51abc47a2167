"""Images in tar files that are not packed: read in any order."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnv1cli.errors import ImageError
from mnv1cli.inputs.archive import DAMAGE, Archive, Entry, explain_read, find_outside
from mnv1cli.limits import check_bytes
from mnv1cli.system.bounded_reader import MAX_HEADER, BoundedReader

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class TarEntry(Entry):
    """A file of a tar, with the position of its bytes."""

    offset: int = 0


class TarArchive(Archive):
    """A tar file."""

    def list_entries(self) -> Iterator[Entry]:
        """List all files in their order."""
        with self.file.open_stream() as stream:
            yield from list_tar_entries(_SeekingReader(stream))

    def read_entry(self, entry: Entry, limit: int) -> bytes:
        """Read the bytes of a file without a problem, at most `limit`; raises `ImageError`."""
        assert isinstance(entry, TarEntry)
        check_bytes(entry.size, limit)
        try:
            data = self.file.read_at(entry.offset, entry.size)
        except DAMAGE as error:
            raise explain_read(error) from error
        if len(data) < entry.size:
            raise ImageError("damaged in its archive: it ends too early")
        return data


class _SeekingReader(BoundedReader):
    """A file that is not packed: the bytes between the members need not be read."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move forwards; as in other bounded readers there is no way back."""
        if whence or offset < self.position:
            raise tarfile.ReadError("it goes backwards")
        self.position = self._file.seek(offset)
        return self.position


def list_tar_entries(stream: BoundedReader) -> Iterator[TarEntry]:
    """List the files of a tar; the bytes of each may be read before the next one is asked for."""
    stream.allow(MAX_HEADER)
    with tarfile.open(fileobj=stream, mode="r:", errorlevel=2) as tar:
        while (info := tar.next()) is not None:
            # It keeps them all otherwise.
            tar.members = []  # type: ignore[attr-defined]
            if info.size < 0:
                raise tarfile.ReadError("a file has a length below zero")
            stream.allow(info.size + MAX_HEADER)
            if not info.isdir():
                name = info.name.encode("utf-8", "surrogateescape").removeprefix(b"./")
                yield TarEntry(name, info.size, _find_problem(info, name), info.offset_data)


def _find_problem(info: tarfile.TarInfo, name: bytes) -> str:
    if not info.isfile() or info.issparse():
        return "is a link, a device or a sparse file in its archive"
    return find_outside(name)
