"""Lists of paths: files with one path per line, or with paths that end with NUL."""

from __future__ import annotations

import codecs
import itertools
import os
from typing import TYPE_CHECKING, BinaryIO

from mnv1cli.errors import OptionError
from mnv1cli.storage.location import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 16


def read_paths(file: BinaryIO, name: str, null: bool) -> Iterator[bytes]:
    """Read the paths in a list called `name`, as they arrive; with `null` they end with NUL.

    Raises:
        OptionError: the list has NUL bytes, and `null` is false.
    """
    for record in _strip_mark(_read_records(file, b"\0" if null else b"\n")):
        if b"\0" in record:
            raise OptionError(
                f"the list {name} has NUL bytes",
                "add -0 if they end its paths; else it is no list of paths in UTF-8",
            )
        path = record if null else _strip_return(record)
        if path:
            yield path


def _read_records(file: BinaryIO, separator: bytes) -> Iterator[bytes]:
    """Yield the non-empty records of a file as they arrive: a slow writer must not delay them."""
    read = getattr(file, "read1", file.read)
    tail = b""
    while chunk := read(_CHUNK):
        *records, tail = (tail + chunk).split(separator)
        yield from filter(None, records)
    if tail:
        yield tail


def _strip_mark(records: Iterator[bytes]) -> Iterator[bytes]:
    """Remove the byte order mark of a list from Windows, unless a name begins with it."""
    for first in itertools.islice(records, 1):
        bare = first.removeprefix(codecs.BOM_UTF8)
        yield first if os.path.lexists(first) else bare
    yield from records


def _strip_return(path: bytes) -> bytes:
    """Remove the carriage return of a list from Windows, unless it belongs to the name."""
    bare = path.removesuffix(b"\r")
    if bare == path or os.path.lexists(path):
        return path
    if is_remote(bare):
        return bare
    return bare if not bare or os.path.lexists(bare) else path
