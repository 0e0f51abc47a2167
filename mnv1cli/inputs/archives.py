"""Archives (ZIP, tar, packed tar) by their names, read in place: nothing is unpacked to disk."""

from __future__ import annotations

import os
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from mnv1cli.inputs.packed_tar import PackedTarArchive
from mnv1cli.inputs.tar_archive import TarArchive
from mnv1cli.inputs.zip_archive import ZipArchive
from mnv1cli.path_text import display_path
from mnv1cli.storage.location import WRITABLE, get_scheme, is_remote
from mnv1cli.system import unpackers
from mnv1cli.system.bounded_reader import BoundedReader, BoundedUnpacker

if TYPE_CHECKING:
    from collections.abc import Callable

    from mnv1cli.inputs.archive import Archive
    from mnv1cli.system.unpackers import Decompressor

# Separates an archive from the name of a file in it.
MEMBER_SEPARATOR = b"!/"
_ZIP, _TAR = b".zip", b".tar"
_PACKED_TAR: dict[bytes, Callable[[], Decompressor]] = {
    b".tar.gz": unpackers.open_gzip, b".tgz": unpackers.open_gzip,
    b".tar.bz2": unpackers.open_bz2, b".tbz2": unpackers.open_bz2, b".tbz": unpackers.open_bz2,
    b".tar.xz": unpackers.open_xz, b".txz": unpackers.open_xz,
    b".tar.zst": unpackers.open_zstd, b".tzst": unpackers.open_zstd,
}  # fmt: skip
_SUFFIXES = (_ZIP, _TAR, *_PACKED_TAR)
# Archives whose places of files stay in memory, and the number of those files.
_MAX_ARCHIVES = 4_096
_MAX_INDEXED = 200_000


def is_archive(path: bytes) -> bool:
    """Return whether a name is that of an archive, and there is a file of this name."""
    return is_archive_name(path) and os.path.isfile(path)


def is_archive_name(path: bytes) -> bool:
    """Return whether a name is that of an archive."""
    return path.lower().endswith(_SUFFIXES)


def split_member(path: bytes) -> tuple[bytes, bytes] | None:
    """Split the path of a file in an archive, as `photos.zip!/a.jpg`, into archive and name.

    Return None for any other path. A file on disk comes before one in an archive, and the
    archive is the first one on the way: `!/` may be part of any name. In a store the name
    decides.
    """
    is_named = is_archive_name if get_scheme(path) in WRITABLE else is_archive
    end = path.find(MEMBER_SEPARATOR)
    if end < 0 or os.path.lexists(path):
        return None
    while end >= 0:
        if is_named(path[:end]):
            name = path[end + len(MEMBER_SEPARATOR) :]
            return path[:end], name.removeprefix(b"./")
        end = path.find(MEMBER_SEPARATOR, end + 1)
    return None


def exists(path: bytes) -> bool:
    """Return whether a path is that of a file on disk, or of any file in an archive on disk."""
    return os.path.lexists(path) or split_member(path) is not None


def join_member(archive: bytes, name: bytes) -> bytes:
    """Return the path under which a file in an archive is reported; the archive's without name."""
    return archive + MEMBER_SEPARATOR + name if name else archive


def open_archive(path: bytes) -> Archive:
    """Return the archive of a kind that its name says; nothing is read yet.

    Raises:
        OptionError: the library for it is not installed.
    """
    lower = path.lower()
    for suffix, open_decompressor in _PACKED_TAR.items():
        if lower.endswith(suffix):
            unpackers.require(open_decompressor, display_path(path))
            return PackedTarArchive(
                path, partial(BoundedUnpacker, open_decompressor=open_decompressor)
            )
    if lower.endswith(_TAR) and is_remote(path):
        # From a store it comes as a stream, without a request for each file.
        return PackedTarArchive(path, BoundedReader)
    return TarArchive(path) if lower.endswith(_TAR) else ZipArchive(path)


class Shelf:
    """The archives that were used last, so that many files of one need one index."""

    def __init__(self) -> None:
        self._archives: OrderedDict[bytes, Archive] = OrderedDict()

    def get(self, path: bytes) -> Archive:
        """Return the archive with this path; raises as `open_archive`."""
        archive = self._archives.get(path)
        if archive is None:
            archive = self._archives[path] = open_archive(path)
            self._shrink()
        self._archives.move_to_end(path)
        return archive

    def close(self) -> None:
        """Close all archives until they are read again."""
        while self._archives:
            self._archives.popitem()[1].close()

    def _shrink(self) -> None:
        """Forget archives; the files that are still to be read keep theirs."""
        indexed = sum(archive.count_indexed() for archive in self._archives.values())
        while len(self._archives) > 1 and (
            len(self._archives) > _MAX_ARCHIVES or indexed > _MAX_INDEXED
        ):
            indexed -= self._archives.popitem(last=False)[1].count_indexed()
