"""The limits of what an archive may unpack to, and of where its members may be written."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import IO

from mnv1cli.errors import ModuleError

_MAX_DEPTH = 32

# Errors of the disk, as opposed to those of a name in the archive.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


class Bounds:
    """The bounds of an archive that is being unpacked; sizes are in bytes."""

    def __init__(self, archive: Path, max_members: int, max_bytes: int) -> None:
        self._archive = archive
        self._max_members = max_members
        self._max_bytes = max_bytes
        self._total = self._members = 0
        self._places: set[Path] = set()

    def check_name(self, name: str) -> Path:
        """Return a member's path relative to the archive.

        Raises:
            ModuleError: it is outside of the archive, or too deep.
        """
        relative = Path(name)
        if relative.is_absolute() or ".." in relative.parts or "\0" in name:
            raise self.refuse(name, "is outside of it")
        if len(relative.parts) > _MAX_DEPTH:
            raise self.refuse(name, "is too deep")
        return relative

    def count_member(self, relative: Path, size: int) -> None:
        """Count a member, with the folders on the way to it except the root.

        Raises:
            ModuleError: the archive has too many, or unpacks to too much.
        """
        self._members += 1
        self._places.update((relative, *relative.parents))
        self.count_bytes(size)

    def count_bytes(self, size: int) -> None:
        """Count bytes that an archive unpacks to.

        Raises:
            ModuleError: these are too many.
        """
        self._total += size
        members = max(self._members, len(self._places) - 1)
        if self._total > self._max_bytes or members > self._max_members:
            raise ModuleError(
                f"{self._archive} is refused: it unpacks to more than "
                f"{self._max_bytes >> 20:,} MB or {self._max_members:,} files"
            )

    def refuse(self, name: str, fault: str) -> ModuleError:
        """Return the error that refuses an archive because of a member."""
        name = name if len(name) < 200 else f"{name[:200]}..."
        return ModuleError(f"{self._archive} is refused: {name!r} {fault}")

    def make_folder(self, target: Path, name: str) -> None:
        """Make a folder and those above it.

        Raises:
            ModuleError: its name cannot be created.
            OSError: the disk cannot be written.
        """
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._blame(error, name) from error

    def create_file(self, target: Path, name: str) -> IO[bytes]:
        """Open a new file for writing, in a folder that is made first.

        Raises:
            ModuleError: its name cannot be created, or exists.
            OSError: the disk cannot be written.
        """
        self.make_folder(target.parent, name)
        try:
            return target.open("xb")
        except OSError as error:
            raise self._blame(error, name) from error

    def _blame(self, error: OSError, name: str) -> Exception:
        """Return the error itself if it is the disk's, else one that blames the archive."""
        if error.errno in _DISK_ERRORS:
            return error
        return self.refuse(name, f"cannot be created ({error.strerror})")
