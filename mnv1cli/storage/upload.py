"""Results for a store: written on this machine as ever, and stored when they are complete."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mnv1cli.errors import Mnv1Error, OptionError, OutputError
from mnv1cli.storage.location import WRITABLE, Location
from mnv1cli.storage.stores import explain_failure, open_bucket, refuse_version, suggest_remedy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

log = logging.getLogger(__name__)


class Delivery:
    """Where the main result of a run is written to, and what becomes of it when it is complete.

    `file` is the place's own path; for a place in a store one in a folder that
    goes when everything is stored, and stays where something is in it still;
    None for stdout.

    Raises:
        OptionError: nothing can be written to such a place.
    """

    def __init__(self, place: Location | None) -> None:
        self.is_remote = place is not None and place.is_remote
        self.file: Path | None = None
        self._folder: Path | None = None
        self._place = place
        if place is None or place.is_stdout:
            return
        if not place.is_remote:
            self.file = place.path
            return
        if place.scheme not in WRITABLE:
            known = " and ".join(f"{scheme}://" for scheme in WRITABLE)
            raise OptionError(f"{place}: results cannot be written there", f"they can to {known}")
        if place.is_folder or place.text.count("/") < 3:
            raise OptionError(f"{place} names a folder", "name a file in it")
        refuse_version(place)
        self._store = open_bucket(place.scheme)
        self._folder = Path(tempfile.mkdtemp(prefix="mnv1-results-"))
        self.file = self._folder / place.text.rpartition("/")[2]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            # What is in it is not lost: whoever left it there has told of it.
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    @property
    def name(self) -> str:
        """The place for messages; empty for stdout."""
        return "" if self.file is None else str(self._place)

    @contextlib.contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Let errors about the file speak of the place that was given."""
        try:
            yield
        except Mnv1Error as error:
            if self._folder is None:
                raise
            what = error.what.replace(str(self.file), str(self._place))
            raise type(error)(what, error.remedy) from None

    def require_free(self, named: Sequence[Path], force: bool) -> None:
        """Refuse what could not be stored at the end, before any work is done.

        Raises:
            OutputError: the bucket is not there, or an object is and there is no `force`.
        """
        for place in self._places(named).values():
            self._require_free(place, force)

    def _require_free(self, place: str, force: bool) -> None:
        uri = place.encode("utf-8", "surrogateescape")
        try:
            there = False if force else self._is_there(place, uri)
            self._require_bucket(uri)
        except self._store.failures as error:
            raise self._failed(place, error) from error
        if there:
            raise OutputError(f"{place} exists", "add --force to replace it")

    def _is_there(self, place: str, uri: bytes) -> bool:
        try:
            return self._store.look_up(uri) is not None
        except PermissionError as error:
            remedies = (
                f"{suggest_remedy(error, Location(place).scheme)}; --force writes without looking"
            )
            raise OutputError(f"{place}: access denied", remedies) from error

    def _require_bucket(self, uri: bytes) -> None:
        try:
            self._store.require_bucket(uri)
        except PermissionError:
            # Whoever may write need not be allowed to see the bucket itself.
            return

    def send(self, named: Sequence[Path]) -> None:
        """Store everything, the main result last.

        Raises:
            OutputError: something cannot be stored; all of it lies where the error says.
        """
        if self._folder is None:
            return
        places = self._places(named)
        place = str(self._place)
        try:
            for path in sorted(places, key=lambda path: path == self.file):
                place = places[path]
                self._store.write(place.encode("utf-8", "surrogateescape"), path)
        except self._store.failures as error:
            failed = self._failed(place, error)
            what = f"{failed.what}; the results are in {self._folder}"
            raise OutputError(what, failed.remedy) from error
        except BaseException:
            log.error("the results are in %s", self._folder)
            raise
        shutil.rmtree(self._folder)

    def _places(self, named: Sequence[Path]) -> dict[Path, str]:
        """Where each file goes that is written for the store."""
        base = str(self._place).rpartition("/")[0]
        return {path: f"{base}/{path.name}" for path in named if path.parent == self._folder}

    def _failed(self, place: str, error: BaseException) -> OutputError:
        missing = isinstance(error, FileNotFoundError)
        what = "no such bucket" if missing else explain_failure(error)
        return OutputError(
            f"cannot write {place}: {what}", suggest_remedy(error, Location(place).scheme)
        )
