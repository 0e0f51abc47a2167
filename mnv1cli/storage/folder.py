"""A folder whose files appear only when they are complete: on this machine or in a store."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from mnv1cli.errors import OptionError, OutputError, ResultError
from mnv1cli.storage import stores
from mnv1cli.storage.base import MissingError, explain_failure, suggest_remedy
from mnv1cli.storage.location import WRITABLE, get_scheme

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mnv1cli.storage.location import Location

# A file that is being written has a name that every reader of datasets skips.
_HIDDEN = "."
_UNFINISHED = ".unfinished"
# No file takes so long to write: an older unfinished file was left by a killed process.
_LEFT_SECONDS = 24 * 3600


class Folder:
    """The files of a folder on this machine, by name; the folder need not exist yet."""

    def __init__(self, location: Location) -> None:
        self.location = location

    def display_name(self, name: str) -> str:
        """Return the name of a file for messages."""
        return f"{str(self.location).rstrip('/')}/{name}"

    def list_entries(self, below: str = "") -> dict[str, bool]:
        """List the sorted names in it, or in its folder `below`, and whether each is a folder.

        Raises:
            OSError: it cannot be listed.
        """
        try:
            with os.scandir(self._make_path(below)) as entries:
                return dict(sorted((entry.name, entry.is_dir()) for entry in entries))
        except FileNotFoundError:
            return {}

    def exists(self) -> bool:
        """Return whether the folder exists."""
        return os.path.isdir(self._make_path(""))

    def open(self, name: str) -> BinaryIO:
        """Open a file to read at any position."""
        return open(self._make_path(name), "rb")

    def put(self, name: str, data: bytes) -> None:
        """Write a file, which appears only when it is complete and on the disk."""
        path = self._make_path(name)
        folder, last = os.path.split(path)
        if not os.path.isdir(folder):
            os.makedirs(folder, exist_ok=True)
        # A unique name: a task that was given up may still be writing the same file.
        unique = os.urandom(4).hex()
        hidden = os.path.join(folder, f"{_HIDDEN}{last}.{unique}{_UNFINISHED}")
        try:
            with open(hidden, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(hidden, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(hidden)
            raise
        _sync(folder)

    def make(self) -> None:
        """Make the folder, unless it exists."""
        os.makedirs(self._make_path(""), exist_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file, if it still exists."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._make_path(name))

    def check_writable(self) -> None:
        """Check, before any work is done, that files can be written to the folder.

        Raises:
            OSError: they cannot be written.
        """
        path = self._make_path("")
        parent = os.path.dirname(path.rstrip(os.sep)) or os.sep
        if not os.path.isdir(parent):
            raise NotADirectoryError(None, f"there is no folder {parent}")
        existing = path if os.path.lexists(path) else parent
        if os.path.lexists(path) and not os.path.isdir(path):
            raise NotADirectoryError(None, "it is a file")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(None, f"the folder {existing} is read-only")

    def remove_unfinished(self) -> None:
        """Remove unfinished files that processes killed long ago left behind."""
        for name in self.list_entries():
            if name.startswith(_HIDDEN) and name.endswith(_UNFINISHED):
                with contextlib.suppress(OSError):
                    if time.time() - os.stat(self._make_path(name)).st_mtime > _LEFT_SECONDS:
                        os.unlink(self._make_path(name))

    def _make_path(self, name: str) -> str:
        root = os.path.abspath(self.location.text)
        return os.path.join(root, name) if name else root


class _StoreFolder(Folder):
    """The objects of a store below a prefix; each appears only when it is complete."""

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._store: Any = stores.open_store(location.scheme)

    def list_entries(self, below: str = "") -> dict[str, bool]:
        """List the sorted names below the prefix, and whether each has names below it."""
        pages = self._store.list_pages(self._make_uri(f"{below}/" if below else ""), flat=True)
        names = (os.fsdecode(entry.name) for page in pages for entry in page)
        return dict(sorted((name.rstrip("/"), name.endswith("/")) for name in names if name))

    def exists(self) -> bool:
        """Return whether the store has an object below the prefix."""
        return bool(self.list_entries())

    def open(self, name: str) -> BinaryIO:
        """Open an object to read at any position; only what is read is fetched."""
        return cast("BinaryIO", self._store.open(self._make_uri(name)))

    def put(self, name: str, data: bytes) -> None:
        """Write an object."""
        self._store.write(self._make_uri(name), data)

    def remove(self, name: str) -> None:
        """Remove an object, if it still exists."""
        self._store.remove(self._make_uri(name))

    def make(self) -> None:
        """Do nothing: a store has no folders."""

    def check_writable(self) -> None:
        """Check, before any work is done, that objects can be written, by writing one.

        Raises:
            OptionError: the server accepts no objects.
        """
        if self.location.scheme not in WRITABLE:
            raise OptionError(
                f"{self.location.scheme}:// can only be read", "write to a folder, or to a store"
            )
        probe = f".probe-{os.urandom(8).hex()}"
        self.put(probe, b"")
        # Permission to write does not imply permission to remove; the name is hidden.
        with contextlib.suppress(PermissionError):
            self.remove(probe)

    def remove_unfinished(self) -> None:
        """Do nothing: a store shows only complete objects."""

    def _make_uri(self, name: str) -> bytes:
        return os.fsencode(self.display_name(name))


def open_folder(location: Location) -> Folder:
    """Open the folder that a location names.

    Raises:
        OptionError: the scheme is unknown, or its library is not installed.
    """
    return _StoreFolder(location) if location.is_remote else Folder(location)


@contextlib.contextmanager
def explain_read_errors(name: object) -> Iterator[None]:
    """Turn a failure to read `name` into an error of one line.

    Raises:
        ResultError: it cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise ResultError(
            f"cannot read {name}: {explain_failure(error)}", _suggest_remedy(error, name)
        ) from error


@contextlib.contextmanager
def explain_write_errors(name: object) -> Iterator[None]:
    """Turn a failure to write `name` into an error of one line.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        # When a name is written to, only its bucket can be missing.
        missing = isinstance(error, MissingError)
        reason = "no such bucket" if missing else explain_failure(error)
        raise OutputError(f"cannot write {name}: {reason}", _suggest_remedy(error, name)) from error


def _suggest_remedy(error: BaseException, name: object) -> str:
    return suggest_remedy(error, get_scheme(os.fsencode(str(name))))


def _sync(folder: str) -> None:
    """Write the names in a folder to the disk, if the file system supports it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
