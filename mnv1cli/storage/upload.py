"""Results for a store: written on this machine first, and uploaded when they are complete."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import Mnv1Error, OptionError, OutputError
from mnv1cli.storage.base import (
    DeniedError,
    ExistsError,
    MissingError,
    StoreError,
    explain_failure,
    suggest_remedy,
)
from mnv1cli.storage.location import WRITABLE, Location
from mnv1cli.storage.stores import open_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

log = logging.getLogger(__name__)


class Delivery:
    """The delivery of a run's main result to its location: a local file, stdout or a store.

    `file` is the path to write: the local file itself, or for a store a file in a temporary
    folder, which is removed when everything is uploaded and kept if something is still in
    it. It is None for stdout.

    Raises:
        OptionError: results cannot be written to such a location.
    """

    def __init__(self, location: Location | None) -> None:
        self.is_remote = location is not None and location.is_remote
        self.file: Path | None = None
        self._folder: Path | None = None
        self._replace = False
        self._location = location
        if location is None or location.is_stdout:
            return
        if not location.is_remote:
            self.file = location.path
            return
        if location.scheme not in WRITABLE:
            schemes = ", ".join(f"{scheme}://" for scheme in WRITABLE)
            raise OptionError(
                f"{location}: results cannot be written there", f"write to {schemes}, or to a file"
            )
        if location.is_folder or location.text.count("/") < 3:
            raise OptionError(f"{location} names a folder", "name a file in it")
        self._store = open_bucket(location.scheme)
        self._folder = Path(tempfile.mkdtemp(prefix="mnv1-results-"))
        self.file = self._folder / location.text.rpartition("/")[2]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            # Files that are still in it are not lost: an error has named the folder.
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    @property
    def name(self) -> str:
        """The location in messages; empty for stdout."""
        return "" if self.file is None else str(self._location)

    @contextlib.contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Replace the temporary file in errors by the location that was given."""
        try:
            yield
        except Mnv1Error as error:
            if self._folder is None:
                raise
            what = error.what.replace(str(self.file), str(self._location))
            raise type(error)(what, error.remedy) from None

    def require_free(self, paths: Sequence[Path], force: bool) -> None:
        """Refuse, before any work is done, results that could not be uploaded at the end.

        Raises:
            OutputError: the bucket does not exist, or an object does and `force` is false.
        """
        self._replace = force
        for uri in self._map_uris(paths).values():
            name = os.fsencode(uri)
            try:
                exists = not force and self._store.look_up(name) is not None
            except DeniedError as error:
                failed = self._make_error(uri, error)
                remedy = f"{failed.remedy}; --force writes without looking"
                raise OutputError(f"{uri}: {explain_failure(error)}", remedy) from error
            except StoreError as error:
                raise self._make_error(uri, error) from error
            if exists:
                raise OutputError(f"{uri} exists", "add --force to replace it")
        try:
            # Permission to write does not imply permission to list the bucket.
            with contextlib.suppress(DeniedError):
                self._store.require_bucket(os.fsencode(str(self._location)))
        except StoreError as error:
            raise self._make_error(str(self._location), error) from error

    def send(self, paths: Sequence[Path]) -> None:
        """Upload everything, the main result last.

        Raises:
            OutputError: a file cannot be uploaded; the error names the folder that holds all files.
        """
        if self._folder is None:
            return
        uris = self._map_uris(paths)
        uri = str(self._location)
        try:
            for path in sorted(uris, key=lambda path: path == self.file):
                uri = uris[path]
                self._store.write(os.fsencode(uri), path, self._replace)
        except StoreError as error:
            failed = self._make_error(uri, error)
            what = f"{failed.what}; the results are in {self._folder}"
            raise OutputError(what, failed.remedy) from error
        except BaseException:
            log.error("the results are in %s", self._folder)
            raise
        shutil.rmtree(self._folder)

    def _map_uris(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Map each file that is written for the store to its URI."""
        base = str(self._location).rpartition("/")[0]
        return {path: f"{base}/{path.name}" for path in paths if path.parent == self._folder}

    def _make_error(self, uri: str, error: StoreError) -> OutputError:
        reason = "no such bucket" if isinstance(error, MissingError) else explain_failure(error)
        remedy = suggest_remedy(error, Location(uri).scheme)
        if isinstance(error, ExistsError):
            reason, remedy = "it exists by now", "copy them there, or add --force next time"
        return OutputError(f"cannot write {uri}: {reason}", remedy)
