"""Object stores and web servers, through fsspec.

fsspec is imported only for a URI: runs without one neither pay for it nor need it.
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

# The extra with the libraries that fsspec needs for a scheme.
EXTRAS = {"s3": "s3", "gs": "gs", "http": "http", "https": "http"}
# The most requests at the same time; botocore would allow ten.
CONNECTIONS = 64
_SILENCE_SECONDS = 30.0
# s3fs cuts this off a name, with everything after it.
_VERSION = "?versionId="

_filesystems: dict[tuple[str, int], Any] = {}
_opening = threading.Lock()


# These name the store; secrets are left out, because each machine has its own.
_STORE_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "FSSPEC_S3_ANON",
    "STORAGE_EMULATOR_HOST",
)


def get_store_environment() -> dict[str, str]:
    """Return the environment variables that name the stores, for other machines."""
    return {name: os.environ[name] for name in _STORE_VARIABLES if name in os.environ}


def open_filesystem(scheme: str) -> Any:
    """Open fsspec's file system for a scheme, with the credentials of its environment.

    All threads of the process share it; it caches no listings.

    Raises:
        OptionError: the scheme is unknown, or its library is not installed.
    """
    if scheme not in EXTRAS:
        raise OptionError(f"{scheme}:// is not known", f"it is one of {', '.join(SCHEMES)}")
    # A forked process has no thread for the connections of its parent.
    key = (scheme, os.getpid())
    with _opening:
        if key not in _filesystems:
            try:
                _filesystems[key] = _make_filesystem(scheme)
            except ImportError:
                extra = EXTRAS[scheme]
                raise OptionError(
                    f"{scheme}:// needs a library that is not installed",
                    f"pip install 'mnv1cli[{extra}]'",
                ) from None
        return _filesystems[key]


def _make_filesystem(scheme: str) -> Any:
    import fsspec

    # A cached listing is soon out of date.
    common: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    from aiohttp import ClientTimeout

    wait = ClientTimeout(total=None, sock_connect=_SILENCE_SECONDS, sock_read=_SILENCE_SECONDS)
    if scheme == "s3":
        import s3fs

        # Settings of the environment take precedence.
        configured = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        settings = {"max_pool_connections": CONNECTIONS, **configured}
        return s3fs.S3FileSystem(config_kwargs=settings, **common)
    if scheme == "gs":
        from gcsfs.core import GCSFileSystem

        # gcsfs's default class first asks a second service for the kind of each bucket.
        # Without a timeout it waits forever.
        return GCSFileSystem(requests_timeout=wait, **common)
    from fsspec.implementations.http import HTTPFileSystem

    return HTTPFileSystem(client_kwargs={"trust_env": True, "timeout": wait}, **common)


def get_failure_types() -> Failures:
    """Return the exceptions of the disk and of the stores that this process has used."""
    schemes = {scheme for scheme, _ in tuple(_filesystems)}
    kinds = (kind for scheme in schemes for kind in open_store(scheme).failures)
    return tuple(dict.fromkeys((OSError, *kinds)))


def open_store(scheme: str) -> Store:
    """Open the store, or the web server, of a scheme.

    Raises:
        OptionError: as `open_filesystem`.
    """
    if scheme in WRITABLE:
        return open_bucket(scheme)
    filesystem = open_filesystem(scheme)
    from mnv1cli.storage.web import Web

    return Web(filesystem)


def open_bucket(scheme: str) -> Bucket:
    """Open a store whose scheme is one of `WRITABLE`.

    Raises:
        OptionError: as `open_filesystem`.
    """
    filesystem = open_filesystem(scheme)
    from mnv1cli.storage.buckets import S3, GoogleStorage

    return S3(filesystem) if scheme == "s3" else GoogleStorage(filesystem)


def refuse_version(location: Location) -> None:
    """Refuse a name that s3fs would write to a different object.

    Raises:
        OptionError: the name contains `?versionId=`.
    """
    if location.scheme == "s3" and _VERSION in location.text:
        raise OptionError(f"{location} names a version of an object", f"leave {_VERSION} out")


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """The reader of an image in a store, which needs only its URI.

    `size` in bytes and `mtime` in seconds since 1970 come from a listing.
    """

    uri: bytes
    size: int | None = None
    mtime: float | None = None

    def __call__(self, limit: int) -> bytes:
        """Read the bytes of the object.

        Raises:
            ImageError: it does not exist, cannot be read, or has more bytes than `limit`.
            OptionError: the library for its scheme is not installed.
        """
        if self.size is not None:
            check_bytes(self.size, limit)
        store = open_store(get_scheme(self.uri))
        try:
            return store.read(self.uri, limit)
        except store.failures as error:
            reason = explain_failure(error)
            missing = isinstance(error, FileNotFoundError)
            raise ImageError(reason if missing else f"{UNREAD}: {reason}") from error


# The exceptions of the libraries by class name, so that no library is imported for this.
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
    """Return the reason why a store failed, in one line."""
    code = getattr(error, "code", None)
    if code in (401, 403) or str(error).startswith("Forbidden"):
        return "access denied"
    line, _, further = str(getattr(error, "strerror", None) or error).strip().partition("\n")
    if line.endswith(":"):
        # botocore explains what is wrong with a name in the next line.
        line += " " + further.partition("\n")[0].strip()
    for kind in type(error).__mro__:
        if reason := _REASONS.get(kind.__name__):
            return f"{reason}: {line}" if line and reason == "no connection" else reason
    return line or type(error).__name__


# The remedy if a store denies access, by its scheme.
CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; "
    "FSSPEC_S3_ANON=true is for public buckets",
    "gs": "run 'gcloud auth application-default login', or set GOOGLE_APPLICATION_CREDENTIALS; "
    "FSSPEC_GS_TOKEN=anon is for public buckets",
}


def suggest_remedy(error: BaseException, scheme: str) -> str:
    """Return what the user can do about a failure; empty if there is no remedy."""
    lacking = explain_failure(error) in ("access denied", "no credentials")
    return CREDENTIALS.get(scheme, "") if lacking else ""
