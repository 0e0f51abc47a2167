"""Object stores and web servers, through fsspec and pyarrow's file systems.

fsspec is imported where a URI is met, so that nobody else pays for it or needs it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mnv1cli.errors import OptionError

if TYPE_CHECKING:
    from mnv1cli.places import Place

# The extra that brings what fsspec needs for a scheme.
_EXTRAS = {"s3": "s3", "gs": "gs", "http": "http", "https": "http"}
SCHEMES = tuple(_EXTRAS)


def filesystem(scheme: str) -> Any:
    """Fsspec's file system for a scheme, with the credentials of its own environment.

    Raises:
        OptionError: the scheme is unknown, or its library is not installed.
    """
    if scheme not in _EXTRAS:
        raise OptionError(f"{scheme}:// is not known", f"it is one of {', '.join(SCHEMES)}")
    try:
        import fsspec

        return fsspec.filesystem(scheme)
    except ImportError:
        extra = _EXTRAS[scheme]
        raise OptionError(
            f"{scheme}:// needs a library that is not installed", f"pip install 'mnv1cli[{extra}]'"
        ) from None


def arrow_filesystem(place: Place) -> tuple[Any, str]:
    """Pyarrow's file system for a place, and the place's path in it.

    Raises:
        OptionError: pyarrow, or what the scheme needs, is not installed.
    """
    try:
        from pyarrow import fs
    except ImportError:
        raise OptionError("parquet needs pyarrow", "pip install 'mnv1cli[parquet]'") from None
    if not place.is_remote:
        return fs.LocalFileSystem(), os.path.abspath(place.text)
    found = filesystem(place.scheme)
    root = found._strip_protocol(place.text.rstrip("/"))
    handler: Any = fs.FSSpecHandler
    return fs.PyFileSystem(handler(found)), root
