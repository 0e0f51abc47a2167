"""Object stores and web servers by the schemes of URIs.

Their library is imported only for a URI: runs without one neither pay for it nor need it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mnv1cli.errors import ImageError, OptionError
from mnv1cli.limits import check_bytes
from mnv1cli.storage.base import MissingError, StoreError, explain_failure
from mnv1cli.storage.location import SCHEMES, WRITABLE, get_scheme
from mnv1cli.types import UNREAD

if TYPE_CHECKING:
    from mnv1cli.storage.base import Bucket, Store

# The extra with the libraries for a scheme.
EXTRAS = {"s3": "s3", "gs": "gs", "az": "az", "http": "http", "https": "http"}

# These name the store; secrets are left out, because each machine has its own.
_STORE_VARIABLES = (
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION",
    "AWS_SKIP_SIGNATURE", "FSSPEC_S3_ANON", "STORAGE_EMULATOR_HOST", "GOOGLE_BASE_URL",
    "GOOGLE_SKIP_SIGNATURE", "FSSPEC_GS_TOKEN", "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "AZURE_SKIP_SIGNATURE",
    "AZURE_STORAGE_USE_EMULATOR",
)  # fmt: skip


def get_store_environment() -> dict[str, str]:
    """Return the environment variables that name the stores, for other machines."""
    return {name: os.environ[name] for name in _STORE_VARIABLES if name in os.environ}


def require_library(scheme: str) -> None:
    """Require the library for a scheme.

    Raises:
        OptionError: the scheme is unknown, or its library is not installed.
    """
    if scheme not in EXTRAS:
        raise OptionError(f"{scheme}:// is not known", f"it is one of {', '.join(SCHEMES)}")
    try:
        import obstore  # noqa: F401

        missing = scheme == "s3" and find_spec("boto3") is None
    except ImportError:
        missing = True
    if missing:
        raise OptionError(
            f"{scheme}:// needs a library that is not installed",
            f"pip install 'mnv1cli[{EXTRAS[scheme]}]'",
        )


@cache
def open_store(scheme: str) -> Store:
    """Open the stores, or the web servers, of a scheme.

    Raises:
        OptionError: as `require_library`.
    """
    if scheme in WRITABLE:
        return open_bucket(scheme)
    require_library(scheme)
    from mnv1cli.storage.web import Web

    return Web()


@cache
def open_bucket(scheme: str) -> Bucket:
    """Open the stores of a scheme that is one of `WRITABLE`.

    Raises:
        OptionError: as `require_library`.
    """
    require_library(scheme)
    from mnv1cli.storage.objects import Objects

    return Objects()


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
        try:
            return open_store(get_scheme(self.uri)).read(self.uri, limit)
        except MissingError as error:
            raise ImageError(explain_failure(error)) from error
        except StoreError as error:
            raise ImageError(f"{UNREAD}: {explain_failure(error)}") from error
