"""The protocol of stores, and their failures: every one is an OSError of one line."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from mnv1cli.errors import first_line
from mnv1cli.path_text import display_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

T = TypeVar("T")

# The bytes that are read at once of an object that is read as a file.
BUFFER_BYTES = 256 << 10
# A connection that breaks off in the middle of an object is tried again.
_ATTEMPTS = 3
_PAUSE_SECONDS = 0.3


class Entry(NamedTuple):
    """An object as a store describes it.

    `name` is the part after the prefix that was listed, `size` the length in bytes,
    `mtime` the time of the last change in seconds since 1970. What the store does
    not report is None.
    """

    name: bytes
    size: int | None = None
    mtime: float | None = None


class StoreError(OSError):
    """A failure of a store; `strerror` is the reason, in one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(0, reason)


class MissingError(StoreError, FileNotFoundError):
    """An object, a page or a bucket that does not exist."""


class DeniedError(StoreError, PermissionError):
    """An access that the store denies, or for which there are no credentials."""


class ExistsError(StoreError, FileExistsError):
    """An object that exists and was to be created."""


class BrokenOffError(StoreError):
    """A transfer that ended before all bytes had arrived."""


class BadKeyError(StoreError):
    """A key that cannot be read; a listing ends at it."""


class NoLengthError(StoreError):
    """An answer that does not state how many bytes follow."""


class Store(Protocol):
    """A store of objects, or a web server, whose objects can be read.

    Raises:
        StoreError: (all methods) the store fails: MissingError, DeniedError ...
    """

    def look_up(self, uri: bytes) -> Entry | None:
        """Return the object with this URI; None if it does not exist."""
        ...

    def list_pages(self, uri: bytes, flat: bool = False) -> Iterator[list[Entry]]:
        """Yield the objects whose URIs begin with `uri`, page by page.

        With `flat` objects in deeper folders are left out; in their place comes each folder,
        with a slash at the end of its name.
        """
        ...

    def read(self, uri: bytes, limit: int) -> bytes:
        """Read an object.

        Raises:
            ImageError: it has more than `limit` bytes.
        """
        ...

    def open(self, uri: bytes, buffer: int = BUFFER_BYTES) -> BinaryIO:
        """Open an object to read at any position, `buffer` bytes at least in each request."""
        ...


class Bucket(Store, Protocol):
    """A store that objects can also be written to."""

    def require_bucket(self, uri: bytes) -> None:
        """Raise a `StoreError` unless the bucket of `uri` exists and can be listed."""
        ...

    def read_range(self, uri: bytes, start: int, length: int) -> bytes:
        """Read `length` bytes of an object from `start` on, fewer where it ends."""
        ...

    def write(self, uri: bytes, data: bytes | Path, replace: bool = True) -> None:
        """Store bytes, or a file, as the object `uri`.

        Raises:
            ExistsError: the object exists, and `replace` is false.
        """
        ...

    def remove(self, uri: bytes) -> None:
        """Remove an object, if it still exists."""
        ...


def retry_broken(read: Callable[[], T]) -> T:
    """Return the result of `read`, which is called again if the transfer breaks off.

    Raises:
        BrokenOffError: the last of three attempts broke off as well.
    """
    for attempt in range(1, _ATTEMPTS):
        try:
            return read()
        except BrokenOffError:
            time.sleep(_PAUSE_SECONDS * attempt)
    return read()


# obstore explains a failure in a text, with what its own libraries say at the end of it.
_KINDS: tuple[tuple[str, type[StoreError], str], ...] = (
    (
        r"169\.254\.169\.254|token request|redential provider|Account must be",
        DeniedError,
        "no credentials",
    ),
    (r"^AlreadyExists|status code: 412", ExistsError, "it exists"),
    (r"^PermissionDenied|^Unauthenticated|status code: 40[13]", DeniedError, "access denied"),
    (r"^FileNotFound|status code: (404|410)", MissingError, "no such file"),
    (r"MissingContentLength", NoLengthError, "the server does not say how long it is"),
    (r"TimedOut", StoreError, "no answer in time"),
    (r"kind: (Interrupted|Decode)", BrokenOffError, "the transfer broke off"),
)
_BAD_KEY = re.compile(r'[Pp]ath "(.*?)"(?: contained|: )', re.DOTALL)
_STATUS = re.compile(r"status code: ([^:\n]+)(?:.*?<Code>(\w+)</Code>)?", re.DOTALL)
_CAUSE = re.compile(r'kind: Connect.*(?:message|error): "([^"]+)"', re.DOTALL)


def translate(error: Exception) -> StoreError:
    """Translate an exception of obstore into one of this module."""
    text = f"{type(error).__name__}: {error}"
    for mark, kind, reason in _KINDS:
        if re.search(mark, text):
            return kind(reason)
    if match := _BAD_KEY.search(text):
        return make_key_error(match[1])
    if match := _STATUS.search(text):
        status, code = match.groups()
        return StoreError(f"the server says {status.strip()}{f': {code}' if code else ''}")
    if match := _CAUSE.search(text):
        return StoreError(f"no connection: {match[1]}")
    return StoreError(first_line(error))


def make_key_error(key: str) -> BadKeyError:
    """Make the error of a key that obstore does not take."""
    shown = display_path(key.encode("utf-8", "surrogateescape"))
    return BadKeyError(
        f"the key {shown} has an empty part, '.', '..' or a control character in it; rename it"
    )


def explain_failure(error: BaseException) -> str:
    """Return the reason why a file or a store failed, in one line."""
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__


# The remedy if a store denies access, by its scheme.
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; "
    "AWS_SKIP_SIGNATURE=true is for public buckets",
    "gs": "run 'gcloud auth application-default login', or set GOOGLE_APPLICATION_CREDENTIALS; "
    "GOOGLE_SKIP_SIGNATURE=true is for public buckets",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or a SAS token; "
    "AZURE_SKIP_SIGNATURE=true is for public containers",
}


def suggest_remedy(error: BaseException, scheme: str) -> str:
    """Return what the user can do about a failure; empty if there is no remedy."""
    return _CREDENTIALS.get(scheme, "") if isinstance(error, PermissionError) else ""
