"""Object stores and web servers, through fsspec.

fsspec is imported where a URI is met, so that nobody else pays for it or needs it.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import ImageError, OptionError
from mnv1cli.limits import check_bytes
from mnv1cli.storage.location import SCHEMES, WRITABLE, get_scheme
from mnv1cli.types import UNREAD

if TYPE_CHECKING:
    from mnv1cli.storage.base import Bucket, Failures, Store
    from mnv1cli.storage.location import Location

# The extra that brings what fsspec needs for a scheme.
_EXTRAS = {"s3": "s3", "gs": "gs", "http": "http", "https": "http"}
# How many requests may be under way at once; botocore would let ten of them.
CONNECTIONS = 64
_SILENCE = 30.0
# What s3fs cuts off a name, with all that follows.
_VERSION = "?versionId="

_filesystems: dict[tuple[str, int], Any] = {}
_opening = threading.Lock()


# Which store is meant; no secrets, of which each machine has its own.
_WHEREABOUTS = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "FSSPEC_S3_ANON",
    "STORAGE_EMULATOR_HOST",
)


def get_store_environment() -> dict[str, str]:
    """What this process's environment says of where stores are, for one on another machine."""
    return {name: os.environ[name] for name in _WHEREABOUTS if name in os.environ}


def open_filesystem(scheme: str) -> Any:
    """Fsspec's file system for a scheme, with the credentials of its own environment.

    One for all threads of the process; it remembers no listings.

    Raises:
        OptionError: the scheme is unknown, or its library is not installed.
    """
    if scheme not in _EXTRAS:
        raise OptionError(f"{scheme}:// is not known", f"it is one of {', '.join(SCHEMES)}")
    # A process that was forked has no thread for the connections of its parent.
    key = (scheme, os.getpid())
    with _opening:
        if key not in _filesystems:
            try:
                _filesystems[key] = _opened(scheme)
            except ImportError:
                extra = _EXTRAS[scheme]
                raise OptionError(
                    f"{scheme}:// needs a library that is not installed",
                    f"pip install 'mnv1cli[{extra}]'",
                ) from None
        return _filesystems[key]


def _opened(scheme: str) -> Any:
    import fsspec

    # A listing that is remembered is soon wrong.
    common: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    from aiohttp import ClientTimeout

    wait = ClientTimeout(total=None, sock_connect=_SILENCE, sock_read=_SILENCE)
    if scheme == "s3":
        import s3fs

        # What the environment says of the same stays.
        told = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        settings = {"max_pool_connections": CONNECTIONS, **told}
        return s3fs.S3FileSystem(config_kwargs=settings, **common)
    if scheme == "gs":
        from gcsfs.core import GCSFileSystem

        # Not the class that asks for each bucket's kind first, through another service.
        # It waits for ever otherwise.
        return GCSFileSystem(requests_timeout=wait, **common)
    from fsspec.implementations.http import HTTPFileSystem

    return HTTPFileSystem(client_kwargs={"trust_env": True, "timeout": wait}, **common)


def get_failure_types() -> Failures:
    """What the disk, and the stores that this process has asked, raise where they fail."""
    schemes = {scheme for scheme, _ in tuple(_filesystems)}
    kinds = (kind for scheme in schemes for kind in open_store(scheme).failures)
    return tuple(dict.fromkeys((OSError, *kinds)))


def open_store(scheme: str) -> Store:
    """What to ask of the store, or the server, of a scheme.

    Raises:
        OptionError: as `filesystem`.
    """
    if scheme in WRITABLE:
        return open_bucket(scheme)
    found = open_filesystem(scheme)
    from mnv1cli.storage.web import Web

    return Web(found)


def open_bucket(scheme: str) -> Bucket:
    """What to ask of a store, one of `WRITABLE`.

    Raises:
        OptionError: as `filesystem`.
    """
    found = open_filesystem(scheme)
    from mnv1cli.storage.buckets import S3, GoogleStorage

    return S3(found) if scheme == "s3" else GoogleStorage(found)


def refuse_version(place: Location) -> None:
    """See that results will have the name that was given.

    Raises:
        OptionError: s3fs would take a part of it for another thing, and write another object.
    """
    if place.scheme == "s3" and _VERSION in place.text:
        raise OptionError(f"{place} names a version of an object", f"leave {_VERSION} out")


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """What reads an image in a store: its URI is all that it depends on.

    `size` in bytes and `mtime` in seconds since 1970 are those of a listing.
    """

    uri: bytes
    size: int | None = None
    mtime: float | None = None

    def __call__(self, limit: int) -> bytes:
        """The bytes of the object.

        Raises:
            ImageError: it is not there, cannot be read, or has more bytes than `limit`.
            OptionError: the library for its scheme is not installed.
        """
        if self.size is not None:
            check_bytes(self.size, limit)
        asked = open_store(get_scheme(self.uri))
        try:
            return asked.read(self.uri, limit)
        except asked.failures as error:
            what = explain_failure(error)
            missing = isinstance(error, FileNotFoundError)
            raise ImageError(what if missing else f"{UNREAD}: {what}") from error


# What the libraries raise, by the names of their classes: none is imported for it.
_REASONS = {
    "FileNotFoundError": "no such file",
    "PermissionError": "access denied",
    "NoCredentialsError": "no credentials",
    "PartialCredentialsError": "no credentials",
    "GoogleAuthError": "no credentials",
    "TimeoutError": "no answer in time",
    "HTTPClientError": "no connection",
    "ClientConnectionError": "no connection",
}


def explain_failure(error: BaseException) -> str:
    """Why a store did not do what was asked for, in one line."""
    code = getattr(error, "code", None)
    if code in (401, 403) or str(error).startswith("Forbidden"):
        return "access denied"
    line, _, rest = str(getattr(error, "strerror", None) or error).strip().partition("\n")
    if line.endswith(":"):
        # What was wrong with a name, as botocore tells it, comes in the next one.
        line += " " + rest.partition("\n")[0].strip()
    for kind in type(error).__mro__:
        if known := _REASONS.get(kind.__name__):
            told = line and known == "no connection"
            return f"{known}: {line}" if told else known
    return line or type(error).__name__


# What to do where a store lets nobody in, by its scheme.
CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; "
    "FSSPEC_S3_ANON=true is for public buckets",
    "gs": "run 'gcloud auth application-default login', or set GOOGLE_APPLICATION_CREDENTIALS; "
    "FSSPEC_GS_TOKEN=anon is for public buckets",
}


def suggest_remedy(error: BaseException, scheme: str) -> str:
    """What the user can do about it; empty where there is nothing to say."""
    lacking = explain_failure(error) in ("access denied", "no credentials")
    return CREDENTIALS.get(scheme, "") if lacking else ""
